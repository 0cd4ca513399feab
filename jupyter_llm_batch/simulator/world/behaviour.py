"""The switches: how the simulator answers, fails and hurries."""

from __future__ import annotations

from typing import Any

import msgspec


class Behaviour(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What a person or a test may set, by the command line or ``POST /_sim/behave``.

    Rates are shares of rows between 0 and 1. They are drawn from the seed, the prompt and how
    often that prompt was run, so a repetition of the same steps meets the same fate and a retry
    of a failed row is a fresh draw.
    """

    #: Life of a new batch from creation to its end; 0 means done at the first poll.
    seconds: float = 1.0
    #: Rows refused by the endpoint with a 4xx.
    fail_rate: float = 0.0
    #: Rows answered with a 5xx.
    server_error_rate: float = 0.0
    #: Rows of a batch that end as expired although the batch completes.
    expire_rate: float = 0.0
    #: Rows whose answer is a refusal of the model.
    refuse_rate: float = 0.0
    #: Rows that are run and billed and then appear in no result.
    missing_rate: float = 0.0
    #: How the next batch ends, used up by it: ``completed``, ``failed:CODE``, ``expired`` or
    #: ``cancelled``, the last two with the share of rows done before (``expired:0.25``).
    next_outcome: str = ""
    #: While true, no batch gets any further.
    stuck: bool = False
    #: A state name that running batches show instead of their own.
    unknown_state: str = ""
    #: Whether Gemini's jobs with failed rows end as partially succeeded.
    partial_state: bool = False
    #: Most seconds that Anthropic's polls of unfinished batches ask to wait; none when 0.
    anthropic_retry_after: int = 10
    #: Result lines with ids that nobody sent, added to each batch that ends.
    extra_rows: int = 0
    #: Seed of the rates and of the order of the results.
    seed: int = 0
    #: Age at which a new batch begins to show in listings, in seconds.
    listing_delay: float = 0.0
    #: Most rows in a batch; the provider's own limit when null.
    max_rows: int | None = None
    #: Most embedding inputs in a batch.
    max_inputs: int = 50_000
    #: Largest file that a batch may be made of.
    max_file_bytes: int = 200 * 1024 * 1024
    #: Requests that the endpoints that answer at once take per window; no limit when null.
    rate_limit: int | None = None
    #: Length of that window in seconds.
    rate_seconds: float = 60.0
    #: Seconds that an answer in real time takes, after it was billed.
    realtime_seconds: float = 0.0
    #: Prompt tokens that may be queued per model; no limit when null.
    enqueued_token_limit: int | None = None

    def changed(self, switches: dict[str, Any]) -> Behaviour:
        """Return a copy with some switches set; ``ValueError`` names a wrong one."""
        try:
            new = msgspec.convert(msgspec.structs.asdict(self) | switches, Behaviour)
        except msgspec.ValidationError as error:
            raise ValueError(str(error)) from error
        parse_outcome(new.next_outcome)
        return new


def parse_outcome(text: str) -> tuple[str, str]:
    """Split ``failed:CODE`` or ``expired:SHARE`` into its two parts, with defaults."""
    name, _, detail = text.partition(":")
    if name in ("", "completed"):
        return "completed", ""
    if name == "failed" and detail:
        return name, detail
    if name in ("expired", "cancelled"):
        share = float(detail or 0.5)
        if 0 <= share <= 1:
            return name, str(share)
    message = f"next_outcome {text!r} is none of completed, failed:CODE, expired, cancelled"
    raise ValueError(message)
