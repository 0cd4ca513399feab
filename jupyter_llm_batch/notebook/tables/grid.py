"""Tables in a cell: HTML where there is a front end, text elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

from IPython.display import display

from ...core.terminal import visible

_CELL = (
    "style='text-align:left;padding:3px 14px 3px 0;vertical-align:top;white-space:pre-wrap;"
    "unicode-bidi:isolate'"
)


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Display a table, as HTML where there is a front end and as text elsewhere."""
    display(bundle(head, rows, note), raw=True)


def bundle(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> dict[str, str]:
    """Return a table as a display bundle."""
    # What controls a terminal would spoil the columns' widths as well.
    rows = [[visible(str(cell)) for cell in row] for row in rows]
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [head, *rows]
    ]
    remark = "".join(f"<p>{escape(line)}</p>" for line in note.splitlines())
    html = "".join(
        f"<tr>{''.join(f'<{tag} {_CELL}>{escape(each)}</{tag}>' for each in row)}</tr>"
        for tag, row in [("th", head), *(("td", row) for row in rows)]
    )
    return {
        "text/plain": visible("\n".join([*lines, *([note] if note else [])])),
        # Without the class JupyterLab reads two prices as a formula.
        "text/html": f"<table class='mathjax_ignore tex2jax_ignore'>{html}</table>"
        f"<div class='mathjax_ignore tex2jax_ignore'>{remark}</div>",
    }
