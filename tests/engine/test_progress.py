from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jupyter_llm_batch.core import text
from jupyter_llm_batch.core.batch import Batch
from jupyter_llm_batch.core.job import Counts, Job, JobState
from jupyter_llm_batch.core.request import Mode, Recipe, Shape
from jupyter_llm_batch.core.result import ErrorKind, Outcome, Sample
from jupyter_llm_batch.engine.status import snapshot

BATCH = Batch(
    id="b1",
    notebook="nb",
    name="sentiment",
    version=1,
    created_at=1_000.0,
    rows=1_000,
    recipe=Recipe(),
    models=["openai:gpt-5-mini"],
    shape=Shape(kind="list"),
    plan_hash="h",
)
JOB = Job(
    id="j1",
    batch_id="b1",
    round=0,
    number=0,
    provider="openai",
    model="gpt-5-mini",
    endpoint="chat",
    rows=1_000,
    bytes=10_000,
    payload="p",
    state=JobState.RUNNING,
    remote_id="batch_1",
    remote_state="in_progress",
    counts=Counts(total=1_000, done=412, failed=3),
    submitted_at=1_010.0,
)
NOW = 1_120.0


def edit(record, **changes):
    return msgspec.structs.replace(record, **changes)


def shot(batch=BATCH, jobs=(JOB,), now=NOW, outcomes=None, **options):
    facts = snapshot.Facts(outcomes=outcomes or {}, **options)
    return snapshot.snapshot(batch, jobs, now, facts)


def finished(**changes):
    return edit(BATCH, finished_at=1_200.0, **changes)


def done_job(**changes):
    return edit(JOB, state=JobState.DONE, tally={"ok": 1_000}, **changes)


def test_the_line_tells_it_all():
    """The line holds name, model, state, counts, time and whether it is safe to close."""
    line = shot(jobs=[edit(JOB, counts=Counts(total=1_000, done=9, failed=3))]).line
    assert line == (
        "sentiment · openai:gpt-5-mini · running at OpenAI · 9 of 1,000 done, 3 failed · "
        "2 min · safe to close"
    )


def test_the_line_of_a_finished_batch():
    """A finished batch says what was answered, what it took and cost, and no more."""
    view = shot(finished(), [done_job()], outcomes={"ok": 997, "failed": 3}, cost=0.01234, saved=2)
    assert view.line == (
        "sentiment · openai:gpt-5-mini · done, 3 rows without an answer · "
        "997 of 1,000 answered, 3 failed · 3 min · "
        "$0.0123, saved $2.00"
    )


def test_the_line_says_until_when_answers_are_kept():
    """Answers to be collected have their date, then the provider's copy; what is gone has none."""
    until = 1_798_000_000.0  # 23 December 2026
    assert "safe to close · available until 2" in shot(jobs=[edit(JOB, keep_until=until)]).line
    ended = done_job(keep_until=until)
    line = shot(finished(), [ended], outcomes={"ok": 1_000}).line
    assert " · available until 2" in line
    for job, now in [
        (edit(ended, tidied="deleted"), NOW),
        (edit(ended, state=JobState.GONE), NOW),
        (ended, until + 1),
        (done_job(), NOW),
    ]:
        assert "until" not in shot(finished(), [job], now, outcomes={"ok": 1_000}).line
    # The warning names the moment itself.
    assert shot(jobs=[edit(JOB, keep_until=NOW + 60)]).line.count("after") == 1
    assert "available until" not in shot(jobs=[edit(JOB, keep_until=NOW + 60)]).line


