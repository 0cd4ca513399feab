"""`track()`: every call of the three SDKs in real time is seen, none is changed."""

import asyncio
import gc

import httpx2
import pytest

import jupyter_llm_batch as llm_batch
from jupyter_llm_batch.client import session, tracking

MESSAGES = [{"role": "user", "content": "hello there"}]
GPT, CLAUDE, GEMINI = "gpt-5-mini", "claude-haiku-4-5", "gemini-2.5-flash"


@pytest.fixture
def tracked(client):
    """The calls seen so far, while tracking."""
    before = session._current
    session.use(client)
    llm_batch.track()

    def seen():
        session._tracker.flush()
        return tracking.cells(client.store)

    yield seen
    llm_batch.untrack()
    session._current = before


def openai_clients(sim):
    import openai

    options = {"api_key": "sim-key", "base_url": sim.openai_url, "max_retries": 0}
    return openai.OpenAI(**options), openai.AsyncOpenAI(**options)


def anthropic_clients(sim):
    import anthropic

    options = {"api_key": "sim-key", "base_url": sim.anthropic_url, "max_retries": 0}
    return anthropic.Anthropic(**options), anthropic.AsyncAnthropic(**options)


def google_client(sim, **more):
    from google import genai

    options = {"base_url": sim.google_url, **more}
    return genai.Client(api_key="sim-key", http_options=options)


def check(sim, uses):
    """What was seen is what the simulator billed: calls and tokens, by model."""
    billed, seen = {}, {}
    for entry in sim.ledger():
        total = billed.setdefault(entry["model"], [0, 0, 0])
        for i, n in enumerate([1, entry["input_tokens"], entry["output_tokens"]]):
            total[i] += n
    for use in uses:
        model = next(name for name in billed if use.model.startswith(name))
        total = seen.setdefault(model, [0, 0, 0])
        for i, n in enumerate([use.calls, use.usage.input, use.usage.output]):
            total[i] += n
    assert seen == billed


def test_openai_is_seen(sim, tracked):
    """Plain, streamed, raw and streamed-raw calls, sync and async, of three endpoints."""
    sync, asynchronous = openai_clients(sim)
    chat = {"model": GPT, "messages": MESSAGES}
    usage = {"stream": True, "stream_options": {"include_usage": True}}
    sync.chat.completions.create(**chat)
    assert len([*sync.chat.completions.create(**chat, **usage)]) > 3
    assert sync.chat.completions.with_raw_response.create(**chat).parse().choices
    with sync.chat.completions.with_streaming_response.create(**chat) as answer:
        answer.read()
    sync.responses.create(model=GPT, input="hi")
    assert len([*sync.responses.create(model=GPT, input="hi", stream=True)]) > 2
    sync.embeddings.create(model="text-embedding-3-small", input="some text")

    async def main():
        await asynchronous.chat.completions.create(**chat)
        async for _ in await asynchronous.chat.completions.create(**chat, **usage):
            pass
        await asynchronous.chat.completions.with_raw_response.create(**chat)
        async with asynchronous.chat.completions.with_streaming_response.create(**chat) as answer:
            await answer.read()
        await asyncio.gather(
            *(asynchronous.responses.create(model=GPT, input=f"{i}") for i in range(9))
        )

    asyncio.run(main())
    uses = tracked()
    check(sim, uses)
    assert sum(use.calls for use in uses) == 20
    assert not any(use.unknown or use.failed for use in uses)


def test_anthropic_is_seen(sim, tracked):
    """Messages plain, streamed in both ways, and raw; sync and async."""
    sync, asynchronous = anthropic_clients(sim)
    ask = {"model": CLAUDE, "messages": MESSAGES, "max_tokens": 100}
    sync.messages.create(**ask)
    assert len([*sync.messages.create(**ask, stream=True)]) > 3
    with sync.messages.stream(**ask) as stream:
        assert "".join(stream.text_stream)
    sync.messages.with_raw_response.create(**ask)

    async def main():
        await asynchronous.messages.create(**ask)
        async for _ in await asynchronous.messages.create(**ask, stream=True):
            pass
        async with asynchronous.messages.stream(**ask) as stream:
            await stream.get_final_message()
        await asynchronous.messages.with_raw_response.create(**ask)

    asyncio.run(main())
    uses = tracked()
    check(sim, uses)
    assert [use.calls for use in uses] == [8]


