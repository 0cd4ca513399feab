"""Servers that mean harm, or are broken: no key and no row leaves, and every answer has an end."""

from __future__ import annotations

import asyncio
import json
import threading

import pytest
from hostile import Hostile, bomb, endless, send
from support import KEYS

from jupyter_llm_batch.core.errors import Incomplete, LLMBatchError, Refused, Unclear
from jupyter_llm_batch.core.job import Job
from jupyter_llm_batch.providers.registry import make
from jupyter_llm_batch.providers.shared import bounds, pages, transport

PROVIDERS = ("openai", "anthropic", "google")
#: Which reference a results file has.
REFS = {"openai": "file-1", "anthropic": "msgbatch_1", "google": "files/batch-1"}


class Collected(list):
    """A sink."""

    write = list.append


def environ(url):
    return {
        "OPENAI_BASE_URL": f"{url}/v1",
        "OPENAI_API_KEY": KEYS["openai"],
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": KEYS["anthropic"],
        "GOOGLE_GEMINI_BASE_URL": url,
        "GEMINI_API_KEY": KEYS["google"],
    }


def ask(provider, url, call):
    """Return what a call of a fresh adapter gives or raises."""

    async def work():
        adapter = make(provider, environ(url))
        try:
            return await call(adapter)
        except LLMBatchError as error:
            return error
        finally:
            await adapter.close()

    return asyncio.run(work())


async def listed(adapter):
    return [each async for each in adapter.list(0.0)]


def job(provider, rows=1):
    return Job(
        id="j", batch_id="b", round=0, number=0, provider=provider, model="m", endpoint="chat",
        rows=rows, bytes=10, payload="p",
    )  # fmt: skip


@pytest.fixture
def payload(tmp_path):
    path = tmp_path / "p.jsonl"
    path.write_bytes(b'{"custom_id":"r-0"}\n')
    return path


# -- other hosts


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_download_that_is_redirected_elsewhere_is_refused(provider):
    """Neither key nor request goes to another host; one line names that host."""
    with Hostile() as other:
        away = f"{other.url}/results"
        with Hostile(lambda handler: send(handler, b"", 302, location=away)) as server:
            sink = Collected()
            error = ask(
                provider, server.url, lambda a: a.fetch("id", "output", REFS[provider], sink)
            )
        assert isinstance(error, Refused)
        assert other.url in str(error)
        assert (other.asked, sink) == ([], [])


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_create_that_is_redirected_elsewhere_is_refused(provider, payload):
    """Rows go to the provider's own host and to no other."""
    with Hostile() as other:
        away = f"{other.url}/results"
        with Hostile(lambda handler: send(handler, b"", 307, location=away)) as server:
            error = ask(
                provider, server.url, lambda a: a.create(job(provider), payload, "file-1", "l")
            )
        assert isinstance(error, Refused)
        assert other.asked == []


def test_an_upload_address_elsewhere_gets_no_row(payload):
    """Gemini's server names the address that takes the file: only one of its own is used."""
    with Hostile() as other:
        away = f"{other.url}/upload"

        def answer(handler):
            send(handler, b"{}", x_goog_upload_url=away, x_goog_upload_status="active")

        with Hostile(answer) as server:
            error = ask("google", server.url, lambda a: a.upload(job("google", 9_999), payload))
        assert isinstance(error, Refused)
        assert other.asked == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_results_address_elsewhere_is_not_used(provider):
    """What an answer says about addresses changes nothing: results come from the base URL."""
    with Hostile() as other:
        body = {
            "id": "b", "status": "completed", "processing_status": "ended",
            "results_url": other.url, "output_file_id": f"{other.url}/x", "created_at": 1,
            "name": "batches/b",
            "metadata": {"state": "BATCH_STATE_SUCCEEDED", "output": {"responsesFile": other.url}},
        }  # fmt: skip
        if provider != "google":
            body["metadata"] = {}
        with Hostile(lambda handler: send(handler, json.dumps(body).encode())) as server:

            async def work(adapter):
                for ref in (await adapter.retrieve("b")).parts.values() or [other.url]:
                    await adapter.fetch("b", "output", ref, Collected())

            ask(provider, server.url, work)
        assert other.asked == []


