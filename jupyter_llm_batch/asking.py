"""What the options of a cell mean: names, values and rows in, one checked `Ask` out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from os import PathLike
from typing import Any, TypedDict

from . import answers, frames, media, notify, prompts, providers, routing, schemas
from .earlier import HASH
from .errors import UsageProblem
from .models import Content, Recipe, Rows, Shape
from .providers.base import Adapter
from .settings import Settings
from .spool import CACHED_FROM, Lanes
from .submission import Ask
from .wording import many

#: What ``--cache`` alone means: a batch takes longer than five minutes.
CACHE = "1h"

#: A place for a value, as the cell's text may have it.
_PLACE = re.compile(r"\{\{[^{}]+\}\}")

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


def ask(
    text: str | None,
    name: str,
    options: Options,
    settings: Settings,
    servers: Mapping[str, str] | None = None,
) -> Ask:
    """Read and check the options of a batch.

    Parameters
    ----------
    servers
        OpenAI-compatible servers by name; those of the settings by default.

    Raises
    ------
    UsageProblem
        One of them must be changed first.
    """
    check(options)
    known = settings.servers if servers is None else servers
    model = options.get("model") or settings.model
    route = options.get("route")
    if not model and route is None:
        raise UsageProblem(
            "no model: add --model PROVIDER:MODEL, or set a default with "
            "%config LLMBatch.model = 'PROVIDER:MODEL'"
        )
    raw, column = options.get("raw", False), options.get("column", "answer")
    namespace = options.get("namespace") or {}
    endpoint = _endpoint(options)
    max_tokens = options.get("max_tokens")
    if max_tokens is None and endpoint != "embeddings" and not raw:
        max_tokens = settings.max_tokens
    wanted = _media(options, settings)
    contents, rows, shape, note, prefix = _contents(text, options, raw, column, namespace, wanted)
    if route is not None and rows is None:
        raise UsageProblem("--route chooses a model for each row: it needs --over ROWS")
    cache = _cache(options)
    system = options.get("system")
    if cache is None:
        prefix = ""
    elif len(system or "") + len(prefix) < CACHED_FROM:
        note = note or (
            f"the prompts share about {many((len(system or '') + len(prefix)) // 4, 'token')}, and "
            "providers cache from about 1,024 on: --cache will hardly help"
        )
    if system and (placed := _PLACE.search(system)):
        unfilled = (
            f"the system prompt is sent as it is, and {placed[0]} in it is not filled in: move it "
            "into the cell's text"
        )
        note = "; ".join(filter(None, (note, unfilled)))
    described, title = (None, "")
    if options.get("schema") is not None:
        if endpoint == "embeddings":
            option = "--embed" if options.get("embed") else "--endpoint embeddings"
            raise UsageProblem(f"--schema is for answers, {option} for vectors: leave one out")
        described, title = schemas.read(options["schema"])
        _check_fields(described, shape)
    if renamed := _renamed(shape, described, routed=route is not None):
        note = "; ".join(filter(None, (note, renamed)))
    retry, reask = options.get("retry"), options.get("reask")
    told = options.get("notify")
    return Ask(
        name=name,
        contents=contents,
        rows=rows,
        shape=shape,
        template=text or "",
        note=note,
        recipe=Recipe(
            endpoint=endpoint,
            system=system,
            max_tokens=max_tokens,
            params=_params(options),
            raw=raw,
            schema=described,
            schema_name=title,
            cache=cache,
            prefix=prefix,
        ),
        model=providers.qualify(model, known) if model else "",
        models=None if route is None or rows is None else routing.models(route, rows),
        retries=settings.retry if retry is None else retry,
        reasks=settings.reask if reask is None else reask,
        notify=notify.check(settings.notify if told is None else told),
        delete_uploads=settings.delete_uploads,
        dedupe=options.get("dedupe", False),
        max_cost=options.get("max_cost"),
        kind=options.get("schema"),
        realtime=options.get("realtime", False),
        sample=_sample(options),
        random=options.get("random", False),
        reuse=_reused(options),
        deadline=_deadline(options),
        deadline_cost=options.get("deadline_max_cost"),
    )


def lanes(ask: Ask, adapters: Callable[[str], Adapter], servers: Mapping[str, str]) -> Lanes:
    """Return how the models of `ask` are asked."""
    return Lanes(adapters, lambda model: providers.qualify(model, servers), ask.recipe, HASH)


def _reused(options: Options) -> list[str]:
    names = options.get("reuse") or []
    return [names] if isinstance(names, str) else list(names)


def _sample(options: Options) -> int:
    sample = options.get("sample") or 0
    if options.get("random") and not sample:
        raise UsageProblem("--random chooses the rows of --sample N: give that too")
    if sample < 0:
        raise UsageProblem("--sample takes a number of rows, at least 1")
    if sample and options.get("realtime"):
        raise UsageProblem("--sample looks before a batch; with --realtime all is asked at once")
    return sample


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


def _deadline(options: Options) -> float | None:
    deadline = options.get("deadline")
    if deadline is None:
        if options.get("deadline_max_cost") is not None:
            raise UsageProblem("--deadline-max-cost bounds what --deadline spends: give that too")
        return None
    if options.get("realtime"):
        raise UsageProblem("--deadline ends the waiting for a batch; --realtime waits for none")
    return span(deadline, "--deadline")


def _params(options: Options) -> dict[str, Any]:
    """Return the request parameters, which JSON can hold as they are."""
    found = dict(options.get("params") or {})
    for name, value in found.items():
        try:
            json.dumps(value, allow_nan=False)
        except ValueError as error:
            raise UsageProblem(
                f"params: {name} is {value!r}, which JSON cannot hold; nothing was sent"
            ) from error
        except TypeError:
            pass  # an object of the user's own, which the encoder may know
    return found


def _endpoint(options: Options) -> str:
    endpoint = options.get("endpoint", "")
    if not options.get("embed"):
        return endpoint or "chat"
    if endpoint not in {"", "embeddings"}:
        raise UsageProblem(f"--embed is --endpoint embeddings, not {endpoint}")
    return "embeddings"


def _cache(options: Options) -> str | None:
    cache = options.get("cache")
    if not cache:
        return None
    if cache is True:
        return CACHE
    if cache not in {"5m", "1h"}:
        raise UsageProblem(f"--cache keeps what prompts share for 5m or 1h, not {cache!r}")
    return cache


def _check_fields(schema: dict[str, Any], shape: Shape) -> None:
    if shape.kind != "frame":
        return
    taken = [each for each in schemas.fields(schema) if each in shape.columns]
    if taken:
        raise UsageProblem(
            f"the input has a column {taken[0]!r} already, which is a field of --schema: "
            f"rename it, for instance --over df.rename(columns={{{taken[0]!r}: ...}})"
        )


def _renamed(shape: Shape, schema: dict[str, Any] | None, *, routed: bool) -> str:
    """Say which columns beside the answers have other names than usual, since these are taken."""
    if shape.kind != "frame":
        return ""
    fields = None if schema is None else schemas.fields(schema) or None
    names = answers.beside(shape, fields, routed=routed)
    return "; ".join(
        f"the answers' column {usual!r} is called {name!r}, since that name is taken"
        for usual, name in names.items()
        if name != usual
    )


def _media(options: Options, settings: Settings) -> list[media.Column]:
    given = options.get("media_folder", ())
    folders = [given] if isinstance(given, str | PathLike) else [*given]
    return media.columns(
        options.get("image", ()), options.get("file", ()), [*folders, *settings.media_folders]
    )


def _contents(
    text: str | None,
    options: Options,
    raw: bool,
    column: str,
    namespace: Mapping[str, Any],
    wanted: Sequence[media.Column],
) -> tuple[Iterable[Content | None], Rows | None, Shape, str, str]:
    """Turn cell text and rows into contents; with shape, a note, and how all prompts begin."""
    split, skip_null = options.get("split", False), options.get("skip_null", False)
    if wanted:
        _check_media(wanted[0].kind, _endpoint(options), raw=raw, ready=text is None)
    if "over" not in options:
        if text is None:
            raise UsageProblem("there is nothing to ask: give --over ROWS or a cell body")
        if split:
            texts = [prompts.compile(part).render_one(namespace) for part in prompts.split(text)]
            several = [media.attach_one(each, wanted, namespace) for each in texts]
            return several, None, Shape(kind="list", column=column), "", ""
        prompt = prompts.compile(text).render_one(namespace)
        only = media.attach_one(prompt, wanted, namespace)
        return [only], None, Shape(kind="one", column=column), "", ""
    if split:
        raise UsageProblem("--split divides the cell into prompts; it does not go with --over")
    rows: Rows = frames.read(options["over"], column=column)
    if text is None:
        return prompts.ready(rows, raw=raw, skip_null=skip_null), rows, rows.shape, "", ""
    if raw:
        raise UsageProblem("--raw takes finished request bodies: use `%llm_batch run NAME --over`")
    template = prompts.compile(text).over(rows)
    if wanted:
        # What all texts begin with stands behind the media, where no provider caches it.
        attached = media.attach(template, rows, wanted, namespace=namespace, skip_null=skip_null)
        return attached, rows, rows.shape, "", ""
    note = "" if template.names - namespace.keys() else _same_for_all(template, rows)
    contents = template.render(rows, namespace=namespace, skip_null=skip_null)
    return contents, rows, rows.shape, note, template.prefix(rows, namespace)


def _check_media(kind: str, endpoint: str, *, raw: bool, ready: bool) -> None:
    """Refuse media where there is no message that they could stand in."""
    if raw:
        raise UsageProblem(
            f"with --raw images and files belong into the request bodies: no --{kind}"
        )
    if ready:
        raise UsageProblem(
            f"--{kind} goes with a cell's text: write `%%llm_batch NAME --over ROWS --{kind} COL`, "
            "or put the parts into message lists"
        )
    if endpoint not in {"chat", "responses", "messages"} and not endpoint.startswith("/"):
        option = "--embed" if endpoint == "embeddings" else f"--endpoint {endpoint}"
        raise UsageProblem(f"{option} takes text only: leave out --{kind}")


def _same_for_all(template: prompts.Template, rows: Rows) -> str:
    """Return a warning when no name of the template is a field: every row asks the same.

    Raises
    ------
    UsageProblem
        A field stands in single braces, as f-strings have it.
    """
    fields = (*(rows.fields or ()), *prompts.RESERVED)
    if rows.fields is None or not template.names.isdisjoint(fields):
        return ""
    for name in fields:
        if f"{{{name}}}" in template.text:
            raise UsageProblem(
                f"{{{name}}} would be sent as it stands, the same with every row: "
                f"write {{{{ {name} }}}}"
            )
    first = next(iter(rows.fields), "name")
    return f"every row asks the same: the cell names no field, such as {{{{ {first} }}}}"
