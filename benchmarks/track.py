"""Measures what `track()` adds to a call: the same calls with and without it, in alternation.

    python benchmarks/track.py [--calls 400]

Processor time of the calling thread is taken, so that other work on the machine does not count. The
server answers at once, from memory and over the client's own transport, so that nothing but
the following of the call makes a difference. The budget is one millisecond a call.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import httpx2
import openai

import jupyter_llm_batch as llm_batch
from jupyter_llm_batch.client import session
from jupyter_llm_batch.client.client import Client

BUDGET = 0.001
BLOCK = 20


def answer(text: str, *, stream: bool) -> httpx2.Response:
    usage = {"prompt_tokens": 9, "completion_tokens": 200, "total_tokens": 209}
    shared = {"id": "c", "created": 1, "model": "gpt-5-mini"}
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": text}}
        body = {"object": "chat.completion", "choices": [choice], "usage": usage, **shared}
        return httpx2.Response(200, json=body)
    chunk = '{"id":"c","object":"chat.completion.chunk","created":1,"model":"gpt-5-mini","choices":'
    lines = [
        f'data: {chunk}[{{"index":0,"delta":{{"content":"word "}}}}]}}\n\n' for _ in range(200)
    ]
    last = f'data: {chunk}[],"usage":{{"prompt_tokens":9,"completion_tokens":200}}}}\n\n'
    content = "".join([*lines, last, "data: [DONE]\n\n"])
    return httpx2.Response(200, content=content, headers={"content-type": "text/event-stream"})


def one(http: httpx2.Client, request: httpx2.Request) -> float:
    began = time.thread_time()
    found = http.send(request, stream=True)
    for _ in found.iter_bytes():
        pass
    found.close()
    return time.thread_time() - began


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=400)
    calls = parser.parse_args().calls
    text = "word " * 1000
    session.use(Client(folder=Path(tempfile.mkdtemp()), notebook="bench"))
    for stream in (False, True):

        def handler(_: httpx2.Request, stream: bool = stream) -> httpx2.Response:
            return answer(text, stream=stream)

        http = httpx2.Client(transport=httpx2.MockTransport(handler))
        # What the SDK itself does with a call takes many times as long, and differs from call to
        # call by more than is to be measured: so the request is sent as the SDK sends it.
        client = openai.OpenAI(api_key="sim-key", http_client=http)
        headers = {"user-agent": client.user_agent}
        url = f"{client.base_url}chat/completions"
        request = http.build_request("POST", url, json={"messages": []}, headers=headers)
        one(http, request)
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for block in range(2 * calls // BLOCK):
            tracked = bool(block % 2)
            if tracked:
                llm_batch.track()
            seconds[tracked] += [one(http, request) for _ in range(BLOCK)]
            llm_batch.untrack()
        plain, followed = (statistics.median(seconds[kind]) for kind in (False, True))
        kind = "stream of 201 events" if stream else "one answer"
        added = followed - plain
        verdict = "ok" if added < BUDGET else "OVER THE BUDGET"
        print(f"{kind}: {plain * 1000:.3f} ms, tracked {added * 1000:+.3f} ms ({verdict})")
    session.current().close()


if __name__ == "__main__":
    main()
