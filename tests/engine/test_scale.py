"""Sizes that people bring: every row accounted for, none billed twice."""

import pandas as pd
import pytest
from support import mark

MODEL = "openai:gpt-5-mini"


@pytest.mark.parametrize(("rows", "jobs"), [(50_000, 1), (120_000, 3)])
def test_large_batches_account_for_every_row(client, sim, rows, jobs):
    """Limits split the rows into jobs; one frame comes back, each answer on its row."""
    frame = pd.DataFrame({"text": [f"row {i}" for i in range(rows)]})
    handle = client.submit("{{ text }}", name="x", over=frame, model=MODEL).wait(250)
    assert [job.rows for job in client.store.jobs(handle.id)] == [
        min(50_000, rows - first) for first in range(0, rows, 50_000)
    ]
    assert len(client.store.jobs(handle.id)) == jobs
    out = handle.answers()
    assert len(out) == rows
    assert out["answer"].notna().all()
    for i in range(0, rows, 997):
        assert mark(f"row {i}") in out["answer"].iloc[i]
    summary = sim.summary()
    assert (summary["rows"], summary["max_per_body"]) == (rows, 1)