def test_what_becomes_of_a_batch_when_its_kernel_is_lost():
    """Only what the provider has goes on; the unsent, real time and a held sample do not."""
    planned = edit(JOB, state=JobState.PLANNED, remote_id=None, counts=None)
    realtime = edit(planned, mode=Mode.REALTIME)
    held = edit(BATCH, held=True)
    assert shot().alone == "the batch is still running at the provider"
    assert shot(jobs=[JOB, planned]).alone == "rows that are not sent yet need a running kernel"
    assert shot(jobs=[realtime]).alone == "rows sent in real time need a running kernel"
    answered = edit(realtime, state=JobState.DONE, tally={"ok": 5})
    assert "nothing more is sent without your OK" in shot(held, [answered, planned]).alone
    assert "real time" in shot(held, [realtime, planned]).alone
    assert shot(finished(), [done_job()], outcomes={"ok": 1_000}).alone == ""


def test_the_line_says_that_answers_are_simulated():
    """Simulated batches are marked in the line."""
    assert " · simulated · " in shot(edit(BATCH, simulated=True)).line


def test_terminal_escapes_of_a_provider_do_not_reach_the_line():
    """Escape codes and line breaks in an error from outside become spaces."""
    failed = edit(JOB, state=JobState.FAILED, error="no\n\x1b[31mway\u2028out")
    view = shot(finished(), [failed], outcomes={"failed": 1_000})
    assert "failed: no [31mway out" in view.line


@pytest.mark.parametrize(
    ("batch", "jobs", "outcomes", "state", "words"),
    [
        (edit(BATCH, draft=True), [], {}, "draft", "not sent yet: %llm_batch submit sentiment"),
        (BATCH, [], {}, "preparing", "preparing"),
        (BATCH, [edit(JOB, state=JobState.PLANNED)], {}, "submitting", "uploading"),
        (BATCH, [edit(JOB, state=JobState.UPLOADED)], {}, "submitting", "submitting"),
        (BATCH, [edit(JOB, state=JobState.SUBMITTING)], {}, "submitting", "submitting"),
        (
            BATCH,
            [JOB, edit(JOB, state=JobState.PLANNED)],
            {},
            "submitting",
            "uploading, 1 of 2 jobs accepted",
        ),
        (
            BATCH,
            [edit(JOB, state=JobState.PLANNED, not_before=NOW + 30, error="no connection")],
            {},
            "submitting",
            "trying again in 30 s: no connection",
        ),
        (
            BATCH,
            [JOB, edit(JOB, state=JobState.PLANNED, not_before=NOW + 30)],
            {},
            "running",
            "running at OpenAI, 1 of 2 jobs wait for room",
        ),
        (
            BATCH,
            [edit(JOB, remote_state="validating")],
            {},
            "running",
            "waiting for OpenAI to start",
        ),
        (
            BATCH,
            [edit(JOB, provider="google", remote_state="JOB_STATE_PENDING")],
            {},
            "running",
            "waiting for Google to start",
        ),
        (BATCH, [JOB], {}, "running", "running at OpenAI"),
        (edit(BATCH, round=1), [done_job(), JOB], {}, "running", "running at OpenAI, retry 1"),
        (
            BATCH,
            [JOB, edit(JOB, provider="anthropic")],
            {},
            "running",
            "running at OpenAI and Anthropic",
        ),
        (
            BATCH,
            [edit(JOB, provider="anthropic", remote_state="in_progress", counts=None)],
            {},
            "running",
            "running at Anthropic (Anthropic reports progress only at the end)",
        ),
        (BATCH, [edit(JOB, state=JobState.COLLECTING)], {}, "collecting", "collecting answers"),
        (BATCH, [done_job()], {"ok": 1_000}, "collecting", "collecting answers"),
        (
            BATCH,
            [edit(JOB, state=JobState.UNKNOWN, error="two candidates"), JOB],
            {},
            "attention",
            "the outcome of a submission is unknown: two candidates",
        ),
        (
            BATCH,
            [edit(JOB, state=JobState.UNKNOWN), JOB],
            {},
            "submitting",
            "checking whether OpenAI took the submission",
        ),
        (
            edit(BATCH, cancel_requested=True),
            [JOB],
            {},
            "running",
            "cancelling, waiting for OpenAI",
        ),
        (finished(), [done_job()], {"ok": 1_000}, "done", "done"),
        (
            finished(),
            [done_job()],
            {"ok": 1, "failed": 999},
            "partial",
            "done, 999 rows without an answer",
        ),
        (finished(rows=0), [], {}, "done", "done"),
        (
            finished(cancel_requested=True),
            [done_job()],
            {"ok": 9, "cancelled": 991},
            "cancelled",
            "cancelled",
        ),
        (finished(cancel_requested=True), [done_job()], {"ok": 1_000}, "done", "done"),
        (
            finished(),
            [edit(JOB, state=JobState.FAILED, error="model not found")],
            {"failed": 1_000},
            "failed",
            "failed: model not found",
        ),
        (finished(), [done_job()], {"refused": 1_000}, "failed", "failed: no row was answered"),
    ],
)
def test_states_have_words_that_people_use(batch, jobs, outcomes, state, words):
    """Every situation has one state and says in words what is being waited for."""
    view = shot(batch, jobs, outcomes=outcomes)
    assert (view.state, view.words) == (state, words)


