"""The ledger as a picture: by matplotlib where it is installed, else by a few bars of our own.

Both are SVG within the page. Text and axes take the colour of the page's own text, so that one
picture suits light and dark themes, and saved notebooks keep it.
"""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from ...core.text import money
from ...costs.ledger import Ledger, Total

SPENT, SAVED = "#3b82d6", "#2da160"
#: Stands for the colour of the page's text until the picture is there.
_INK = "#010203"
#: Bars beyond these are summed up in one.
_MOST = 20


def svg(ledger: Ledger, group: str) -> str:
    """Return sums by `group` as SVG; for days with what was spent and saved up to each."""
    totals = _shortened(ledger.by(group), ordered=group in ("day", "month"))
    if not totals:
        return ""
    if importlib.util.find_spec("matplotlib") is not None:
        return _drawn(ledger, totals, group)
    return bars(totals, group)


def _shortened(totals: Sequence[Total], *, ordered: bool) -> list[Total]:
    if len(totals) <= _MOST:
        return [*totals]
    if ordered:
        return [*totals[-_MOST:]]
    rest = totals[_MOST - 1 :]
    return [
        *totals[: _MOST - 1],
        Total(
            key=f"{len(rest)} others",
            paid=sum((each.paid for each in rest), rest[0].paid * 0),
            realtime=sum((each.realtime for each in rest), rest[0].paid * 0),
            cache=sum((each.cache for each in rest), rest[0].paid * 0),
            reuse=sum((each.reuse for each in rest), rest[0].paid * 0),
        ),
    ]


def figure(ledger: Ledger, totals: Sequence[Total], group: str) -> Any:
    """Return a figure of matplotlib that belongs to no window and no global state."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    timed = group == "day" and len(totals) > 1
    height = 2.9 if group in ("day", "month") else 1.2 + 0.42 * len(totals)
    drawn = Figure(figsize=(8.4 if timed else 6.4, height), layout="constrained")
    axes = drawn.subplots(1, 2 if timed else 1, squeeze=False)[0]
    paid = [float(total.paid) for total in totals]
    saved = [max(0.0, float(total.saved)) for total in totals]
    names = [_label(total.key, group) for total in totals]
    if group in ("day", "month"):
        axes[0].bar(names, paid, color=SPENT, label="spent")
        axes[0].bar(names, saved, bottom=paid, color=SAVED, label="saved")
        axes[0].yaxis.set_major_formatter(FuncFormatter(lambda usd, _: _tick(usd)))
        if len(names) > 7:
            axes[0].set_xticks(range(0, len(names), -(-len(names) // 7)))
    else:
        places = range(len(names))
        axes[0].barh(places, paid, color=SPENT, label="spent")
        axes[0].barh(places, saved, left=paid, color=SAVED, label="saved")
        axes[0].set_yticks(places, names)
        axes[0].invert_yaxis()
        axes[0].xaxis.set_major_formatter(FuncFormatter(lambda usd, _: _tick(usd)))
    axes[0].set_title(f"by {group}", fontsize=10)
    if timed:
        shown = {total.key for total in totals}
        rising = [each for each in ledger.cumulative() if each[0] in shown]
        axes[1].plot(names, [float(each[1]) for each in rising], color=SPENT)
        axes[1].plot(names, [float(each[2]) for each in rising], color=SAVED, ls="--")
        axes[1].set_title("in all", fontsize=10)
        axes[1].set_ylim(bottom=0)
        axes[1].yaxis.set_major_formatter(FuncFormatter(lambda usd, _: _tick(usd)))
        if len(names) > 5:
            axes[1].set_xticks(range(0, len(names), -(-len(names) // 5)))
    handles, labels = axes[0].get_legend_handles_labels()
    drawn.legend(
        handles, labels, loc="outside lower center", ncols=2, frameon=False, labelcolor=_INK,
        fontsize=9,
    )  # fmt: skip
    for each in axes:
        each.set_facecolor("none")
        each.tick_params(colors=_INK, labelsize=9)
        each.title.set_color(_INK)
        for side, spine in each.spines.items():
            spine.set_visible(side in ("left", "bottom"))
            spine.set_color(_INK)
    return drawn


def _drawn(ledger: Ledger, totals: Sequence[Total], group: str) -> str:
    from matplotlib import rc_context

    out = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "llm_batch"}):
        figure(ledger, totals, group).savefig(out, format="svg", transparent=True)
    text = out.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    # Letters without a colour of their own would be black on any page.
    return text.replace(_INK, "currentColor").replace("<svg ", '<svg fill="currentColor" ', 1)


def _label(key: str, group: str) -> str:
    if group == "day":
        return key[5:]
    return key if len(key) <= 32 else f"…{key[-31:]}"


def _tick(usd: float) -> str:
    return f"${usd:,.4g}"


def bars(totals: Sequence[Total], group: str) -> str:
    """Return horizontal bars, spent and saved, that need no library."""
    most = max(
        (float(total.paid + max(total.saved, total.paid * 0)) for total in totals), default=0
    )
    width, row, left = 640, 24, 190
    scale = (width - left - 170) / most if most else 0.0
    lines = []
    for number, total in enumerate(totals):
        y = number * row + 4
        paid = float(total.paid) * scale
        saved = max(0.0, float(total.saved)) * scale
        told = f"{money(float(total.paid))}, saved {money(float(total.saved))}"
        lines.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">'
            f"{escape(_label(total.key, group))}</text>"
            f'<rect x="{left}" y="{y}" width="{paid:.1f}" height="16" fill="{SPENT}"/>'
            f'<rect x="{left + paid:.1f}" y="{y}" width="{saved:.1f}" height="16" fill="{SAVED}"/>'
            f'<text x="{left + paid + saved + 8:.1f}" y="{y + 13}">{escape(told)}</text>'
        )
    height = row * len(totals) + 8
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="spent and saved by {escape(group)}" '
        f'fill="currentColor" font-family="system-ui,sans-serif" font-size="12">'
        f"{''.join(lines)}</svg>"
    )
