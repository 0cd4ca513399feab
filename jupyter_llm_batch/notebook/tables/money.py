"""What the magics show about money: an estimate before, the ledger after."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from html import escape

from IPython.display import display

from ...core.terminal import print  # noqa: A004 - what is printed is cleaned
from ...core.text import count, many, money
from ...costs.advice import Advice
from ...costs.comparison import Comparison, Side
from ...costs.ledger import Ledger, Total, describe_total
from ...submission.preview import Preview
from . import chart
from .grid import bundle, grid

#: How to choose where there are no figures yet.
CHOOSING = """\
Don't need answers right away? Use a batch (half price).
Some rows are needed today? Add --deadline. Is the prompt still changing? Try --sample N first.
Does a person wait, or a call depend on the last answer? Use real time (--realtime for many rows).
Do all prompts begin with the same long text? Add --cache.
Is the task simple? Try a smaller model and compare. Do rows repeat? Add --dedupe or --reuse."""


def estimate(plan: Preview) -> None:
    """Display what a batch would use and cost, as a batch and in real time."""
    if not plan.estimates or plan.cost is None:
        return
    cost = plan.cost
    rows = []
    for each in plan.estimates:
        whose = f"{each.provider}:{each.model} " if len(plan.estimates) > 1 else ""
        how = f"{each.method}, from {count(each.sampled)} of {count(each.rows)} rows"
        if each.media:
            how += ", images and files by the provider's rules"
        if each.corrected != 1.0:
            how += f", times {each.corrected:.2f} as earlier batches were billed"
        rows.append(
            [f"{whose}input tokens", count(each.low), count(each.input), count(each.ceiling), how]
        )
        most = "no bound" if each.output_ceiling is None else count(each.output_ceiling)
        rows.append([f"{whose}output tokens", "", count(each.output), most, each.basis])
    saved = None
    if cost.expected is not None and cost.realtime is not None:
        saved = cost.realtime - cost.expected
    ceiling = "no ceiling" if cost.expected is not None else "not known"
    full = sum(each.full for each in plan.estimates)
    at_once = full == sum(each.rows for each in plan.estimates)
    rows.append(
        [
            "cost in real time" if at_once else "cost as a batch",
            _usd(cost.low), _usd(cost.expected, "not known"), _usd(cost.ceiling, ceiling),
            cost.source,
        ]
    )  # fmt: skip
    if not at_once:
        rows += [
            ["cost in real time", "", _usd(cost.realtime, "not known"), "", ""],
            ["saved by the batch", "", _usd(saved, "not known"), "", ""],
        ]
    notes = [*cost.notes]
    if full and not at_once:
        notes.append(
            f"--sample: {many(full, 'row is', 'rows are')} sent first, in real time and at full "
            "price; the rest waits for your OK"
        )
    if plan.deadline:
        notes.append(
            "--deadline: rows that are not done by then are sent in real time, at full price; the "
            "ceiling assumes that for all rows"
        )
    if any(each.reasks for each in plan.estimates):
        notes.append("the ceiling counts every round of --reask")
    if plan.budget is not None:
        spent, promised, budget = plan.budget
        notes.append(
            f"monthly budget: {money(budget)}, of which {money(spent)} are spent and "
            f"{money(promised)} are promised to batches under way"
        )
    if plan.refused:
        notes.append(f"would not be sent: {plan.refused}")
    grid(["", "low", "expected", "ceiling", "basis"], rows, "\n".join(notes))


def ledger(found: Ledger, group: str, *, title: str, budget: str = "") -> None:
    """Display what was spent and saved, in a sentence, a table and a picture."""
    said = f"{title}: {describe_total(found.total, simulated=found.simulated)}"
    if not found.lines:
        print(f"{title}: nothing was spent yet")
        return
    totals = found.by(group)
    parts = [("caching", "cache"), ("reuse", "reuse")]
    used = [(name, key) for name, key in parts if any(getattr(each, key) for each in totals)]
    head = [group, "spent", "saved", "by batch", *(f"by {name}" for name, _ in used)]
    cached = any(key == "cache" for _, key in used)
    # What the cache gave is cheap in real time as well: savings by it come on top of this.
    head.append("real-time price with caching" if cached else "in real time")
    head += ["answers", "input tokens", "output tokens"]
    rows = [_ledger_row(each, [key for _, key in used]) for each in totals]
    if len(rows) > 1:
        total = _ledger_row(found.total, [key for _, key in used])
        rows.append(["all", *total[1:]])
    told = bundle(head, rows, budget)
    picture = chart.svg(found, group)
    display(
        {
            "text/plain": f"{said}\n{told['text/plain']}",
            "text/html": f"<p class='mathjax_ignore tex2jax_ignore'>{escape(said)}</p>"
            f"{told['text/html']}<div class='mathjax_ignore tex2jax_ignore'>{picture}</div>",
        },
        raw=True,
    )


def _ledger_row(total: Total, parts: list[str]) -> list[str]:
    return [
        total.key,
        _usd(total.paid) + (" + unknown" if total.unpriced else ""),
        _usd(total.saved),
        _usd(total.batch),
        *(_usd(getattr(total, part)) for part in parts),
        _usd(total.realtime),
        count(total.rows),
        count(total.usage.input),
        count(total.usage.output),
    ]


def comparison(found: Comparison, *, differences: int = 10) -> None:
    """Display where two batches agree, what each cost, and a few of their differences."""
    left, right = found.left, found.right
    rows = [
        ["model", left.model, right.model],
        ["answered", count(left.answered), count(right.answered)],
        ["cost", _usd(left.paid, "not known"), _usd(right.paid, "not known")],
        ["per 1,000 answers", _per_thousand(left), _per_thousand(right)],
        ["input tokens", count(left.input_tokens), count(right.input_tokens)],
        ["output tokens", count(left.output_tokens), count(right.output_tokens)],
    ]
    grid(["", left.title, right.title], rows, _agreement(found))
    if not found.differences:
        return
    shown = found.differences[:differences]
    more = len(found.differences) - len(shown)
    grid(
        ["row", left.title, right.title],
        [[count(each.row), _short(each.left), _short(each.right)] for each in shown],
        f"and {count(more)} more: jupyter_llm_batch.compare({left.title!r}, {right.title!r})"
        ".frame()" if more else "",
    )  # fmt: skip


def _agreement(found: Comparison) -> str:
    if not found.both:
        return "\n".join([*found.notes, "no row has two answers to compare"])
    words = (
        f"{found.alike / found.both:.1%} agree: {count(found.alike)} of {count(found.both)} rows"
    )
    if found.same == found.alike:
        words += ", all of them exact matches" if found.same else ""
    else:
        words += (
            f", {count(found.same)} of them exact matches, the others up to case and punctuation"
        )
    parts = [words]
    if found.nearness is not None:
        parts = [f"mean cosine of {count(found.both)} pairs: {found.nearness:.4f}"]
    if found.fields:
        each = ", ".join(f"{name} {rows / found.both:.1%}" for name, rows in found.fields.items())
        parts.append(f"by field: {each}")
    if found.only_left or found.only_right:
        parts.append(
            f"only {found.left.title} answered {count(found.only_left)} rows, "
            f"only {found.right.title} {count(found.only_right)}"
        )
    return "\n".join([*found.notes, *parts])


def _per_thousand(side: Side) -> str:
    if side.paid is None or not side.answered:
        return ""
    return _usd(side.paid * 1000 / side.answered)


def _short(text: str) -> str:
    return text if len(text) <= 160 else f"{text[:159]}…"


def advice(found: Sequence[Advice]) -> None:
    """Display advice, the most valuable first."""
    if not found:
        print(
            "nothing to advise: no batch that has ended would have been cheaper by more than a "
            f"cent\n{CHOOSING}"
        )
        return
    grid(
        ["would have saved", "advice", "why", "how"],
        [[_usd(each.saves), each.what, each.why, each.command] for each in found],
        "Counted on what was done already. A %%llm_batch line takes the place of its cell's first "
        f"line.\n{CHOOSING}",
    )


def counted(found: dict[str, tuple[int, int, int]]) -> None:
    """Print what the providers counted, beside what was estimated for the same requests."""
    for model, (rows, exact, guessed) in found.items():
        off = f", {guessed / exact - 1:+.0%}" if exact else ""
        print(
            f"{model}: {count(exact)} input tokens in {count(rows)} rows, counted by the provider "
            f"(estimated {count(guessed)}{off})"
        )


def _usd(amount: Decimal | None, unknown: str = "") -> str:
    return unknown if amount is None else money(float(amount))
