"""The model and the tokens of answers that came in real time, whole or as lines of a stream."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from ..core.result import Usage
from .anthropic import results as anthropic_results
from .google import results as google_results
from .openai import answers, result_shapes
from .shared import lenient


class _OpenAI(msgspec.Struct):
    model: str | None = None
    usage: result_shapes.Tokens | None = None
    #: In the events of a stream of the Responses API.
    response: _OpenAI | None = None


class _Anthropic(msgspec.Struct):
    model: str | None = None
    usage: anthropic_results.Tokens | None = None
    #: In the first event of a stream.
    message: _Anthropic | None = None


class _Google(msgspec.Struct, rename="camel"):
    model_version: str | None = None
    usage_metadata: google_results.Tokens | None = None


_FORMS: dict[str, Any] = {"openai": _OpenAI, "anthropic": _Anthropic, "google": _Google}
_DECODERS: dict[str, msgspec.json.Decoder[Any]] = {
    name: msgspec.json.Decoder(form, strict=name != "google") for name, form in _FORMS.items()
}


def read(provider: str, bodies: Iterable[bytes]) -> tuple[str, Usage | None]:
    """Return the model and the tokens that `bodies` tell; None where they tell none.

    Parameters
    ----------
    bodies
        A whole answer, or lines of a stream; what a later line says wins.
    """
    model, tokens = "", None
    for body in bodies:
        told = body.removeprefix(b"data:").strip()
        try:
            read = _DECODERS[provider].decode(told)
        except (ValueError, RecursionError):
            try:
                read = lenient.decode(told, _FORMS[provider])
            except ValueError:
                continue
        for part in (read, getattr(read, "response", None), getattr(read, "message", None)):
            if part is None:
                continue
            model = (
                model or getattr(part, "model", None) or getattr(part, "model_version", "") or ""
            )
            said = getattr(part, "usage", None) or getattr(part, "usage_metadata", None)
            tokens = _merged(tokens, said)
    return model, None if tokens is None else _USAGE[provider](tokens)


def _merged(before: Any, after: Any) -> Any:
    if before is None or after is None:
        return after or before
    said = {
        name: value for name, value in msgspec.structs.asdict(after).items() if value is not None
    }
    return msgspec.structs.replace(before, **said)


_USAGE: dict[str, Any] = {
    "openai": answers.usage_of,
    "anthropic": anthropic_results.usage_of,
    "google": google_results.usage_of,
}
