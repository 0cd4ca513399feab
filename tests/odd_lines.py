"""Result lines of every provider, and ways to change them at random."""

from __future__ import annotations

import copy
import json

from hypothesis import strategies as st

TOKENS = {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 1}}
CHAT = {
    "id": "x",
    "custom_id": "b-1",
    "response": {
        "status_code": 200,
        "request_id": "q",
        "body": {
            "object": "chat.completion",
            "model": "m",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": "Yes", "refusal": None},
                    "logprobs": {"content": [{"token": "Yes", "logprob": -0.1}]},
                    "finish_reason": "stop",
                }
            ],
            "usage": TOKENS,
        },
    },
    "error": None,
}
SAID = {"type": "output_text", "text": "Yes", "annotations": []}
RESPONSE = {
    "custom_id": "b-1",
    "response": {
        "status_code": 200,
        "body": {
            "model": "m",
            "status": "completed",
            "error": None,
            "incomplete_details": None,
            "output": [
                {"type": "reasoning", "summary": [{"text": "hm"}]},
                {"type": "message", "role": "assistant", "content": [SAID]},
            ],
            "usage": {"input_tokens": 9, "output_tokens_details": {"reasoning_tokens": 1}},
        },
    },
    "error": None,
}
VECTOR = {
    "custom_id": "b-1",
    "response": {
        "status_code": 200,
        "body": {"data": [{"index": 0, "embedding": [0.5, 1]}], "usage": {"prompt_tokens": 2}},
    },
}
MESSAGE = {
    "custom_id": "b-1",
    "result": {
        "type": "succeeded",
        "message": {
            "id": "m",
            "model": "c",
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Yes"}],
            "stop_reason": "end_turn",
            "stop_details": None,
            "usage": {"input_tokens": 9, "cache_creation": {"ephemeral_1h_input_tokens": 1}},
        },
    },
}
CANDIDATE = {
    "key": "b-1",
    "response": {
        "candidates": [
            {
                "content": {"parts": [{"text": "Yes"}], "role": "model"},
                "finishReason": "STOP",
                "avgLogprobs": -0.2,
                "index": 0,
            }
        ],
        "promptFeedback": {"safetyRatings": []},
        "usageMetadata": {"promptTokenCount": 9, "thoughtsTokenCount": 1},
        "modelVersion": "g",
    },
}


def walk(value, *path):
    """Return what lies at a path, and None where there is nothing."""
    for step in path:
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def listed(value):
    return value if isinstance(value, list) else []


def said_in_chat(line):
    choices = listed(walk(line, "response", "body", "choices"))
    return [walk(each, "message", "content") for each in choices]


def said_in_response(line):
    items = listed(walk(line, "response", "body", "output"))
    held = [each for each in items if walk(each, "type") == "message"]
    return [walk(part, "text") for each in held for part in listed(walk(each, "content"))]


def said_in_vector(line):
    return [
        "a vector"
        for each in listed(walk(line, "response", "body", "data"))
        if (vector := listed(walk(each, "embedding")))
        and all(isinstance(x, (int, float)) and not isinstance(x, bool) for x in vector)
        and not any(isinstance(x, int) and abs(x) > 10**300 for x in vector)
    ]


def said_in_message(line):
    blocks = listed(walk(line, "result", "message", "content"))
    return [walk(each, "text") for each in blocks if walk(each, "type") == "text"]


def said_in_candidate(line):
    parts = [
        part
        for each in listed(walk(line, "response", "candidates"))
        for part in listed(walk(each, "content", "parts"))
    ]
    return [
        walk(part, "text") for part in parts if isinstance(part, dict) and "thought" not in part
    ]


KINDS = {
    "chat": ("openai", "chat", CHAT, said_in_chat, "custom_id"),
    "responses": ("openai", "responses", RESPONSE, said_in_response, "custom_id"),
    "embeddings": ("openai", "embeddings", VECTOR, said_in_vector, "custom_id"),
    "messages": ("anthropic", "chat", MESSAGE, said_in_message, "custom_id"),
    "gemini": ("google", "chat", CANDIDATE, said_in_candidate, "key"),
}

WORDS = [
    "", "x", "12", "200", "1e400", "-3", "true", "null", "length", "error", "ERROR", "SAFETY",
    "content_filter", "completed", "failed", "cancelled", "message", "text", "reasoning", "refusal",
    "errored", "canceled", "\ud83d", "a\ud83d\x00b", "<html><title>413</title></html>", '{"a": 1}',
]  # fmt: skip
ODD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**25, -5, 10**500, 200, 201, 429, 500])
    | st.floats()
    | st.sampled_from(WORDS)
    | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["error", "message", "text", "code", "content"]), inner)
    ),
    max_leaves=5,
)
STEPS = st.lists(st.tuples(st.integers(0, 99), st.sampled_from("=-+"), ODD), min_size=1, max_size=3)


def places(value):
    """Yield every container of a value with each of its keys."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in list(pairs):
        yield value, key
        if isinstance(each, (dict, list)):
            yield from places(each)


def changed(line, steps):
    """Return a line with some of its values replaced, taken out or put beside others."""
    line = copy.deepcopy(line)
    for where, deed, odd in steps:
        found = list(places(line))
        if not found:
            break
        holder, key = found[where % len(found)]
        if deed == "=":
            holder[key] = odd
        elif deed == "-":
            del holder[key]
        elif isinstance(holder, dict):
            holder["error"] = odd
        else:
            holder.append(odd)
    return line


def as_written(line):
    return json.dumps(line, ensure_ascii=True).encode()
