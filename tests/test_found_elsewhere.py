"""Adopted batches of other people's programs, as they were recorded or told of in public."""

from __future__ import annotations

import json
import re

import pytest
from recordings import NEEDED, RECORDINGS
from replay import Replay

pytestmark = NEEDED

KEYS = {
    "OPENAI_API_KEY": "sim-0penAiKey0fTheTests7x",
    "GEMINI_API_KEY": "sim-AIza-Go0gleKey0fTheTests",
}


@pytest.fixture
def replayed(make_client):
    """Return a client that talks to a server which answers what a file holds, and that server."""
    servers = []

    def serve(exchanges):
        if isinstance(exchanges, str):
            exchanges = json.loads((RECORDINGS / "found" / f"{exchanges}.json").read_text())
        for exchange in exchanges:  # the SDK asks a newer version of the same path
            request = exchange["request"]
            request["uri"] = re.sub("/v1beta/", "/v1/", request["uri"])
        server = Replay(exchanges)
        servers.append(server)
        server.__enter__()
        environ = KEYS | {
            "OPENAI_BASE_URL": f"{server.url}/v1", "GOOGLE_GEMINI_BASE_URL": server.url,
        }  # fmt: skip
        return make_client(environ=environ), server

    yield serve
    for server in servers:
        server.__exit__()


def posts(server):
    return [asked.path for asked in server.asked if asked.method == "POST"]


def test_a_batch_that_was_refused_for_lack_of_room_is_not_sent(replayed):
    """What was adopted is read: it ends with the provider's reason."""
    client, server = replayed("tok2")
    remote_id = next(
        path.rpartition("/")[2] for path in _paths("tok2") if path.startswith("/v1/batches/batch_")
        and "NEW" not in path
    )  # fmt: skip
    handle = client.adopt(f"openai:{remote_id}", "found").wait(60)
    assert posts(server) == []
    assert "Enqueued token limit" in repr(handle)


def _paths(name):
    exchanges = json.loads((RECORDINGS / "found" / f"{name}.json").read_text())
    return [re.sub("^https?://[^/]*", "", each["request"]["uri"]) for each in exchanges]
