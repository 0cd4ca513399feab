"""The options of a cell as Python arguments, and their checks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from os import PathLike
from typing import Any, TypedDict

from ..core.errors import UsageProblem

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


class Options(TypedDict, total=False):
    """The options of `Client.submit`, each with the meaning of the magic's option of that name.

    ``--wait`` is `session.submit`'s `wait`, ``--dry-run`` is `session.preview`, ``--add`` is
    `session.add`, and of ``--system-from`` the variable itself is `system`.

    Attributes
    ----------
    over
        Rows: a frame, series, list, dict or iterable. Without it the text is one prompt.
    model
        ``provider:model``, or a well-known model name; `Settings.model` by default.
    route
        Names the model of each row: a column's name, a function of the row, or a list of names.
        Rows for which it gives None are asked of `model`. A frame gets a column ``model``, or
        ``answer_model`` where the input has a column, or `schema` a field, of that name.
    system
        System prompt.
    max_tokens
        Upper bound of output tokens per answer.
    params
        Further request parameters, passed on as they are; one written as ``provider:name`` goes
        to that provider only.
    endpoint
        ``"chat"`` (default), ``"responses"``, ``"embeddings"`` or a provider's path.
    embed
        Short for ``endpoint="embeddings"``.
    schema
        Structured output: a pydantic model, dataclass, TypedDict or JSON schema that every
        answer follows. A frame gets its fields as columns, other input gets objects. Beside a
        field ``error`` or ``finish_reason`` the answers' own column of that name is called
        ``answer_error`` or ``answer_finish_reason``.
    cache
        ``"5m"`` or ``"1h"`` (True means ``"1h"``): have what all prompts share cached. Gemini
        keeps a long system prompt until the job is over, where that costs less than it saves.
    raw
        The items of `over` are request bodies.
    split
        The text holds several prompts divided by lines of ``---``.
    skip_null
        Leave out rows with an empty cell instead of refusing them.
    dedupe
        Ask equal prompts once; their rows share the answer.
    reuse
        Names of other batches (of any notebook) whose paid answers may be taken.
    column
        Name of the answer column of a frame.
    image, file
        Columns whose values go beside the text: paths, URLs, bytes, PIL images, ids of files that
        the provider keeps, or lists of these. A name that is no field is a variable; of plain
        lists it is ``"item"``.
    media_folder
        Folders besides the present one whose files rows may name in `image` and `file`, together
        with `Settings.media_folders`. Variables, bytes and URLs are taken from anywhere.
    retry
        Rounds of automatic retry for rows that were not billed.
    reask
        Rounds for rows that may have been billed: answers that break the schema, were cut off or
        never came back; 0 by default.
    notify
        Tell, once, when it is done: ``desktop``, a URL that gets a small JSON object, or a
        command line; ``off`` for nothing. `Settings.notify` by default.
    resubmit
        Pay again although this was submitted before.
    confirm
        Go ahead although something is asked before sending: another batch has, or will have,
        answers to these prompts, or a model's name looks misspelt. ``--yes`` of a cell.
    realtime
        Ask at once through the ordinary endpoints, at full price, while this process runs.
    sample
        Ask so many rows in real time first; the others wait for `BatchHandle.send_rest`.
    random
        The sample is chosen at random instead of from the beginning.
    deadline
        Seconds, or a text like ``"6h"``: what is not back by then is cancelled at the provider
        and finished in real time.
    deadline_max_cost
        Finish so only if it costs no more than this (USD); else ask.
    base_url
        Address of an OpenAI-compatible server, such as ``http://localhost:11434/v1``, that has
        the model; one without batches takes ``realtime``.
    max_cost
        USD; nothing is sent when the batch may cost more, re-asking included, or when nothing
        bounds its cost.
    namespace
        Names that the template sees besides the row's fields.
    """

    over: Any
    model: str
    route: Any
    system: str | None
    max_tokens: int | None
    params: Mapping[str, Any] | None
    endpoint: str
    embed: bool
    schema: Any
    cache: str | bool | None
    raw: bool
    split: bool
    skip_null: bool
    dedupe: bool
    reuse: str | Iterable[str] | None
    column: str
    image: str | Iterable[str]
    file: str | Iterable[str]
    media_folder: str | PathLike[str] | Iterable[str | PathLike[str]]
    retry: int | None
    reask: int | None
    notify: str | None
    resubmit: bool
    confirm: bool
    realtime: bool
    sample: int | None
    random: bool
    deadline: str | float | None
    deadline_max_cost: float | None
    max_cost: float | None
    base_url: str | None
    namespace: Mapping[str, Any] | None


#: What a cell has as an option and Python in another place.
_ELSEWHERE = {
    "wait": "jupyter_llm_batch.submit(..., wait=True), or .wait() on what a client returns",
    "dry_run": "jupyter_llm_batch.preview(...) shows what would be sent, and its cost",
    "count": "jupyter_llm_batch.preview(..., count=N)",
    "yes": "confirm=True",
    "add": "jupyter_llm_batch.add(...) collects, submit_draft(name) sends",
    "system_from": "system=VARIABLE",
    "param": "params={'name': value}",
    "as": "column='name'",
}


def check(options: Mapping[str, Any]) -> None:
    """Raise `UsageProblem` for an option that there is not."""
    for name in options.keys() - Options.__annotations__.keys():
        near = get_close_matches(name, Options.__annotations__, n=1)
        hint = f": did you mean {near[0]!r}?" if near else ""
        if name in _ELSEWHERE:
            hint = f": write {_ELSEWHERE[name]}"
        raise UsageProblem(f"there is no option {name!r}{hint}")


def span(text: str | float, option: str) -> float:
    """Return the seconds of ``90m``, ``6h``, ``1d`` or a number of seconds, given as `option`."""
    said = text
    if isinstance(text, str):
        number, unit = text[:-1], text[-1:]
        if unit not in _UNITS:
            number, unit = text, "s"
        try:
            text = float(number) * _UNITS[unit]
        except ValueError:
            text = 0.0
    if not 0 < text < 1e9:
        raise UsageProblem(f"{option} {said}: give a time such as 90m, 6h or 1d")
    return text
