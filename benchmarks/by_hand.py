"""What a user writes without us: the plainest script for each provider, with its SDK."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pandas as pd

MODELS = {
    "openai": "gpt-5-mini",
    "anthropic": "claude-haiku-4-5",
    "google": "gemini-2.5-flash",
}
QUESTION = "Is this review positive, negative or mixed? One word."


def openai_lines(texts, path):
    """Build the input file, without an fsync."""
    with Path(path).open("w") as file:
        for row, text in enumerate(texts):
            body = {
                "model": MODELS["openai"],
                "messages": [{"role": "user", "content": f"{QUESTION}\n\n{text}"}],
            }
            request = {
                "custom_id": str(row),
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": body,
            }
            file.write(json.dumps(request) + "\n")


class OpenAI:
    """Build, upload, create; then retrieve, download, parse."""

    def __init__(self, environ):
        import openai

        self._sdk = openai.OpenAI(
            api_key=environ["OPENAI_API_KEY"], base_url=environ["OPENAI_BASE_URL"]
        )

    def send(self, texts, folder):
        path = Path(folder, "by-hand.jsonl")
        openai_lines(texts, path)
        with path.open("rb") as file:
            upload = self._sdk.files.create(file=file, purpose="batch")
        return self._sdk.batches.create(
            input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h"
        ).id

    def receive(self, batch_id, texts):
        while (batch := self._sdk.batches.retrieve(batch_id)).status != "completed":
            time.sleep(0.05)
        answers = {}
        for line in self._sdk.files.content(batch.output_file_id).text.splitlines():
            result = json.loads(line)
            body = result["response"]["body"]
            answers[int(result["custom_id"])] = body["choices"][0]["message"]["content"]
        return _frame(texts, answers)


class Anthropic:
    """Send all requests in one body; then read the results as the SDK gives them."""

    def __init__(self, environ):
        import anthropic

        self._sdk = anthropic.Anthropic(
            api_key=environ["ANTHROPIC_API_KEY"], base_url=environ["ANTHROPIC_BASE_URL"]
        )

    def send(self, texts, folder):
        requests = [
            {
                "custom_id": str(row),
                "params": {
                    "model": MODELS["anthropic"],
                    "max_tokens": 1024,
                    "messages": [{"role": "user", "content": f"{QUESTION}\n\n{text}"}],
                },
            }
            for row, text in enumerate(texts)
        ]
        return self._sdk.messages.batches.create(requests=requests).id

    def receive(self, batch_id, texts):
        while self._sdk.messages.batches.retrieve(batch_id).processing_status != "ended":
            time.sleep(0.05)
        answers = {
            int(entry.custom_id): entry.result.message.content[0].text
            for entry in self._sdk.messages.batches.results(batch_id)
        }
        return _frame(texts, answers)


class Google:
    """Build, upload, create; then get, download, parse."""

    def __init__(self, environ):
        from google import genai
        from google.genai import types

        self._types = types
        self._sdk = genai.Client(
            api_key=environ["GEMINI_API_KEY"],
            http_options=types.HttpOptions(base_url=environ["GOOGLE_GEMINI_BASE_URL"]),
        )

    def send(self, texts, folder):
        path = Path(folder, "by-hand.jsonl")
        with path.open("w") as file:
            for row, text in enumerate(texts):
                contents = [{"role": "user", "parts": [{"text": f"{QUESTION}\n\n{text}"}]}]
                file.write(json.dumps({"key": str(row), "request": {"contents": contents}}) + "\n")
        config = self._types.UploadFileConfig(mime_type="application/jsonl")
        upload = self._sdk.files.upload(file=path, config=config)
        return self._sdk.batches.create(model=MODELS["google"], src=upload.name).name

    def receive(self, batch_id, texts):
        while (batch := self._sdk.batches.get(name=batch_id)).state != "JOB_STATE_SUCCEEDED":
            time.sleep(0.05)
        answers = {}
        for line in self._sdk.files.download(file=batch.dest.file_name).decode().splitlines():
            result = json.loads(line)
            parts = result["response"]["candidates"][0]["content"]["parts"]
            answers[int(result["key"])] = parts[0]["text"]
        return _frame(texts, answers)


SCRIPTS = {"openai": OpenAI, "anthropic": Anthropic, "google": Google}


def _frame(texts, answers):
    frame = pd.DataFrame({"text": texts})
    frame["answer"] = [answers[row] for row in range(len(texts))]
    return frame
