"""What the line magic prints: tables, one row, errors, a preview. Text and HTML side by side."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from ...client.client import Client
from ...client.decisions import check_ended
from ...client.handle import BatchHandle
from ...core.batch import Batch
from ...core.errors import redact
from ...core.job import JobState
from ...core.result import Result, Usage
from ...core.snapshot import Snapshot
from ...core.terminal import print  # noqa: A004 - what is printed is cleaned
from ...core.text import count, duration, local_time, many, money, spans
from ...costs.rates import Cost
from ...engine import lookup
from ...engine.reconcile import CUT
from ...providers.shared.media import shortened
from ...submission import find
from ...submission.preview import Preview
from . import money as money_tables
from .grid import grid

#: Reasons that `errors` lists.
_REASONS = 50

#: Characters of one text that `show` prints.
_SHOWN = 20_000

#: States of a job that no provider has taken.
_NOT_SENT = {JobState.PLANNED, JobState.UPLOADED, JobState.SUBMITTING, JobState.UNKNOWN}


def table(batches: Iterable[tuple[Batch, Snapshot]], *, everywhere: bool) -> None:
    """Display batches, one a line, the latest first."""
    batches = [*batches]
    titles = find.titles(batch for batch, _ in batches)
    rows = []
    for batch, snapshot in sorted(batches, key=lambda each: each[0].created_at, reverse=True):
        at = local_time(batch.created_at, "%d %b %H:%M")
        cancelled = snapshot.outcomes.get("cancelled", 0)
        ended = snapshot.state == "cancelled" and cancelled
        which = f" ({many(cancelled, 'row')})" if ended else ""
        row = [
            at,
            titles[batch.id] + (" (simulated)" if snapshot.simulated else ""),
            snapshot.model,
            snapshot.words + which,
            count(snapshot.rows),
            "" if batch.draft else _answered(snapshot),
            "" if batch.draft else count(snapshot.failed - cancelled),
            money(snapshot.cost) if snapshot.cost is not None else "",
            money(snapshot.saved) if snapshot.saved is not None else "",
            "" if batch.draft else duration(snapshot.elapsed),
            snapshot.options,
        ]
        rows.append([batch.notebook, *row] if everywhere else row)
    head = [
        "submitted", "name", "model", "state", "rows", "ok", "failed", "cost", "saved", "took",
        "options",
    ]  # fmt: skip
    grid(["notebook", *head] if everywhere else head, rows)


def _answered(snapshot: Snapshot) -> str:
    cut = f" ({count(snapshot.cut)} cut)" if snapshot.cut else ""
    return f"{count(snapshot.ok)}{cut}"


#: What is shown instead of a row: the answers that name none.
UNASSIGNED = "unassigned"
_MOST_UNASSIGNED = 50


def unassigned(handle: BatchHandle) -> None:
    """Print the answers that came back without a key, as they came."""
    found = handle.unassigned()
    if not found:
        print(f"Every answer of {handle.name} belongs to a row.")
        return
    print(
        f"{many(len(found), 'answer')} of {handle.name} came back without a key. They are not bound"
        " to rows, since their order proves nothing."
    )
    for number, result in enumerate(found[:_MOST_UNASSIGNED]):
        print(f"\n--- answer {number} ({result.custom_id or 'no key'}) ---\n{_short(result.said)}")
    if len(found) > _MOST_UNASSIGNED:
        print(f"\nAll of them: jupyter_llm_batch.get({handle.name!r}).unassigned()")


def row(client: Client, handle: BatchHandle, wanted: str) -> None:
    """Print the exact prompt of a row, its raw answer and its tokens."""
    batch = handle.record
    if wanted == UNASSIGNED and handle.unassigned():
        unassigned(handle)
        return
    view = client.library.row(batch, wanted)
    number, job, line, result = view.number, view.job, view.request, view.result
    label = "" if wanted == str(number) else f" ({wanted})"
    print(f"row {number}{label} of {handle.name}, {job.provider}:{job.model}")
    print(f"\n--- prompt ---\n{_bounded(view.prompt)}")
    if result is None:
        print("\n--- no answer yet ---")
        return
    how = f"{result.outcome}, cut" if result.cut else f"{result.outcome}"
    print(f"\n--- {how} ({result.finish_reason or result.code or 'no reason given'}) ---")
    _answer(result)
    usage = result.usage
    print(
        f"\n--- tokens: {usage.input} in ({usage.cached} cached), "
        f"{usage.output} out ({usage.reasoning} reasoning){_row_cost(view.cost, result)} ---"
    )
    if line:
        print(f"\n--- request ---\n{_pretty(line)}")
    if result.raw:
        print(f"\n--- response ---\n{_pretty(result.raw)}")


def _answer(result: Result) -> None:
    """Print what came back: thoughts, texts, calls, vectors, or why there is nothing."""
    if result.reasoning:
        print(f"[reasoning] {_short(result.reasoning)}\n")
    if result.choices is not None:
        for number, text in enumerate(result.choices, 1):
            print(
                f"[answer {number} of {len(result.choices)}] "
                f"{'(none)' if text is None else _bounded(text)}"
            )
    elif result.text:
        print(_bounded(result.text))
    for call in result.tool_calls:
        print(f"[tool call] {_bounded(str(call))}" + (f"  ({call.id})" if call.id else ""))
    vectors = result.vectors or ([result.vector] if result.vector is not None else [])
    for vector in vectors:
        head = ", ".join(f"{value:.4g}" for value in vector[:4])
        print(f"[vector of {len(vector):,}] {head}{', …' if len(vector) > 4 else ''}")
    if result.error:
        print(_bounded(redact(result.error)))


def _short(text: str) -> str:
    return text if len(text) < 2_000 else f"{text[:2_000]}\n… {len(text):,} characters in all"


def _row_cost(cost: Cost | None, result: Result) -> str:
    if result.billed and result.usage == Usage():
        return ", cost: not known, it may have been billed"
    if cost is None:
        return ", cost: the price is not known"
    if result.usage == Usage():
        return ", not billed"
    return f", cost: ${cost.batch:.3g}, ${cost.realtime:.3g} in real time"


def _pretty(line: bytes) -> str:
    try:
        short = msgspec.json.encode(shortened(msgspec.json.decode(line)))
        text = msgspec.json.format(short, indent=2).decode()
    except (ValueError, RecursionError):
        text = line.decode(errors="replace")
    return redact(_bounded(text))


def _bounded(text: str) -> str:
    """Return `text`, or its beginning where it would fill the notebook."""
    if len(text) < _SHOWN:
        return text
    return f"{text[:_SHOWN]}\n… {len(text):,} characters in all; batch.results() has them"


def errors(handle: BatchHandle) -> None:
    """Display rows without a whole answer by reason, and what to do about each kind."""
    snapshot, failures = handle.snapshot(), handle.failures()
    if not failures:
        print(f"{_no_errors(snapshot)}: {snapshot.line}")
        return
    more = len(failures) - _REASONS
    cut = sum(len(kind.rows) for kind in failures if kind.kind.startswith(CUT))
    failed = sum(len(kind.rows) for kind in failures) - cut
    note = f"{handle.name}: {count(failed)} of {many(snapshot.rows, 'row')} got no answer."
    if cut:
        note += f" {many(cut, 'answer was', 'answers were')} cut."
    failures = failures[:_REASONS]
    if more > 0:
        note += (
            f"\n{count(more)} further reasons: jupyter_llm_batch.get({handle.name!r}).failures()"
        )
    which = [spans(kind.rows) for kind in failures]
    for number, words in enumerate(which):
        if _is_cut(words):
            code = f"jupyter_llm_batch.get({handle.name!r}).failures()[{number}].rows"
            note += f"\nAll rows of `{failures[number].kind}`: {code}"
    grid(
        ["reason", "rows", "which", "for example", "what to do"],
        [
            [kind.kind, count(len(kind.rows)), words, kind.example[:160], kind.remedy]
            for kind, words in zip(failures, which, strict=True)
        ],
        note,
    )


def _is_cut(words: str) -> bool:
    return words.endswith(" more")


def _no_errors(snapshot: Snapshot) -> str:
    """Say what it means that no row has failed."""
    if snapshot.finished:
        return "no errors"
    stuck = [job.error for job in snapshot.jobs if job.error and job.state.split()[0] in _NOT_SENT]
    if stuck:
        return f"no row has failed, but a submission does not get through ({stuck[0]})"
    if not snapshot.ok:
        return "no errors yet, nothing has come back"
    return "no errors so far"


def goes_on(handle: BatchHandle) -> str:
    """Say where a batch goes on that is no longer waited for."""
    snapshot, name = handle.snapshot(), handle.name
    if snapshot.safe_to_close:
        where = f"{name} is still running at the provider"
    elif snapshot.realtime:
        where = f"{name} keeps running in this kernel, in real time"
    else:
        where = f"{name} is still being sent from this kernel ({snapshot.words})"
    return f"{where}. Cancel it with `%llm_batch cancel {name}`"


def lost(handle: BatchHandle) -> None:
    """Display the submissions whose outcome is unknown, and what each may have become."""
    undecided = handle.lost()
    if not undecided:
        print(f"Nothing to resolve: {handle!r}")
        return
    rows = []
    for job, candidates in undecided:
        at = local_time(job.submitted_at, "%d %b %H:%M:%S")
        for remote in candidates:
            made = local_time(remote.created_at, "%d %b %H:%M:%S")
            rows.append([at, count(job.rows), remote.remote_id, made, remote.state])
        if not candidates:
            rows.append([at, count(job.rows), "none found so far", "", ""])
    grid(
        ["sent", "rows", "may be", "created", "state"],
        rows,
        f"%llm_batch resolve {handle.name} --as-created ID takes one of them; --as-absent --yes "
        "sends the rows again, and you pay twice if one of them is yours, or is yet to show. "
        + lookup.waiting(undecided),
    )


def before_retry(client: Client, handle: BatchHandle, *, unbilled: bool) -> None:
    """Say what a retry is about to send; `unbilled` leaves out what may have been billed."""
    check_ended(handle.record)
    plan = client.library.retry_plan(handle.record)
    rows, billed = plan.rows, plan.billed
    if plan.answered:
        print(
            f"{many(plan.answered, 'row was', 'rows were')} answered by a retry of an earlier "
            f"batch meanwhile: `%llm_batch results {handle.name}` binds them"
        )
    if plan.asked:
        print(
            f"{many(plan.asked, 'row is', 'rows are')} being asked by a retry of an earlier batch: "
            "taken from there"
        )
    if not rows:
        if not plan.missed:
            print(f"Nothing to retry: every row of {handle.name} has its answer")
        return
    left = len(billed) if unbilled else 0
    parts = []
    if again := len(rows) - plan.unsent - left:
        parts.append(f"{many(again, 'row')} without an answer to be sent again")
    if plan.unsent:
        parts.append(f"{many(plan.unsent, 'row')} to be sent for the first time")
    words = f"{handle.name}: {' and '.join(parts) or 'nothing to be sent'}"
    if left:
        words += f"; {many(left, 'row')} that may have been billed left as they are"
    elif billed:
        words += f"; {count(len(billed))} of them may have been billed: {spans(billed)}"
    print(words)


def _cut(text: str) -> str:
    return text if len(text) <= 2_000 else f"{text[:2_000]}…"


def preview(plan: Preview) -> None:
    """Print what ``--dry-run`` found: prompts, split, size. Nothing was sent."""
    if plan.same_as:
        print(f"the same as {plan.same_as}: running the cell attaches to it, at no new cost")
    if plan.note:
        print(f"mind: {plan.note}\n")
    if plan.system:
        print(f"--- system prompt ---\n{_cut(plan.system)}\n")
    for number, prompt in enumerate(plan.prompts):
        print(f"--- prompt {number + 1} of {plan.rows:,} ---\n{_cut(prompt)}\n")
    jobs = ", ".join(f"{many(rows, 'row')} ({size / 1e6:,.1f} MB)" for rows, size in plan.jobs)
    sent = sum(rows for rows, _ in plan.jobs)
    print(
        f"{plan.name}: {plan.model}, {many(sent, 'request')}, {many(len(plan.jobs), 'job')}: {jobs}"
    )
    if plan.media:
        media = many(plan.media, "image or file", "images and files")
        print(f"{media} ({plan.encoded * 3 / 4e6:,.1f} MB)")
    money_tables.estimate(plan)
    if plan.version > 1 and not plan.same_as:
        print(f"{plan.name} is there already: this would be its version {plan.name}#{plan.version}")
    if plan.reused or plan.reusing:
        print(f"{many(plan.reused, 'row')} would be taken from earlier runs at no cost")
    if plan.repeats:
        print(
            f"{many(plan.repeats, 'row repeats', 'rows repeat')} another's prompt: not asked again"
        )
    if plan.skipped:
        print(f"{many(plan.skipped, 'row is', 'rows are')} left out (--skip-null)")
    if plan.refused:
        print("nothing was sent, and nothing would be: see above")
    else:
        deed = "attach" if plan.same_as else "submit"
        print(f"nothing was sent; run the cell without --dry-run to {deed}")
