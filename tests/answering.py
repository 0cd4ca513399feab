"""Batches that are collected and bound from result lines of any kind, without a server.

The lines go the way of a batch's: fetched into a file, reconciled, journaled in a real database,
read again and put into the shape of the input. Only the provider's network half is missing.
"""

import asyncio
import functools
import itertools
import json
from pathlib import Path

from support import FAST

from jupyter_llm_batch.client import results
from jupyter_llm_batch.core.batch import Batch
from jupyter_llm_batch.core.ids import Ranges
from jupyter_llm_batch.core.job import Job, JobState
from jupyter_llm_batch.core.request import Mode, Recipe
from jupyter_llm_batch.costs.budget import Rules
from jupyter_llm_batch.costs.prices import PriceBook
from jupyter_llm_batch.data import rows as frames
from jupyter_llm_batch.engine.collect import Collector, no_pause
from jupyter_llm_batch.engine.job_end import JobEnd
from jupyter_llm_batch.providers import registry
from jupyter_llm_batch.storage import process
from jupyter_llm_batch.storage.input_file import ROWS_FILE
from jupyter_llm_batch.storage.store import Store

MODELS = {"openai": "gpt-5-mini", "anthropic": "claude-haiku-4-5", "google": "gemini-2.5-flash"}


def openai(name, text, **more):
    """Return a result line of OpenAI."""
    message = {"role": "assistant", "content": text, **more}
    body = {
        "model": "gpt-5-mini", "usage": {"prompt_tokens": 3, "completion_tokens": 2},
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip
    return {"custom_id": name, "response": {"status_code": 200, "body": body}, "error": None}


def anthropic(name, text):
    """Return a result line of Anthropic."""
    message = {
        "model": "claude-haiku-4-5", "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 3, "output_tokens": 2},
    }  # fmt: skip
    return {"custom_id": name, "result": {"type": "succeeded", "message": message}}


def google(name, text):
    """Return a result line of Gemini."""
    response = {
        "candidates": [{"content": {"parts": [{"text": text}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2},
    }
    return {"key": name, "response": response}


LINES = {"openai": openai, "anthropic": anthropic, "google": google}


_reader = functools.cache(registry.reader)


class _Fetched:
    """A provider's reader, with files to fetch."""

    def __init__(self, provider, content):
        reader = _reader(provider)
        self.parse, self.prompt_of = reader.parse, reader.prompt_of
        self._content = content

    async def fetch(self, _remote, _part, _ref, sink):
        sink.write(self._content)

    async def retrieve(self, _remote):
        raise AssertionError("one download was not enough")


class Answering:
    """Collects batches in a journal of its own."""

    def __init__(self, folder: Path):
        self.store = Store(folder, lambda: 1e9)
        rules, clock = Rules(book=PriceBook()), lambda: 1e9
        end = JobEnd(self.store, FAST, clock, lambda: rules)
        self._collector = Collector(self.store, FAST, clock, end, no_pause, lambda: rules)
        self._numbers = itertools.count()
        self._loop = asyncio.Runner()

    def close(self):
        """Close the journal."""
        self._loop.close()
        self.store.close()

    def collect(self, provider, lines, *, rows, schema=None, over=None, requests=None):
        """Collect a batch of `rows` rows and return it.

        Parameters
        ----------
        lines
            The result lines, as bytes or as what `LINES` returns; a function of a row's id.
        over
            The input; a list by default.
        requests
            The bytes of the file of request lines; by default there is none.
        """
        batch_id = f"b{next(self._numbers)}"
        read = frames.read_rows([""] * rows if over is None else over)
        batch = Batch(
            id=batch_id, notebook="nb", name=batch_id, version=1, created_at=1.0, rows=rows,
            recipe=Recipe(schema=schema), models=[f"{provider}:{MODELS[provider]}"],
            shape=read.shape, plan_hash="h",
        )  # fmt: skip
        job = Job(
            id=f"{batch_id}-r0-j1", batch_id=batch_id, round=0, number=1, provider=provider,
            model=MODELS[provider], endpoint="chat", rows=rows, bytes=9, payload="r0-j1.jsonl",
            state=JobState.COLLECTING, mode=Mode.BATCH, remote_id=batch_id, parts={"output": "f"},
            fetches=FAST.fetches if hasattr(FAST, "fetches") else 6,
        )  # fmt: skip
        packs = {"outcomes": bytes(rows), "owners": bytes(4 * rows)}
        folder = self.store.folder_of(batch_id)
        folder.mkdir(parents=True, exist_ok=True)
        self.store.add_batch(batch, [(job, Ranges([(0, rows)]))], packs)
        read.snapshot(folder / ROWS_FILE)
        if requests is not None:
            (folder / job.payload).write_bytes(requests)
        held = self.store.leases.acquire(batch_id, process.me())
        found = [lines(f"{batch_id}-{row}", row) for row in range(rows)]
        content = b"".join(
            (each if isinstance(each, bytes) else json.dumps(each).encode()) + b"\n"
            for each in found
            if each is not None
        )
        self._loop.run(self._collector.collect(held, batch, job, _Fetched(provider, content)))
        self.store.finish(held)
        self.store.leases.release(held)
        return self.store.batch(batch_id)

    def read(self, batch, **options):
        """Return the results of a batch."""
        return results.read(self.store, batch, **options)

    def bound(self, batch, found=None, kind=None):
        """Return the answers in the shape of the input."""
        return results.value(self.store, batch, found or self.read(batch), kind)

    def tally(self, batch):
        """Return rows by outcome, as the journal counted them."""
        (job,) = self.store.jobs(batch.id)
        assert job.state is JobState.DONE, (job.state, job.error)
        return job.tally

    def forget(self, batch):
        """Delete a batch."""
        self.store.forget(batch.id)
