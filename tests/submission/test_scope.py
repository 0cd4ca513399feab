"""A magic sees the names of the place where it is run, and answers go where they can be used."""

import sys
import types

import pandas as pd
import pytest
from IPython.terminal.embed import InteractiveShellEmbed  # noqa: T100 - it is not left behind
from support import mark, ok

from jupyter_llm_batch.notebook import extension


def test_a_function_sends_its_own_rows(shell, sim, capsys):
    """Rows, schema, route, system and template variables are the function's, not the notebook's."""
    ok(
        shell,
        "rows, tone, rules, m, kind = ['global'], 'global', 'global', 'nope', None\n"
        "def ask(rows, tone):\n"
        "    m = lambda row: 'openai:gpt-5-mini'\n"
        "    rules = 'local rules'\n"
        "    kind = {'type': 'object', 'properties': {'a': {'type': 'string'}},\n"
        "            'required': ['a'], 'additionalProperties': False}\n"
        "    %llm_batch run x --over rows --route m --system-from rules --schema kind --wait\n"
        "    cell = '{{ tone }} {{ item }}'\n"
        "    get_ipython().run_cell_magic('llm_batch', 'y --over rows --wait', cell)\n"
        "    return y\n"
        "answer = ask(['local'], 'kind')",
    )
    assert len(sim.ledger()) == 2
    assert mark("kind local") in shell.user_ns["answer"][0]
    line = shell.controller.client.get("x").record
    assert line.recipe.system == "local rules"
    assert line.recipe.schema["required"] == ["a"]
    said = capsys.readouterr().out
    assert "the answers go to the notebook's variable y, not into the function" in said


def test_a_comprehension_of_the_function_sees_its_names(shell):
    """An expression may use local names inside of a comprehension or lambda."""
    ok(
        shell,
        "def ask(rows, suffix):\n"
        "    %llm_batch run x --over [row+suffix for row in rows] --wait\n"
        "ask(['a'], 'b')",
    )
    assert mark("ab") in shell.user_ns["x"][0]


def test_a_helper_module_has_its_own_names(shell):
    """A function of another module sees that module's variables before the notebook's."""
    helper = types.ModuleType("helper")
    helper.rows, helper.shell = ["theirs"], shell
    code = "def ask():\n    shell.run_line_magic('llm_batch', 'run x --over rows --wait')"
    exec(code, helper.__dict__)
    shell.user_ns.update(helper=helper, rows=["ours"])
    ok(shell, "helper.ask()")
    assert mark("theirs") in shell.user_ns["x"][0]


@pytest.mark.parametrize("suffix", ["py", "ipy"])
def test_a_script_gets_its_answers(shell, tmp_path, suffix):
    """`%run` evaluates and binds among the script's names, and the notebook has them after it."""
    path = tmp_path / f"script.{suffix}"
    line = "get_ipython().run_line_magic('llm_batch', 'run x --over rows --wait')\n"
    path.write_text(f"rows = ['script']\n{line}got = x[0]\n")
    ok(shell, "rows = ['notebook']")
    ok(shell, f"%run {path}")
    assert mark("script") in shell.user_ns["got"]
    assert mark("script") in shell.user_ns["x"][0]


def test_an_embedded_shell_sees_each_of_its_scopes(shell, make_client):
    """Evaluated and bound among the names around the shell, also in the second place."""
    embedded = InteractiveShellEmbed(banner1="", exit_msg="")  # noqa: T100
    embedded.run_line_magic("load_ext", "jupyter_llm_batch")
    controller = extension._loaded[id(embedded)][0].commands().controller
    controller.config.model = "openai:gpt-5-mini"
    controller.use(make_client())

    def place(rows, name):
        before = embedded.user_ns, embedded.user_module
        embedded.user_ns, embedded.user_module = {"rows": rows}, sys.modules[__name__]
        embedded.init_user_ns()
        ok(embedded, f"%llm_batch run {name} --over rows --wait")
        found = embedded.user_ns[name]
        embedded.user_ns, embedded.user_module = before
        return found

    try:
        assert mark("one") in place(["one"], "x")[0]
        assert mark("two") in place(["two"], "y")[0]
        assert mark("three") in place(["three"], "x")[0]
    finally:
        extension.unload(embedded)
        InteractiveShellEmbed.clear_instance()


def test_the_names_of_a_function_are_not_kept(shell):
    """A frame that a function sent may be freed when the function is over."""
    import gc
    import weakref

    kept = {}
    shell.user_ns.update(pd=pd, see=lambda frame: kept.update(frame=weakref.ref(frame)))
    ok(
        shell,
        "def ask():\n    frame = pd.DataFrame({'t': ['a']})\n    see(frame)\n"
        "    get_ipython().run_cell_magic('llm_batch', 'x --over frame --wait', '{{ t }}')\nask()",
    )
    gc.collect()
    assert kept["frame"]() is None