def httpx_clients():
    httpx = pytest.importorskip("httpx")
    return {"httpx_client": httpx.Client(), "httpx_async_client": httpx.AsyncClient()}


def httpx2_clients():
    return {"httpx_client": httpx2.Client(), "httpx_async_client": httpx2.AsyncClient()}


@pytest.mark.parametrize("clients", [dict, httpx2_clients, httpx_clients])
def test_gemini_is_seen(sim, tracked, clients):
    """Contents plain and streamed, sync and async, and embeddings, by each library it may use."""
    pytest.importorskip("aiohttp")
    client = google_client(sim, **clients())
    with_aiohttp = client._api_client._use_aiohttp()
    assert with_aiohttp is (clients is dict)
    ask = {"model": GEMINI, "contents": "hello"}
    client.models.generate_content(**ask)
    assert [*client.models.generate_content_stream(**ask)]
    client.models.embed_content(model="gemini-embedding-001", contents="text")

    async def main():
        await client.aio.models.generate_content(**ask)
        async for _ in await client.aio.models.generate_content_stream(**ask):
            pass
        await client.aio.aclose()

    asyncio.run(main())
    uses = tracked()
    assert not any(use.unknown or use.failed for use in uses if use.endpoint == "chat")
    chat = [use for use in uses if use.endpoint == "chat"]
    assert sum(use.calls for use in chat) == 4
    billed = [entry for entry in sim.ledger() if entry["model"] == GEMINI]
    assert sum(use.usage.output for use in chat) == sum(e["output_tokens"] for e in billed)
    assert sum(use.calls for use in uses) == len(sim.ledger())


@pytest.mark.parametrize("kind", ["openai", "anthropic"])
def test_sdks_with_aiohttp_below_are_seen_once(sim, tracked, kind):
    """Their clients over aiohttp are httpx2 clients: followed there, and not a second time."""
    pytest.importorskip("aiohttp")
    sdk = pytest.importorskip(kind)
    options = {"api_key": "sim-key", "max_retries": 0, "http_client": sdk.DefaultAioHttpClient()}

    async def main():
        if kind == "openai":
            async with sdk.AsyncOpenAI(base_url=sim.openai_url, **options) as client:
                await client.chat.completions.create(model=GPT, messages=MESSAGES)
        else:
            async with sdk.AsyncAnthropic(base_url=sim.anthropic_url, **options) as client:
                await client.messages.create(model=CLAUDE, messages=MESSAGES, max_tokens=9)

    asyncio.run(main())
    check(sim, uses := tracked())
    assert [(use.calls, use.unknown) for use in uses] == [(1, 0)]


def test_a_gemini_stream_that_is_dropped_over_aiohttp_counts_too(sim, tracked):
    """Refused calls, and streams that nobody reads to their end, are told apart."""
    pytest.importorskip("aiohttp")
    from google.genai import errors

    client = google_client(sim)

    async def main():
        stream = await client.aio.models.generate_content_stream(model=GEMINI, contents="hello")
        await anext(aiter(stream))
        await stream.aclose()
        with pytest.raises(errors.ClientError):
            await client.aio.models.generate_content(model=GEMINI, contents="[[sim:fail-400]]")
        await client.aio.aclose()

    asyncio.run(main())
    gc.collect()
    uses = tracked()
    assert (sum(use.calls for use in uses), sum(use.failed for use in uses)) == (1, 1)


