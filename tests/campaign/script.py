"""What a script without this package does: it sends a batch with the provider's own SDK."""

from __future__ import annotations

import json
from collections.abc import Sequence

from .scenarios import MODELS


def send(provider: str, environ: dict[str, str], prompts: Sequence[str]) -> str:
    """Create a batch and return it as ``provider:id``."""
    model = MODELS[provider].partition(":")[2]
    asked = [
        (f"row-{number}", {"model": model, "messages": [{"role": "user", "content": prompt}]})
        for number, prompt in enumerate(prompts)
    ]
    if provider == "anthropic":
        return f"anthropic:{_anthropic(environ, asked)}"
    return f"openai:{_openai(environ, asked)}"


def _anthropic(environ: dict[str, str], asked: list) -> str:
    import anthropic

    with anthropic.Anthropic(
        api_key=environ["ANTHROPIC_API_KEY"], base_url=environ["ANTHROPIC_BASE_URL"]
    ) as client:
        requests = [
            {"custom_id": custom_id, "params": body | {"max_tokens": 100}}
            for custom_id, body in asked
        ]
        return client.messages.batches.create(requests=requests).id


def _openai(environ: dict[str, str], asked: list) -> str:
    import openai

    with openai.OpenAI(
        api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"]
    ) as client:
        url = "/v1/chat/completions"
        lines = [
            json.dumps({"custom_id": custom_id, "method": "POST", "url": url, "body": body})
            for custom_id, body in asked
        ]
        file = client.files.create(file=("x.jsonl", "\n".join(lines).encode()), purpose="batch")
        return client.batches.create(
            input_file_id=file.id, endpoint=url, completion_window="24h"
        ).id
