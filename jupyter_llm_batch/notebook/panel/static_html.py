"""A snapshot as HTML that needs nothing: no script, no style sheet, no kernel, no network.

It is what remains in saved notebooks, on GitHub and in nbconvert. Colours are translucent or
inherited, so that one picture suits light and dark pages; where inline styles are stripped, the
text still reads in order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from ...core.result import ErrorKind, Sample
from ...core.snapshot import JobLine, Snapshot
from ...core.text import cache_words, count, duration
from ...engine.status.line import kept_words, spent, tally

_GREEN, _RED, _AMBER, _BLUE, _GREY = "#2da160", "#d6494b", "#c98a12", "#3b82d6", "#8a8f98"

_COLOURS = {
    "done": _GREEN,
    "failed": _RED,
    "stopped": _RED,
    "partial": _AMBER,
    "attention": _AMBER,
    "paused": _AMBER,
    "draft": _GREY,
    "cancelled": _GREY,
}

_NO_REASON = ("ok", "skipped")

_FONT = "font-family:system-ui,-apple-system,'Segoe UI',sans-serif;font-size:13px;line-height:1.5"
_CARD = (
    f"{_FONT};max-width:960px;margin:2px 0;padding:10px 14px;"
    "border:1px solid rgba(128,128,128,.35);border-radius:8px"
)
_MUTED = "opacity:.72"
_CODE = "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:12px"
_CHIP = (
    f"{_CODE};unicode-bidi:isolate;padding:1px 7px;border-radius:9px;"
    "background:rgba(128,128,128,.16)"
)
_SIMULATED = (
    "padding:1px 8px;border-radius:9px;font-weight:600;font-size:12px;color:inherit;"
    "border:1px dashed #c98a12;background:rgba(201,138,18,.22)"
)
_CELL = "text-align:left;vertical-align:top;padding:3px 14px 3px 0;unicode-bidi:isolate"


def text(snapshot: Snapshot) -> str:
    """Return the snapshot as one line of text."""
    return snapshot.line


def bundle(snapshot: Snapshot) -> dict[str, str]:
    """Return the snapshot as a display bundle."""
    return {"text/html": render(snapshot), "text/plain": text(snapshot)}


def render(snapshot: Snapshot) -> str:
    """Return the snapshot as HTML."""
    parts = (_head, _bar, _facts, _advice, _details)
    body = "".join(part(snapshot) for part in parts)
    # Two generations of MathJax are told that a price is no formula.
    return f'<div class="mathjax_ignore tex2jax_ignore" style="{_CARD}">{body}</div>'


def _head(snapshot: Snapshot) -> str:
    colour = _COLOURS.get(snapshot.state, _BLUE)
    dot = (
        '<span style="display:inline-block;width:9px;height:9px;border-radius:50%;'
        f'margin-right:3px;background:{colour}"></span>&nbsp;'
    )
    simulated = f' <span style="{_SIMULATED}">simulated</span>' if snapshot.simulated else ""
    return (
        f'<div><strong style="font-size:14px"><bdi>{escape(snapshot.title)}</bdi></strong> '
        f'<span style="{_CHIP}">{escape(snapshot.model)}</span>{simulated} '
        f'<span style="margin-left:8px">{dot}<bdi>{escape(snapshot.words)}</bdi></span></div>'
    )


def _bar(snapshot: Snapshot) -> str:
    done = (snapshot.progress or 0) - snapshot.progress_failed
    cancelled = min(snapshot.outcomes.get("cancelled", 0), snapshot.failed)
    parts = [
        (snapshot.ok - snapshot.cut, _GREEN, "1"),
        (snapshot.cut, _AMBER, "1"),
        (snapshot.failed - cancelled, _RED, "1"),
        (cancelled, _GREY, "1"),
        (done, _GREEN, ".45"),
        (snapshot.progress_failed, _RED, ".45"),
    ]
    segments = "".join(
        f'<div style="width:{100 * rows / snapshot.rows:.3f}%;background:{colour};'
        f'opacity:{opacity}"></div>'
        for rows, colour, opacity in parts
        if rows
    )
    return (
        '<div style="display:flex;height:6px;margin:8px 0;border-radius:3px;overflow:hidden;'
        f'background:rgba(128,128,128,.25)">{segments}</div>'
    )


def _facts(snapshot: Snapshot) -> str:
    facts = [tally(snapshot) + _reasons(snapshot)]
    if snapshot.outcomes.get("skipped"):
        facts.append(f"{count(snapshot.outcomes['skipped'])} skipped")
    if snapshot.state != "draft":
        facts.append(duration(snapshot.elapsed))
    facts += spent(snapshot)
    if snapshot.cached is not None:
        facts.append(cache_words(snapshot.cached))
    if snapshot.deadline is not None:
        facts.append(f"deadline in {duration(snapshot.deadline)}")
    if not snapshot.finished and snapshot.safe_to_close:
        facts.append("safe to close")
    facts.append(kept_words(snapshot))
    return f"<div>{' · '.join(f'<bdi>{escape(fact)}</bdi>' for fact in facts if fact)}</div>"


def _reasons(snapshot: Snapshot) -> str:
    kinds = {name: rows for name, rows in snapshot.outcomes.items() if name not in _NO_REASON}
    kinds.pop("cancelled", None)  # they are counted by themselves
    if not kinds.keys() - {"failed"}:
        return ""
    return f" ({', '.join(f'{count(rows)} {name}' for name, rows in kinds.items())})"


def _advice(snapshot: Snapshot) -> str:
    lines = [f"<bdi>{escape(each)}</bdi>" for each in (snapshot.question, snapshot.notice) if each]
    if snapshot.finished and (snapshot.failed or snapshot.cut):
        lines.append(f"Why: {_command('errors', snapshot)}")
    if snapshot.finished and snapshot.retryable:
        rows = "1 row" if snapshot.retryable == 1 else f"{count(snapshot.retryable)} rows"
        how = "can be sent again" if snapshot.retryable > snapshot.unsent else "can still be sent"
        lines.append(f"{rows} {how}: {_command('retry', snapshot)}")
    return f'<div style="{_MUTED}">{" · ".join(lines)}</div>' if lines else ""


def _command(verb: str, snapshot: Snapshot) -> str:
    return f'<code style="{_CODE}">%llm_batch {verb} {escape(snapshot.title)}</code>'


def _details(snapshot: Snapshot) -> str:
    parts = [
        _errors(snapshot.errors),
        _samples(snapshot.samples),
        _jobs(snapshot.jobs),
        _options(snapshot.options),
    ]
    shown = "".join(part for part in parts if part)
    if not shown:
        return ""
    summary = f'<summary style="cursor:pointer;{_MUTED}">Details</summary>'
    return f'<details style="margin-top:6px">{summary}{shown}</details>'


def _errors(errors: Iterable[ErrorKind]) -> str:
    rows = [(error.kind, count(error.rows), error.example, error.remedy) for error in errors]
    return _table("Errors", ("kind", "rows", "for instance", "what to do"), rows)


def _samples(samples: Iterable[Sample]) -> str:
    rows = [(count(sample.row), sample.prompt, sample.answer) for sample in samples]
    return _table("Sample of answers", ("row", "prompt", "answer"), rows)


def _jobs(jobs: Iterable[JobLine]) -> str:
    rows = [
        (job.id, job.model, count(job.rows), job.state, job.remote_id, job.error) for job in jobs
    ]
    return _table("Jobs", ("job", "model", "rows", "state", "provider's id", "error"), rows)


def _options(typed: str) -> str:
    if not typed:
        return ""
    return f'{_heading("Options")}<code style="{_CODE}">{escape(typed)}</code>'


def _heading(title: str) -> str:
    return f'<div style="margin:8px 0 2px;font-weight:600">{title}</div>'


def _table(title: str, names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table without the columns that are empty in all rows."""
    if not rows:
        return ""
    used = [index for index in range(len(names)) if any(row[index] for row in rows)]
    head = "".join(f'<th style="{_CELL};{_MUTED}">{names[index]}</th>' for index in used)
    lines = ["".join(_cell(row[index]) for index in used) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return (
        f'{_heading(title)}<div style="overflow-x:auto">'
        '<table style="border-collapse:collapse;margin:0;font-size:12px">'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(value: str) -> str:
    wrap = "pre-wrap" if len(value) > 24 else "nowrap"
    return f'<td style="{_CELL};white-space:{wrap}">{escape(value)}</td>'