def test_a_paused_batch_says_why():
    """The reason of a pause is in the words, and no time left is promised."""
    view = shot(paused="sent with another OpenAI account", history=[9_000.0])
    assert view.state == "paused"
    assert view.words == "paused: sent with another OpenAI account"
    assert view.remaining is None


def test_safe_to_close_needs_every_job_accepted():
    """One job that is not accepted yet, or a draft, is not safe to close."""
    assert shot().safe_to_close
    assert shot(jobs=[JOB, edit(JOB, state=JobState.GONE)]).safe_to_close
    for state in (JobState.PLANNED, JobState.UPLOADED, JobState.SUBMITTING, JobState.UNKNOWN):
        assert not shot(jobs=[JOB, edit(JOB, state=state)]).safe_to_close
    assert not shot(jobs=[]).safe_to_close
    assert not shot(edit(BATCH, draft=True)).safe_to_close


def test_skipped_rows_are_not_counted_as_rows():
    """Skipped rows appear among the outcomes and in no sum."""
    view = shot(outcomes={"ok": 10, "skipped": 400, "waiting": 590})
    assert (view.rows, view.ok, view.failed, view.waiting) == (600, 10, 0, 590)
    assert view.outcomes == {"ok": 10, "skipped": 400}


def test_progress_is_unknown_when_no_provider_tells():
    """Without counts there is no progress and the line shows only the number of rows."""
    for counts in (None, Counts()):
        view = shot(jobs=[edit(JOB, counts=counts)])
        assert view.progress is None
        assert " · 1,000 rows · " in view.line


def test_progress_leaves_out_what_is_collected():
    """Rows of a job that were already collected are not counted a second time."""
    job = edit(JOB, state=JobState.COLLECTING, tally={"ok": 400})
    assert shot(jobs=[job], outcomes={"ok": 400}).progress == 15


def test_remaining_follows_the_slowest_job():
    """From 5 % on, the time left is extrapolated from the provider's counts."""
    quick = edit(JOB, counts=Counts(total=100, done=50), submitted_at=NOW - 100)
    slow = edit(JOB, counts=Counts(total=100, done=20, failed=5), submitted_at=NOW - 100)
    assert shot(jobs=[quick, slow]).remaining == pytest.approx(300)


def test_remaining_comes_from_history_before_there_is_a_pace():
    """Below 5 % the median of earlier batches is used, and nothing once it is over."""
    job = edit(JOB, counts=Counts(total=100, done=4))
    assert shot(jobs=[job], history=[100.0, 500.0, 9_000.0]).remaining == pytest.approx(380)
    assert shot(jobs=[job], history=[100.0]).remaining is None
    assert shot(jobs=[job]).remaining is None