def test_a_stream_that_is_dropped_counts_too(sim, tracked):
    """Whoever stops reading has paid all the same; tokens nobody told are called unknown."""
    sync, _ = openai_clients(sim)
    stream = sync.chat.completions.create(model=GPT, messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    del stream
    gc.collect()
    (use,) = tracked()
    assert (use.calls, use.unknown) == (1, 1)


def test_a_loop_is_priced_as_a_batch(sim, tracked):
    """What a cell's calls cost, and half of it: what they would have cost as a batch."""
    sync, _ = openai_clients(sim)
    for i in range(12):
        sync.chat.completions.create(model=GPT, messages=[{"role": "user", "content": f"{i}"}])
    (use,) = tracked()
    assert use.calls == 12
    assert use.cost == 2 * use.batch_cost > 0


def test_a_loop_over_streams_is_advised_about(client, sim, tracked):
    """Streams tell no tokens unless they are asked to: the loop is named, and its cost unknown."""
    sync, _ = openai_clients(sim)
    for i in range(12):
        messages = [{"role": "user", "content": f"{i}"}]
        for _ in sync.chat.completions.create(model=GPT, messages=messages, stream=True):
            pass
    assert tracked()[0].unknown == 12
    (found,) = client.advise()
    assert (found.kind, found.saves) == ("batch", None)
    assert f"12 calls of openai:{GPT}" in found.why
    assert "12 of them without token counts" in found.why
    assert found.command.startswith(f"%%llm_batch NAME -m openai:{GPT}")


def test_refused_calls_are_told_apart(sim, tracked):
    """A call that the provider refuses is no cost."""
    import openai

    sync, _ = openai_clients(sim)
    with pytest.raises(openai.BadRequestError):
        sync.chat.completions.create(
            model=GPT, messages=[{"role": "user", "content": "x [[sim:fail-400]]"}]
        )
    (use,) = tracked()
    assert (use.calls, use.failed) == (0, 1)
    assert not use.cost


def test_our_own_calls_are_not_counted(client, tracked):
    """Batches and real-time jobs have their own accounts."""
    client.submit(name="x", over=["a"], model=f"openai:{GPT}", realtime=True).wait(60)
    assert not tracked()


def test_untrack_puts_everything_back(client):
    """After `untrack` the clients' methods are the very same objects as before."""
    aiohttp, httpx = pytest.importorskip("aiohttp"), pytest.importorskip("httpx")

    def methods():
        kinds = httpx2.Client, httpx2.AsyncClient, httpx.Client, httpx.AsyncClient
        return [*(kind.send for kind in kinds), aiohttp.ClientSession._request]

    before = methods()
    session_before = session._current
    session.use(client)
    llm_batch.track()
    llm_batch.track()
    assert not [one for one, other in zip(methods(), before, strict=True) if one is other]
    llm_batch.untrack()
    llm_batch.untrack()
    assert methods() == before
    session._current = session_before


def test_neither_contents_nor_keys_are_kept(client, sim, tracked):
    """The journal holds counts; what was said and with which key is nowhere in it."""
    sync, _ = openai_clients(sim)
    said = "a very secret sentence"
    sync.chat.completions.create(model=GPT, messages=[{"role": "user", "content": said}])
    tracked()
    records = b"".join(client.store.spending.usage_events())
    assert b"secret" not in records
    assert b"sim-key" not in records


def test_the_cell_is_named(client, sim):
    """In IPython, calls are told by the cell and the execution count that made them."""
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    before = session._current
    session.use(client)
    shell.user_ns["sync"] = openai_clients(sim)[0]
    ask = f"sync.chat.completions.create(model={GPT!r}, messages={MESSAGES!r})"
    try:
        llm_batch.track()
        shell.run_cell(f"for _ in range(3): {ask}", store_history=True, cell_id="cell-a")
        shell.run_cell(ask, store_history=True, cell_id="cell-b")
    finally:
        llm_batch.untrack()
        session._current = before
    uses = {use.cell: use for use in tracking.cells(client.store)}
    assert {cell: use.calls for cell, use in uses.items()} == {"cell-a": 3, "cell-b": 1}
    assert uses["cell-b"].execution == uses["cell-a"].execution + 1 == shell.execution_count - 1
