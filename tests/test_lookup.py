"""Looking for the job of a create whose answer was lost."""

import pytest
from support import Shifted

#: A model of every provider, and where its jobs are created.
CREATES = {
    "openai:gpt-5-mini": "*/batches",
    "anthropic:claude-haiku-4-5": "*/batches",
    "google:gemini-2.5-flash": "*:batchGenerateContent",
}


@pytest.mark.parametrize("ahead", [-7200.0, 7200.0])
@pytest.mark.parametrize("model", CREATES)
def test_a_wrong_clock_buys_nothing_twice(make_client, sim, model, ahead):
    """What was accepted is found, however old or young the listing makes it look."""
    clock = Shifted()
    clock.ahead = ahead
    client = make_client(clock=clock)
    sim.fault(action="accept_then_drop", method="POST", path=CREATES[model])
    client.submit(name="x", over=["a", "b"], model=model).wait(60)
    assert sim.summary()["max_per_body"] == 1