def test_a_finished_batch_has_stopped():
    """Elapsed stands still at the end, and nothing remains."""
    view = shot(finished(), [done_job()], now=9_999_999.0, history=[1e9])
    assert (view.elapsed, view.remaining, view.finished) == (200.0, None, True)


def test_details_carry_jobs_errors_and_samples():
    """Jobs appear with model, remote state and id; the earliest deadline of the jobs counts."""
    late = edit(JOB, keep_until=900.0)
    error, sample = ErrorKind(kind="expired", rows=1), Sample(row=0, prompt="p", answer="a")
    view = shot(jobs=[edit(JOB, keep_until=950.0), late], errors=[error], samples=[sample])
    assert (view.errors, view.samples, view.keep_until) == ([error], [sample], 900.0)
    assert view.jobs[0].state == "running (in_progress)"
    assert view.jobs[0].model == "openai:gpt-5-mini"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-3, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_500, "2 h 05 min"), (97_200, "1 d 3 h")],
)
def test_durations(seconds, words):
    """Durations have the one or two units that matter."""
    assert text.duration(seconds) == words


@pytest.mark.parametrize(
    ("usd", "words"),
    [
        (0, "$0.00"),
        (0.0123, "$0.0123"),
        (0.00001, "under $0.0001"),
        (0.5, "$0.50"),
        (12.344, "$12.34"),
        (-1234.5, "-$1,234.50"),
    ],
)
def test_money(usd, words):
    """Small amounts keep their significant digits."""
    assert text.money(usd) == words


@st.composite
def situations(draw):
    tally = draw(
        st.dictionaries(
            st.sampled_from([*(str(outcome) for outcome in Outcome), "skipped"]),
            st.integers(0, 500),
        )
    )
    waiting = draw(st.integers(0, 500))
    batch = edit(
        BATCH,
        name=draw(st.text(min_size=1)),
        rows=sum(tally.values()) + waiting,
        models=draw(st.lists(st.text(), max_size=4)),
        round=draw(st.integers(0, 3)),
        draft=draw(st.booleans()),
        cancel_requested=draw(st.booleans()),
        simulated=draw(st.booleans()),
        finished_at=draw(st.none() | st.floats(0, 1e10)),
    )
    counts = st.builds(
        Counts, total=st.integers(0, 900), done=st.integers(0, 900), failed=st.integers(0, 900)
    )
    job = st.builds(
        edit,
        st.just(JOB),
        state=st.sampled_from(JobState),
        provider=st.text(),
        remote_state=st.none() | st.text(),
        counts=st.none() | counts,
        error=st.none() | st.text(),
        not_before=st.floats(0, 2e9),
        submitted_at=st.none() | st.floats(0, 2e9),
        tally=st.just({"ok": draw(st.integers(0, 900))}),
    )
    return batch, draw(st.lists(job, max_size=4)), tally


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    situations(),
    st.floats(0, 2e9),
    st.lists(st.floats(0, 1e6)),
    st.text(),
    st.none() | st.floats(0, 1e6),
)
def test_whatever_happens_the_rows_add_up_on_one_line(situation, now, history, paused, cost):
    """Rows always add up, no number is negative, and the line is one line."""
    batch, jobs, tally = situation
    view = shot(batch, jobs, now, tally, history=history, paused=paused, cost=cost)
    assert view.ok + view.failed + view.waiting == view.rows
    assert view.rows == batch.rows - tally.get("skipped", 0)
    assert 0 <= view.progress_failed <= (view.progress or 0) <= view.waiting
    assert view.elapsed >= 0
    assert view.remaining is None or view.remaining > 0
    assert len(view.line.splitlines()) == 1
    assert view.line.isprintable()
    assert view.finished == (batch.finished_at is not None)


def test_trouble_since_another_year_names_the_year():
    """A batch that has stopped long ago says since when without a doubt."""
    assert "1970" in text.moment(200 * 86400.0, 900 * 86400.0)
