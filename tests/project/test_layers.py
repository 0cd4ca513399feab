"""The house: eleven wings, imports in one direction, no circle; loading costs next to nothing."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "jupyter_llm_batch"

#: From the ground up; a wing imports only from wings before its own row.
LAYERS = [
    ["core"],
    ["data", "storage", "simulator"],
    ["costs"],
    ["providers"],
    ["submission"],
    ["engine"],
    ["client"],
    ["notebook", "cli"],
]
LEVEL = {wing: level for level, wings in enumerate(LAYERS) for wing in wings}


def module_name(path: Path) -> str:
    """Return the dotted name of a module, without the package's."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported(name: str) -> set[str]:
    """Return the modules of ours that a module imports, for type checking too."""
    path = MODULES[name]
    here = name.split(".") if name else []
    if path.name != "__init__.py":
        here = here[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom) or not node.level:
            continue
        base = here[: len(here) - node.level + 1]
        base = [*base, *(node.module.split(".") if node.module else [])]
        for alias in node.names:
            whole = ".".join([*base, alias.name])
            found.add(whole if whole in MODULES else ".".join(base))
    return found - {name}


def wing_of(name: str) -> str:
    """Return the wing of a module."""
    return name.partition(".")[0]


def test_the_root_holds_the_wings_and_nothing_else():
    """A newcomer sees eleven folders and `__init__.py`."""
    found = {path.name for path in PACKAGE.iterdir()} - {"__pycache__", "py.typed"}
    assert found == {"__init__.py", *LEVEL}


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_wing_imports_only_wings_before_it(name):
    """Imports point one way, those under TYPE_CHECKING too."""
    wing = wing_of(name)
    for other in imported(name):
        if wing_of(other) != wing:
            assert other, f"{name} imports the root"
            assert LEVEL[wing_of(other)] < LEVEL[wing], f"{name} imports {other}"


def test_there_is_no_circle():
    """Inside a wing modules form layers as well."""
    graph = {name: imported(name) for name in MODULES if name}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_module_has_at_most_400_lines(name):
    """What is longer holds more than one idea."""
    lines = len(MODULES[name].read_text().splitlines())
    assert lines <= 400, f"{name} has {lines} lines"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_class_has_at_most_25_methods(name):
    """What has more does several things, which are objects of their own."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ClassDef):
            methods = [
                each
                for each in node.body
                if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)
                and not any("setter" in ast.unparse(mark) for mark in each.decorator_list)
            ]
            assert len(methods) <= 25, f"{name}.{node.name} has {len(methods)} methods"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_a_function_has_at_most_80_lines(name):
    """What is longer is several functions with names of their own."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = node.end_lineno - node.lineno + 1
            assert lines <= 80, f"{name}.{node.name} has {lines} lines"


@pytest.mark.parametrize("name", [name for name in MODULES if name])
def test_no_private_name_is_imported(name):
    """What another module needs has a public name."""
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            private = [alias.name for alias in node.names if alias.name.startswith("_")]
            assert not private, f"{name} imports {private} of {node.module}"


@pytest.mark.parametrize("wing", LEVEL)
def test_a_wing_says_what_belongs_there(wing):
    """Its docstring says what it holds, what it does not, and what to read first."""
    text = ast.get_docstring(ast.parse(MODULES[wing].read_text())) or ""
    assert "Belongs here" in text
    assert "Does not" in text
    assert "Read `" in text


def test_only_the_notebook_wing_knows_ipython():
    """IPython, ipywidgets and anywidget are imported by `notebook` alone."""
    for name, path in MODULES.items():
        if wing_of(name) == "notebook":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            roots = {each.partition(".")[0] for each in names}
            assert not roots & {"IPython", "ipywidgets", "anywidget"}, name


@pytest.mark.parametrize(
    "code",
    [
        "import jupyter_llm_batch",
        "import jupyter_llm_batch.client.client",
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


@pytest.mark.parametrize("name", [name for name in MODULES if wing_of(name) in {"notebook", "cli"}])
def test_front_ends_do_not_reach_through_the_client(name):
    """Notebook and terminal ask the client's objects, and never what these are made of."""
    inner = {"store", "poller", "background", "accounts", "context", "_context", "_store"}
    for node in ast.walk(ast.parse(MODULES[name].read_text())):
        # Whatever the variable is called: a client goes by several names.
        reached = isinstance(node, ast.Attribute) and node.attr in inner
        assert not reached, f"{name}, line {node.lineno}: {ast.unparse(node)}"