@pytest.mark.parametrize("provider", PROVIDERS)
def test_the_key_is_in_the_request_and_not_in_the_sdk(provider):
    """The server gets the key; the SDK's client, whose tracebacks we do not write, never had it."""
    with Hostile() as server:
        told = []

        async def work(adapter):
            client = adapter._server.connected()
            told.append(repr(vars(client)) + repr(getattr(client, "default_headers", "")))
            await adapter.retrieve("b")

        ask(provider, server.url, work)
    sent = server.asked[0].headers
    assert KEYS[provider] in " ".join(sent.values())
    assert KEYS[provider] not in told[0]


# -- sizes and times


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_packed_bomb_is_not_unpacked(provider, monkeypatch):
    """A poll reads up to its limit of decoded bytes, whatever they were packed into."""
    monkeypatch.setattr(bounds, "MAX_BODY", 4 << 20)
    monkeypatch.setattr(bounds, "MAX_INLINE", 4 << 20)
    packed = bomb(16 << 20)
    with Hostile(lambda handler: send(handler, packed, content_encoding="gzip")) as server:
        error = ask(provider, server.url, lambda a: a.retrieve("b"))
    assert isinstance(error, Unclear)
    assert "larger than" in str(error)


def test_an_endless_body_is_left(monkeypatch):
    """An answer without an end is read up to the limit and no further."""
    monkeypatch.setattr(bounds, "MAX_BODY", 4 << 20)
    with Hostile(lambda handler: endless(handler, b" " * 65_536)) as server:
        error = ask("openai", server.url, lambda a: a.retrieve("b"))
    assert "larger than" in str(error)


def test_a_dripping_body_is_left(monkeypatch):
    """Bytes that trickle in faster than any read timeout do not keep a call for ever."""
    monkeypatch.setattr(transport, "_patience", lambda request: 0.2)
    tick = threading.Event()
    with Hostile(lambda handler: endless(handler, b" ", lambda: tick.wait(0.01))) as server:
        error = ask("openai", server.url, lambda a: a.retrieve("b"))
    assert isinstance(error, Unclear)


def test_a_packed_download_arrives_whole_or_not_at_all():
    """Gzip is undone on the way to the disk; a stream that is cut short is incomplete."""
    whole = bomb(3 << 20)
    with Hostile(lambda handler: send(handler, whole, content_encoding="gzip")) as server:
        sink = Collected()
        ask("openai", server.url, lambda a: a.fetch("b", "output", "file-1", sink))
        assert b"".join(sink) == b" " * (3 << 20)
        server.answer = lambda handler: send(handler, whole[:-20], content_encoding="gzip")
        error = ask("openai", server.url, lambda a: a.fetch("b", "output", "f", Collected()))
        assert isinstance(error, Incomplete)


def test_a_packing_that_was_not_asked_for_is_refused():
    """Brotli and the like are never unpacked."""
    with Hostile(lambda handler: send(handler, b"x", content_encoding="br")) as server:
        error = ask("openai", server.url, lambda a: a.retrieve("b"))
    assert isinstance(error, Unclear)


# -- pages


def page(provider, number, following):
    """Return one page of a listing, with a batch and the cursor of the next."""
    if provider == "google":
        operation = {"name": f"batches/{number}", "metadata": {"state": "BATCH_STATE_RUNNING"}}
        return {"operations": [operation], "nextPageToken": following}
    batch = {
        "id": f"b{number}", "status": "in_progress", "processing_status": "in_progress",
        "created_at": 4e9 if provider == "openai" else "2096-01-01T00:00:00Z",
        "request_counts": {},
    }  # fmt: skip
    return {"data": [batch], "has_more": True, "last_id": following}


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_listing_without_an_end_is_left(provider, monkeypatch):
    """Pages are read up to a number; what they do not show may exist, so nothing is absent."""
    monkeypatch.setattr(pages, "MAX_PAGES", 7)

    def answer(handler):
        number = len(server.asked)
        send(handler, json.dumps(page(provider, number, f"c{number}")).encode())

    with Hostile(answer) as server:
        error = ask(provider, server.url, listed)
        assert isinstance(error, Unclear)
        assert len(server.asked) == 7


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_listing_that_repeats_itself_is_left(provider):
    """A cursor that was there before ends the reading, and nothing counts as absent."""
    with Hostile(lambda h: send(h, json.dumps(page(provider, 1, "again")).encode())) as server:
        error = ask(provider, server.url, lambda a: a.find("mine", job(provider), 0.0))
        assert isinstance(error, Unclear)
        assert len(server.asked) == 2
