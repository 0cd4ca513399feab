"""Imports point one way, and loading costs next to nothing."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "jupyter_llm_batch"

#: From the ground up; a room imports only from layers before its own.
LAYERS = [
    ["terminal", "redaction"],
    ["own_line", "loosejson", "printing"],
    ["errors", "policy", "secret"],
    ["trouble"],
    ["models", "pictures", "wording", "subschemas"],
    ["validation", "schema_forms"],
    ["cell_options", "identity", "model_names"],
    ["settings", "schemas", "planning", "pacing", "lifecycle", "recent", "waiting"],
    ["sources", "cells", "celllines", "overhearing", "values", "media_types", "media_tokens"],
    ["columns"],
    ["pricing", "lease", "keys", "forks", "permissions", "filesystems", "salvage", "fingerprint"],
    ["sameness", "plaintext"],
    ["templating", "outlook", "collecting", "snapshots", "payloads", "download_limit", "tokens"],
    ["progress", "journal", "trust"],
    ["connection"],
    ["database"],
    ["books"],
    ["prompts", "answers", "store", "providers", "estimate"],
    ["frames", "earlier", "spool", "media", "leaving", "spending"],
    ["rounds", "lookup", "reaching", "routing", "rotation", "export", "notify", "rowlog"],
    ["leftovers", "foreign", "duplicates", "defects"],
    ["submission", "finding", "realtime", "ledger", "comparing", "advising"],
    ["adopting", "repaying"],
    ["consent"],
    ["ending"],
    ["driving", "background", "results", "asking", "habits"],
    ["mending", "viewing", "failing"],
    ["poller", "tracking", "previewing"],
    ["drafts", "handle", "simulator"],
    ["accounts"],
    ["client"],
    ["session"],
    ["notebook", "cli"],
]
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported_rooms(path: Path) -> set[str]:
    """Return the rooms that a module imports, type-checking imports left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test)
        for node in ast.walk(block)
    }
    depth = len(path.relative_to(PACKAGE).parts)
    rooms = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.ImportFrom) or id(node) in skipped or node.level != depth:
            continue
        names = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
        rooms.update(names)
    return rooms


@pytest.mark.parametrize(
    "path", sorted(PACKAGE.rglob("*.py")), ids=lambda p: str(p.relative_to(PACKAGE))
)
def test_imports_point_one_way(path):
    """A room imports only from the layers before it."""
    room = room_of(path)
    if room == "__init__":
        return
    assert room in LEVEL, f"{room} has no layer yet"
    for other in imported_rooms(path):
        assert LEVEL[other] < LEVEL[room], f"{room} imports {other}"


def test_only_the_notebook_room_knows_the_notebook():
    """IPython, ipywidgets and anywidget are imported by `notebook` alone."""
    for path in PACKAGE.rglob("*.py"):
        if room_of(path) == "notebook":
            continue
        text = path.read_text()
        for name in ("IPython", "ipywidgets", "anywidget"):
            assert f"import {name}" not in text, path
            assert f"from {name}" not in text, path


@pytest.mark.parametrize(
    "code",
    [
        "import jupyter_llm_batch",
        "import jupyter_llm_batch.client",
        (
            "from IPython.core.interactiveshell import InteractiveShell as S; "
            "S.instance().run_line_magic('load_ext', 'jupyter_llm_batch')"
        ),
    ],
    ids=["import", "client", "load_ext"],
)
def test_loading_imports_no_sdk(code, tmp_path):
    """Neither `import` nor `%load_ext` imports an SDK, a frame library or the price data."""
    heavy = ["openai", "anthropic", "google.genai", "pandas", "polars", "pyarrow", "genai_prices"]
    script = f"{code}\nimport sys\nprint([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        env={"PATH": "", "HOME": str(tmp_path), "PYTHONPATH": str(PACKAGE.parent)},
    )
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stdout + done.stderr
