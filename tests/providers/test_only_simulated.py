"""A simulation reaches the simulator on this machine and nobody else."""

import subprocess
import sys
import textwrap

import pytest

from jupyter_llm_batch import Settings
from jupyter_llm_batch.core.errors import UsageProblem


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "https://llm.example/v1"])
def test_a_server_that_is_not_the_simulator_is_refused(make_client, url):
    """Neither a local model nor a server elsewhere is asked by a simulated client."""
    client = make_client(settings=Settings(servers={"other": url}))
    with pytest.raises(UsageProblem, match="other is not simulated"):
        client.submit(name="x", over=["a"], model="other:m")
    assert client.batches() == []


def test_a_resource_elsewhere_is_refused(make_client, sim):
    """Azure's address in the environment of a simulation is not used."""
    azure = {"AZURE_OPENAI_ENDPOINT": "https://r.example", "AZURE_OPENAI_API_KEY": "sim-k"}
    client = make_client(environ=sim.environ() | azure)
    with pytest.raises(UsageProblem, match="azure is not simulated"):
        client.submit(name="x", over=["a"], model="azure:d")


def test_a_package_of_somebody_else_is_refused(tmp_path):
    """An adapter that an installed package brings would ask a real provider."""
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (tmp_path / "toy.py").write_text(
        "from jupyter_llm_batch.providers import Adapter\n"
        "class Toy(Adapter):\n"
        "    name = 'toy'\n"
        "    limits = encoder = parse = create = retrieve = list = fetch = None\n"
    )
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[jupyter_llm_batch.providers]\ntoy = toy:Toy\n")
    script = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from jupyter_llm_batch.providers import registry
        registry.make("toy", {})
        try:
            registry.make("toy", {}, simulated=True)
        except ValueError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "toy is not simulated" in done.stdout, done.stderr
