"""Draw docs/architecture.md, and the tables of docs/create.md, from the code.

Run it after a change of wings, transitions or waits: ``python scripts/draw_architecture.py``.
With ``--check`` it writes nothing and names the pages that are out of date.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "jupyter_llm_batch"
sys.path.insert(0, str(ROOT))

from jupyter_llm_batch.core.lifecycle import TERMINAL, TRANSITIONS  # noqa: E402
from jupyter_llm_batch.core.policy import Policy  # noqa: E402

#: States before a provider is known to have a job, and the waits that matter there.
STATES = {"planned", "uploaded", "submitting", "unknown"}
WAITS = ["retry", "retry_longest", "recheck", "recheck_longest", "room", "young", "uploads"]


def wings() -> list[str]:
    """Return the wings of the package."""
    return sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def imports() -> dict[str, set[str]]:
    """Return which wings each wing imports."""
    known = set(wings())
    found: dict[str, set[str]] = {wing: set() for wing in known}
    for wing in known:
        for path in (PACKAGE / wing).rglob("*.py"):
            depth = len(path.relative_to(PACKAGE).parts)
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.ImportFrom) and node.level == depth:
                    names = [node.module] if node.module else [each.name for each in node.names]
                    found[wing] |= {name.partition(".")[0] for name in names} & known - {wing}
    return found


def layers(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the wings from the ground up: each imports only wings of earlier rows."""
    left, done, rows = dict(graph), set(), []
    while left:
        row = sorted(wing for wing, needs in left.items() if needs <= done)
        if not row:
            raise SystemExit(f"the wings import each other in a circle: {sorted(left)}")
        rows.append(row)
        done |= set(row)
        left = {wing: needs for wing, needs in left.items() if wing not in done}
    return rows


def docstring(wing: str) -> str:
    """Return what a wing's docstring says: what it is, what belongs there, what to read first."""
    text = ast.get_docstring(ast.parse((PACKAGE / wing / "__init__.py").read_text())) or ""
    first, _, rest = text.partition("\n\n")
    return " ".join([*first.split(), *rest.partition("\n\n")[0].split()])


def architecture() -> str:
    """Return docs/architecture.md."""
    graph = imports()
    rows = layers(graph)
    lines = [
        "# Architecture",
        "",
        "Drawn from the code by `python scripts/draw_architecture.py`; a test keeps it true.",
        "",
        "## Wings",
        "",
        "A wing imports only wings of the rows above its own. Inside a wing there is no circle.",
        "",
        "| layer | wings |",
        "| --- | --- |",
        *(f"| {number} | {', '.join(row)} |" for number, row in enumerate(rows)),
        "",
        "```mermaid",
        "flowchart BT",
        *(f"  {wing} --> {each}" for wing in sorted(graph) for each in sorted(direct(graph, wing))),
        "```",
        "",
        "An arrow points at what is imported; what follows from other arrows is left out.",
        "",
        *(f"- **{wing}**: {docstring(wing)}" for row in rows for wing in row),
        "",
        "## The life of a job",
        "",
        "A batch has one job or several, each of which the provider runs. These are all the states",
        "and events there are (`core/lifecycle.py`). Anything else raises, and changes nothing.",
        "",
        "```mermaid",
        "stateDiagram-v2",
        "  [*] --> planned",
        *(f"  {before} --> {after}: {event}" for (before, event), after in TRANSITIONS.items()),
        *(f"  {state} --> [*]" for state in sorted(TERMINAL)),
        "```",
        "",
        "[The life of a create](create.md) tells what happens when a job is sent.",
        "",
    ]
    return "\n".join(lines)


def direct(graph: dict[str, set[str]], wing: str) -> set[str]:
    """Return the wings that a wing imports and that none of these imports."""
    return {
        other
        for other in graph[wing]
        if not any(other in reach(graph, between) for between in graph[wing] - {other})
    }


def reach(graph: dict[str, set[str]], wing: str) -> set[str]:
    """Return all wings that a wing needs."""
    found = set(graph[wing])
    for other in graph[wing]:
        found |= reach(graph, other)
    return found


def transitions() -> str:
    """Return the table of transitions that a create can take."""
    lines = ["| from | event | to | when |", "| --- | --- | --- | --- |"]
    for (before, event), after in TRANSITIONS.items():
        if before in STATES:
            lines.append(f"| {before} | {event} | {after} | {comment(event.name)} |")
    return "\n".join(lines)


def comment(name: str) -> str:
    """Return the comment beside an event."""
    text = (PACKAGE / "core" / "lifecycle.py").read_text()
    found = re.search(rf"^    {name} = \"[^\"]*\"  # (.*)$", text, re.MULTILINE)
    return found[1] if found else ""


def waits() -> str:
    """Return the table of the waits that matter to a create."""
    text = Policy.__doc__ or ""
    lines = ["| wait | value | meaning |", "| --- | --- | --- |"]
    for name in WAITS:
        pattern = rf"^    (?:\w+, )?{name}(?:, \w+)?\n((?:        .*\n)+)"
        found = re.search(pattern, text, re.MULTILINE)
        value = getattr(Policy(), name)
        unit = "" if isinstance(value, int) else " s"
        meaning = " ".join(found[1].split()) if found else ""
        lines.append(f"| `{name}` | {value:g}{unit} | {meaning} |")
    return "\n".join(lines)


def filled(text: str) -> str:
    """Return docs/create.md with its generated parts made anew."""
    for name, made in (("transitions", transitions()), ("waits", waits())):
        begin, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{made}\n{end}{after}"
    return text


def pages() -> dict[Path, str]:
    """Return every generated page with its text."""
    create = ROOT / "docs" / "create.md"
    return {ROOT / "docs" / "architecture.md": architecture(), create: filled(create.read_text())}


def main() -> None:
    """Write the pages, or check them."""
    made = pages().items()
    stale = [path for path, text in made if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        if stale:
            raise SystemExit(f"out of date: {', '.join(path.name for path in stale)}")
        return
    for path, text in pages().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
