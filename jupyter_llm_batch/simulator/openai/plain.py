"""OpenAI's endpoints without a conversation: completions, moderations and images.

All of it is unrecorded and follows the SDK's types.
"""

from __future__ import annotations

import base64
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import msgspec

from ..world import answers, shapes
from ..world.fates import SHAPES, Fate
from ..world.life import Usage
from . import bodies, requests
from .bodies import MODELS, Answered, letters, text_of
from .errors import ApiError
from .requests import Asked, common

COMPLETIONS = "/v1/completions"

_MODERATOR = "omni-moderation-latest"
#: Categories, and words by which the simulator takes a text to be of one.
_CATEGORIES = {
    "harassment": r"idiot|stupid|loser",
    "harassment/threatening": r"threat\w*",
    "hate": r"hate[sd]?",
    "hate/threatening": "",
    "illicit": r"shoplift\w*|steal\w*",
    "illicit/violent": r"bombs?",
    "self-harm": r"self-harm",
    "self-harm/instructions": "",
    "self-harm/intent": "",
    "sexual": r"porn\w*",
    "sexual/minors": "",
    "violence": r"kill\w*|attack\w*|murder\w*",
    "violence/graphic": r"gore",
}
#: Tokens of a picture, whatever its size.
_PICTURE = 1056


def ask_completions(body: Any) -> Asked:
    """Read a request for a text's continuation; several prompts may be in one."""
    model = common(body)
    prompts = _texts(body.get("prompt"), "prompt")
    return Asked(
        body=body,
        model=model,
        prompt="\n".join(prompts),
        tokens=sum(map(answers.count_tokens, prompts)),
        limit=body.get("max_tokens", 16),
    )


def ask_moderations(body: Any) -> Asked:
    """Read a request for a verdict; it need not name a model."""
    asked = {"model": _MODERATOR, **body} if isinstance(body, dict) else body
    model = common(asked)
    given = body.get("input")
    if isinstance(given, list) and given and isinstance(given[0], dict):
        inputs = ["".join(str(part.get("text", "")) for part in given)]  # one, in several parts
    else:
        inputs = _texts(given, "input")
    return Asked(body=body, model=model, prompt="\n".join(inputs))


def ask_images(body: Any) -> Asked:
    """Read a request for pictures."""
    model = common({"model": "gpt-image-1", **body} if isinstance(body, dict) else body)
    prompt = body.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise ApiError(
            "Missing required parameter: 'prompt'.",
            param="prompt",
            code="missing_required_parameter",
        )
    return Asked(body=body, model=model, prompt=prompt, tokens=answers.count_tokens(prompt))


def _texts(given: Any, param: str) -> list[str]:
    """Return one text or several; a list of numbers is one that is tokenized already."""
    single = isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int)
    items = [given] if single else given
    if not isinstance(items, list) or not items:
        raise ApiError(
            f"Missing required parameter: '{param}'.",
            param=param,
            code="missing_required_parameter",
        )
    return [item if isinstance(item, str) else json.dumps(item) for item in items]


def _completions(asked: Asked, fate: Fate, seed: bytes, at: int) -> Answered:
    fate = Fate.ANSWER if fate in SHAPES else fate
    choices: list[dict[str, Any]] = []
    tokens = 0
    for prompt in _texts(asked.body["prompt"], "prompt"):
        text, spent, finish = text_of(msgspec.structs.replace(asked, prompt=prompt), fate)
        for number in range(shapes.many(asked.body.get("n"))):
            tokens += spent
            choices.append(
                {
                    "index": len(choices),
                    "text": shapes.variant(text, number),
                    "logprobs": None,
                    "finish_reason": finish,
                }
            )
    body = {
        "id": f"cmpl-{letters(seed)[:29]}",
        "object": "text_completion",
        "created": at,
        "model": MODELS.get(asked.model, asked.model),
        "choices": choices,
        "usage": {
            "prompt_tokens": asked.tokens,
            "completion_tokens": tokens,
            "total_tokens": asked.tokens + tokens,
        },
        "system_fingerprint": "simulated",
    }
    return Answered(body, Usage(asked.tokens, 0, tokens))


def _moderations(asked: Asked, _fate: Fate, seed: bytes, _at: int) -> Answered:
    given = asked.body.get("input")
    several = given if isinstance(given, list) and isinstance(given[0], str) else [asked.prompt]
    results = [_verdict(text) for text in several]
    body = {"id": f"modr-{letters(seed)[:29]}", "model": asked.model, "results": results}
    return Answered(body, Usage(0, 0, 0))


def _verdict(text: str) -> dict[str, Any]:
    found = {
        name: bool(words) and re.search(rf"\b(?:{words})\b", text, re.IGNORECASE) is not None
        for name, words in _CATEGORIES.items()
    }
    chance = answers.digest(text)
    scores = {
        name: 0.9 + chance[number] / 2560 if found[name] else chance[number] / 25600
        for number, name in enumerate(found)
    }
    return {
        "flagged": any(found.values()),
        "categories": found,
        "category_scores": scores,
        "category_applied_input_types": {name: ["text"] for name in found},
    }


def _images(asked: Asked, _fate: Fate, _seed: bytes, at: int) -> Answered:
    count = shapes.many(asked.body.get("n"))
    revised = answers.marked(asked.prompt, asked.prompt)
    data = [
        {"b64_json": _picture(f"{asked.prompt}{number}"), "revised_prompt": revised}
        for number in range(count)
    ]
    tokens = count * _PICTURE
    body = {
        "created": at,
        "background": "opaque",
        "data": data,
        "output_format": "png",
        "quality": "low",
        "size": "1024x1024",
        "usage": {
            "input_tokens": asked.tokens,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": asked.tokens},
            "output_tokens": tokens,
            "total_tokens": asked.tokens + tokens,
        },
    }
    return Answered(body, Usage(asked.tokens, 0, tokens))


def _picture(text: str) -> str:
    """Return a PNG of a single pixel, in a colour of the text's own, in base64."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0" + answers.digest(text)[:3])
    chunks = [(b"IHDR", header), (b"IDAT", pixel), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return base64.b64encode(data).decode()


_ANSWER: dict[str, Callable[[Asked, Fate, bytes, int], Answered]] = {
    COMPLETIONS: _completions,
    "/v1/moderations": _moderations,
    "/v1/images/generations": _images,
}

#: What reads a request, by endpoint.
ASK: dict[str, Callable[[Any], Asked]] = {
    **requests.ASK,
    COMPLETIONS: ask_completions,
    "/v1/moderations": ask_moderations,
    "/v1/images/generations": ask_images,
}


class Bodies(bodies.Bodies):
    """Makes the answers of every endpoint."""

    def answer(self, endpoint: str, asked: Asked, fate: Fate, seed: bytes, at: float) -> Answered:
        """Return the answer; ``seed`` gives its ids."""
        if endpoint in _ANSWER:
            return _ANSWER[endpoint](asked, fate, seed, int(at))
        return super().answer(endpoint, asked, fate, seed, at)
