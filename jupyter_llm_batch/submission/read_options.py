"""What the options of a cell mean: names, values and rows in, one checked `Ask` out."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from typing import Any

import msgspec

from ..core.errors import UsageProblem
from ..core.ids import HASH
from ..core.option_table import CACHE, shown_values
from ..core.request import Content, Recipe, Rows, Shape
from ..core.settings import Settings
from ..core.text import many
from ..data import answers, structured
from ..data import rows as frames
from ..providers import registry
from ..providers.base import Adapter
from . import notify_target
from .lanes import CACHED_FROM, Lanes
from .options import Options, check, span
from .prompts import media, media_parts, routing
from .prompts import ready as ready_
from .prompts import template as prompts
from .spec import Ask

#: A place for a value, as the cell's text may have it.
_PLACE = re.compile(r"\{\{[^{}]+\}\}")


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
    wanted = _media(options, settings)
    contents, rows, shape, note, prefix = _contents(text, options, raw, column, namespace, wanted)
    if route is not None and rows is None:
        raise UsageProblem("--route chooses a model for each row: it needs --over ROWS")
    recipe = _recipe(options, settings, prefix)
    note = note or _cached_in_vain(recipe)
    if recipe.schema is not None:
        _check_fields(recipe.schema, shape)
    renamed = _renamed(shape, recipe.schema, routed=route is not None)
    retry, reask = options.get("retry"), options.get("reask")
    told = options.get("notify")
    read = Ask(
        name=name,
        contents=contents,
        rows=rows,
        shape=shape,
        template=text or "",
        note="; ".join(filter(None, (note, _unfilled(recipe), renamed))),
        recipe=recipe,
        model=registry.qualify(model, known) if model else "",
        models=None if route is None or rows is None else routing.models(route, rows),
        retries=settings.retry if retry is None else retry,
        reasks=settings.reask if reask is None else reask,
        notify=notify_target.check(settings.notify if told is None else told),
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
    return msgspec.structs.replace(read, shown=shown_values(options, read))


def _recipe(options: Options, settings: Settings, prefix: str) -> Recipe:
    """Return what all requests of the batch share."""
    raw, endpoint = options.get("raw", False), _endpoint(options)
    max_tokens = options.get("max_tokens")
    if max_tokens is None and endpoint != "embeddings" and not raw:
        max_tokens = settings.max_tokens
    cache = _cache(options)
    described, title = _schema(options, endpoint)
    return Recipe(
        endpoint=endpoint,
        system=options.get("system"),
        max_tokens=max_tokens,
        params=_params(options),
        raw=raw,
        schema=described,
        schema_name=title,
        cache=cache,
        prefix="" if cache is None else prefix,
    )


def _schema(options: Options, endpoint: str) -> tuple[dict[str, Any] | None, str]:
    """Return the schema of the answers and its name."""
    if options.get("schema") is None:
        return None, ""
    if endpoint == "embeddings":
        option = "--embed" if options.get("embed") else "--endpoint embeddings"
        raise UsageProblem(f"--schema is for answers, {option} for vectors: leave one out")
    return structured.read_schema(options["schema"])


def _cached_in_vain(recipe: Recipe) -> str:
    """Return a warning when the prompts share too little to be cached."""
    shared = len(recipe.system or "") + len(recipe.prefix)
    if recipe.cache is None or shared >= CACHED_FROM:
        return ""
    return (
        f"the prompts share about {many(shared // 4, 'token')}, and "
        "providers cache from about 1,024 on: --cache will hardly help"
    )


def _unfilled(recipe: Recipe) -> str:
    """Return a warning when the system prompt has a place for a value, which nothing fills."""
    placed = _PLACE.search(recipe.system or "")
    if placed is None:
        return ""
    return (
        f"the system prompt is sent as it is, and {placed[0]} in it is not filled in: move it "
        "into the cell's text"
    )


def lanes(ask: Ask, adapters: Callable[[str], Adapter], servers: Mapping[str, str]) -> Lanes:
    """Return how the models of `ask` are asked."""
    return Lanes(
        adapters,
        lambda model: registry.qualify(model, servers),
        ask.recipe,
        HASH,
        _instant_option(ask),
    )


def _instant_option(ask: Ask) -> str:
    """Return the option of `ask` that needs real time; empty for none."""
    wanted = {
        "--realtime": ask.realtime,
        "--sample": bool(ask.sample),
        "--deadline": ask.deadline is not None,
    }
    return next((option for option, given in wanted.items() if given), "")


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
    taken = [each for each in structured.schema_fields(schema) if each in shape.columns]
    if taken:
        raise UsageProblem(
            f"the input has a column {taken[0]!r} already, which is a field of --schema: "
            f"rename it, for instance --over df.rename(columns={{{taken[0]!r}: ...}})"
        )


def _renamed(shape: Shape, schema: dict[str, Any] | None, *, routed: bool) -> str:
    """Say which columns beside the answers have other names than usual, since these are taken."""
    if shape.kind != "frame":
        return ""
    fields = None if schema is None else structured.schema_fields(schema) or None
    names = answers.extra_columns(shape, fields, routed=routed)
    return "; ".join(
        f"the answers' column {usual!r} is called {name!r}, since that name is taken"
        for usual, name in names.items()
        if name != usual
    )


def _media(options: Options, settings: Settings) -> list[media_parts.Column]:
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
    wanted: Sequence[media_parts.Column],
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
    rows: Rows = frames.read_rows(options["over"], column=column)
    if text is None:
        return ready_.ready(rows, raw=raw, skip_null=skip_null), rows, rows.shape, "", ""
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
