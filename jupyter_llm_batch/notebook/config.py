"""``%config LLMBatch``: the defaults, which may also stand in an IPython profile."""

from __future__ import annotations

from typing import Any

from traitlets import Bool, Dict, Float, Integer, List, TraitError, Unicode, validate
from traitlets.config import Configurable

from ..core.errors import UsageProblem
from ..core.settings import Settings, absolute_path


class LLMBatch(Configurable):
    """Defaults of jupyter_llm_batch, in effect with the next cell.

    `data_dir`, `poll_seconds` and `at_once` take effect with ``%reload_ext jupyter_llm_batch``.
    """

    model = Unicode("", help="PROVIDER:MODEL used when a cell names none").tag(config=True)
    data_dir = Unicode(
        "",
        help="folder of journal and payloads (after %reload_ext jupyter_llm_batch); default: in "
        "Jupyter's data folder",
    ).tag(config=True)
    poll_seconds = Float(
        30.0,
        min=1.0,
        help="shortest interval between two looks at a job, Refresh aside (after %reload_ext "
        "jupyter_llm_batch)",
    ).tag(config=True)
    max_tokens = Integer(0, min=0, help="most output tokens per answer; 0: the provider's").tag(
        config=True
    )
    at_once = Integer(
        64,
        min=1,
        help="most requests under way at once in real time (after %reload_ext jupyter_llm_batch)",
    ).tag(config=True)
    retry = Integer(2, min=0, help="rounds of automatic retry for rows not billed").tag(config=True)

    reask = Integer(0, min=0, help="rounds for rows that may have been billed").tag(config=True)

    notify = Unicode(
        "", help="how to tell that a batch is done: desktop, a URL, or a command line"
    ).tag(config=True)
    delete_uploads = Bool(
        False, help="delete files at the provider when all answers are collected"
    ).tag(config=True)
    keep_days = Float(
        0.0, min=0.0, help="forget ended batches of this notebook after so many days; 0: never"
    ).tag(config=True)
    servers = Dict(
        key_trait=Unicode(),
        value_trait=Unicode(),
        help="OpenAI-compatible servers: {'groq': 'https://.../v1'} makes groq:MODEL usable with "
        "the key in GROQ_API_KEY",
    ).tag(config=True)
    media_folders = List(
        Unicode(), help="folders besides the notebook's whose files rows may name (--image, --file)"
    ).tag(config=True)
    monthly_budget = Float(
        None,
        min=0.0,
        allow_none=True,
        help="USD that all batches may cost in a calendar month; nothing over it is sent",
    ).tag(config=True)
    prices = Dict(
        help="prices of your own, in USD per million tokens: "
        "{'openai:my-model': {'input': 0.3, 'output': 1.0}}; also cached, cache_write, "
        "cache_write_1h, and each with batch_ before it (a batch costs half by default)"
    ).tag(config=True)
    discounts = Dict(
        help="shares taken off the list prices: {'openai': 0.1} or {'openai:gpt-5-mini': 0.25}"
    ).tag(config=True)

    @validate("data_dir")
    def _resolved(self, proposal: Any) -> str:
        """Take a relative folder as it is meant now: the working folder may change later."""
        return absolute_path(proposal["value"])

    @validate("prices", "discounts")
    def _readable(self, proposal: dict[str, Any]) -> Any:
        """Refuse prices and discounts that cannot be read, as soon as they are set."""
        from ..costs.prices import PriceBook

        try:
            PriceBook(
                **{"own" if proposal["trait"].name == "prices" else "discounts": proposal["value"]}
            )
        except UsageProblem as problem:
            raise TraitError(str(problem)) from None
        return proposal["value"]

    def settings(self) -> Settings:
        """Return the present values."""
        return Settings(
            model=self.model,
            data_dir=self.data_dir,
            poll_seconds=self.poll_seconds,
            max_tokens=self.max_tokens or None,
            at_once=self.at_once,
            retry=self.retry,
            reask=self.reask,
            notify=self.notify,
            delete_uploads=self.delete_uploads,
            keep_days=self.keep_days,
            servers=dict(self.servers),
            media_folders=tuple(self.media_folders),
            monthly_budget=self.monthly_budget,
            prices=self.prices,
            discounts=self.discounts,
        )
