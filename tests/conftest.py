"""What the tests share: a simulator, clients on it, and a search for keys after the last test."""

import leaks
import pytest
from support import FAST

from jupyter_llm_batch.client import Client
from jupyter_llm_batch.simulator import Simulator


def pytest_configure(config):
    """Have the run searched for keys at its end; among xdist's processes by the first."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(leaks.Search(config), "search-for-keys")


@pytest.fixture
def sim():
    """A simulator whose batches are done at the first poll."""
    with Simulator(seconds=0) as simulator:
        yield simulator


@pytest.fixture
def make_client(sim, tmp_path):
    """Return clients on one journal and one simulator; later ones are like restarted kernels."""
    made = []

    def make(**more):
        options = {
            "environ": sim.environ(), "folder": tmp_path / "data", "notebook": "nb.ipynb",
            "simulated": True, "policy": FAST,
        }  # fmt: skip
        client = Client(**(options | more))
        made.append(client)
        return client

    yield make
    for client in made:
        client.close()


@pytest.fixture
def client(make_client):
    """One client."""
    return make_client()
