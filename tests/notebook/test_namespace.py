"""The variable of the answers: bound between two cells, never over the user's own."""

import asyncio
import copy
import dataclasses
import operator
import threading

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from jupyter_llm_batch.core.errors import NotReady, UsageProblem
from jupyter_llm_batch.notebook.variables import Binder, Placeholder, kernel_scheduler


def placeholder(*, done=False):
    return Placeholder("labels", lambda: "labels: 3 of 9", lambda: done)


class Kernel:
    """A notebook whose loop runs what was scheduled when told to."""

    def __init__(self):
        self.variables = {}
        self.scheduled = []
        self.binder = Binder(lambda: self.variables, self.scheduled.append)

    def idle(self):
        """Run what was scheduled."""
        while self.scheduled:
            self.scheduled.pop(0)()


@pytest.fixture
def kernel():
    return Kernel()


# -- the placeholder -------------------------------------------------------------------------------


def test_a_placeholder_shows_the_progress():
    """Its repr, and so every print of it, is the progress line."""
    assert repr(placeholder()) == str(placeholder()) == "labels: 3 of 9"


@pytest.mark.parametrize(
    "use",
    [
        iter,
        len,
        bool,
        operator.itemgetter(0),
        operator.itemgetter("a"),
        operator.attrgetter("columns"),
        operator.methodcaller("head"),
        lambda it: it == it,  # noqa: PLR0124
        lambda it: it != 1,
        lambda it: it < 1,
        lambda it: it <= 1,
        lambda it: it > 1,
        lambda it: it >= 1,
        lambda it: 1 in it,
        list,
        sorted,
        lambda it: setattr(it, "x", 1),
        lambda it: delattr(it, "x"),
        lambda it: operator.setitem(it, "x", 1),
        lambda it: operator.delitem(it, "x"),
    ],
)
def test_no_code_computes_with_a_placeholder(use):
    """Every use of answers that are not there raises, with the progress and how to wait."""
    with pytest.raises(NotReady, match=r"labels: 3 of 9; `%llm_batch wait labels` waits"):
        use(placeholder())


def test_a_placeholder_kept_past_the_end_says_where_the_answers_are():
    """A reference taken before the answers came points at the variable that has them."""
    with pytest.raises(NotReady, match="taken before the answers came: 'labels' has them"):
        len(placeholder(done=True))


def test_a_placeholder_bears_what_shells_do_to_variables():
    """Looking for private hooks, hashing and copying are no uses of the answers."""
    one = placeholder()
    assert not hasattr(one, "_repr_html_")
    assert {one: 1}[one] == 1
    assert repr(copy.copy(one)) == repr(one)


# -- when it binds ---------------------------------------------------------------------------------


def test_an_idle_kernel_binds_at_once(kernel):
    """Between two cells answers appear as soon as the kernel's loop turns."""
    kernel.binder.bind_soon("x", [1])
    assert kernel.variables == {}
    kernel.idle()
    assert kernel.variables == {"x": [1]}


def test_nothing_is_bound_while_a_cell_runs(kernel):
    """Answers that come during a cell wait for its end."""
    kernel.binder.cell_begins()
    kernel.binder.bind_soon("x", [1])
    kernel.idle()
    assert kernel.variables == {}
    kernel.binder.cell_ended()
    assert kernel.variables == {"x": [1]}


def test_a_cell_begins_with_what_is_ready():
    """Without a kernel loop the next cell boundary binds, from whatever thread it came."""
    variables = {}
    binder = Binder(lambda: variables, None)
    thread = threading.Thread(target=binder.bind_soon, args=("x", [1]))
    thread.start()
    thread.join()
    assert variables == {}
    binder.cell_begins()
    assert variables == {"x": [1]}


def test_the_queue_keeps_its_order_and_is_emptied(kernel):
    """Of several answers for one name the last one stays, and none is bound twice."""
    kernel.binder.cell_begins()
    for value in ([1], [1, 2]):
        kernel.binder.bind_soon("x", value)
    kernel.binder.bind_soon("y", {"a": 1})
    kernel.binder.cell_ended()
    assert kernel.variables == {"x": [1, 2], "y": {"a": 1}}
    del kernel.variables["x"]
    kernel.idle()
    kernel.binder.cell_begins()
    assert kernel.variables == {"y": {"a": 1}}


def test_a_kernel_that_shuts_down_is_no_error():
    """Answers that come while the loop closes wait for a cell that may never come."""

    def closed(function):
        raise RuntimeError("Event loop is closed")

    variables = {}
    binder = Binder(lambda: variables, closed)
    binder.bind_soon("x", [1])
    binder.cell_begins()
    assert variables == {"x": [1]}


def test_another_thread_reaches_the_kernels_loop():
    """Inside a loop answers from a thread are bound on the loop's thread; outside there is none."""
    assert kernel_scheduler() is None

    async def main():
        variables, ran = {}, asyncio.Event()
        later = kernel_scheduler()
        binder = Binder(lambda: variables, later)
        await asyncio.to_thread(binder.bind_soon, "x", [1])
        later(ran.set)
        await ran.wait()
        return variables

    assert asyncio.run(main()) == {"x": [1]}


# -- whose it is -----------------------------------------------------------------------------------


def test_the_answers_replace_the_placeholder(kernel):
    """The name that was reserved is ours until the answers take its place, and after."""
    kernel.binder.reserve("x", placeholder())
    assert kernel.binder.is_ours("x")
    kernel.binder.check_free("x")
    assert kernel.binder.bind_now("x", [1])
    assert kernel.variables["x"] == [1]
    assert kernel.binder.is_ours("x")


def test_the_users_own_variable_is_never_replaced(kernel):
    """A name that the user took, before or meanwhile, keeps the user's value."""
    kernel.variables["mine"] = 5
    kernel.binder.reserve("x", placeholder())
    kernel.variables["x"] = "user's"
    for name in ("mine", "x"):
        assert not kernel.binder.is_ours(name)
        assert not kernel.binder.bind_now(name, [1])
        kernel.binder.bind_soon(name, [1])
    kernel.idle()
    assert kernel.variables == {"mine": 5, "x": "user's"}


def test_a_name_in_use_is_refused_with_both_ways_out(kernel):
    """A batch cannot take the name of the user's variable; deleting that frees it."""
    kernel.variables["x"] = 5
    with pytest.raises(UsageProblem, match=r"'x' is in use \(an int\).*`del x` first"):
        kernel.binder.check_free("x")
    del kernel.variables["x"]
    kernel.binder.check_free("x")
    assert kernel.binder.bind_now("x", [1])


def test_an_equal_value_is_not_ours(kernel):
    """Only the very object that was bound counts as ours, not one that equals it."""
    kernel.binder.bind_now("x", [1])
    kernel.variables["x"] = [1]
    assert not kernel.binder.is_ours("x")


@dataclasses.dataclass
class Label:
    text: str


def add_column(frame):
    frame["mine"] = 1


def rename(frame):
    frame.columns = ["renamed"]


def add_row(frame):
    frame.loc[len(frame)] = 3


@pytest.mark.parametrize(
    ("value", "change"),
    [
        ([1], lambda value: value.append(2)),
        ({"a": 1}, lambda value: value.update(b=2)),
        (pd.DataFrame({"a": [1, 2]}), add_column),
        (pd.DataFrame({"a": [1, 2]}), rename),
        (pd.DataFrame({"a": [1, 2]}), add_row),
        (["a", "b"], lambda value: operator.setitem(value, 0, "mine")),
        ({"a": 1}, lambda value: operator.setitem(value, "a", 2)),
        ([{"a": [1]}], lambda value: value[0].update(a=[2])),
        ([{"a": [1]}], lambda value: value[0]["a"].append(2)),
        ([Label("a")], lambda value: setattr(value[0], "text", "mine")),
        (Label("a"), lambda value: setattr(value, "text", "mine")),
        (pd.DataFrame({"a": ["x", "y"]}), lambda value: operator.setitem(value.loc, (0, "a"), "z")),
        (pd.DataFrame({"a": [1, 2]}), lambda value: operator.setitem(value, "a", value["a"] + 1)),
        (pd.DataFrame({"a": [1, 2]}), lambda value: setattr(value.index, "name", "mine")),
        (pd.Series(["x", "y"]), lambda value: operator.setitem(value, 0, "z")),
        (pl.DataFrame({"a": ["x", "y"]}), lambda value: operator.setitem(value, (0, "a"), "z")),
        (pl.DataFrame({"a": [1]}), lambda value: setattr(value, "columns", ["mine"])),
        (pl.Series("a", [1, 2]), lambda value: operator.setitem(value, 0, 3)),
    ],
)
def test_answers_that_the_user_built_on_are_the_users(kernel, value, change):
    """Whatever the user added, renamed or replaced in them makes them the user's own."""
    value = copy.deepcopy(value)
    kernel.binder.bind_now("x", value)
    assert kernel.binder.is_ours("x")
    change(value)
    assert not kernel.binder.is_ours("x")
    assert not kernel.binder.bind_now("x", "new")
    assert kernel.variables["x"] is value


@pytest.mark.parametrize(
    "value",
    [
        ["a", None, 2_000],
        {"a": [1.5, 2.5], ("b", 1): None},
        [Label("a"), {"b": [{"c": 2_000}]}],
        pd.DataFrame({"a": ["x", None], "b": [[1], {"c": 2}], "d": [1.5, float("nan")]}),
        pd.Series(["x", None], name="a", index=[1, 1]),
        pl.DataFrame({"a": ["x", None], "b": [[1.5], [2.5]]}),
        pa.table({"a": [1, 2]}),
        "one",
        None,
    ],
    ids=lambda value: type(value).__name__,
)
def test_looking_at_answers_leaves_them_ours(kernel, value):
    """What the user only reads is replaced by what is newer."""
    kernel.binder.bind_now("x", value)
    assert repr(value)
    assert kernel.binder.is_ours("x")
    assert kernel.binder.bind_now("x", "newer")


def test_answers_that_nobody_wants_any_more_are_not_bound(kernel):
    """A cell that bound newer ones first is not set back by older ones that come late."""
    kernel.binder.cell_begins()
    kernel.binder.bind_soon("x", [1], wanted=lambda: False)
    kernel.binder.bind_now("x", [1, 2])
    kernel.binder.cell_ended()
    assert kernel.variables == {"x": [1, 2]}


def test_who_offered_answers_is_told_whether_they_were_bound(kernel):
    """A name that the user takes before the cell ends is kept, and that is told."""
    told = []
    kernel.binder.reserve("x", placeholder())
    kernel.binder.cell_begins()
    for name in ("x", "y"):
        kernel.binder.bind_soon(name, [1], told=told.append)
    kernel.variables["x"] = "mine"
    assert told == []
    kernel.binder.cell_ended()
    assert told == [False, True]
    assert kernel.variables == {"x": "mine", "y": [1]}


def test_a_cell_inside_a_cell_does_not_end_the_outer_one():
    """Code that runs another cell keeps its namespace until it is through itself."""
    names = {}
    binder = Binder(lambda: names, None)
    binder.cell_begins()
    binder.cell_begins()
    binder.bind_soon("x", 1)
    binder.cell_ended()
    assert "x" not in names
    binder.cell_ended()
    assert names == {"x": 1}


def test_what_goes_wrong_with_one_variable_keeps_no_other_from_being_bound(kernel):
    """An error while one variable is bound is logged, and the next one is bound."""

    def trips(bound):
        raise TypeError("odd")

    kernel.binder.bind_soon("x", [1], told=trips)
    kernel.binder.bind_soon("y", [2])
    kernel.idle()
    assert kernel.variables["y"] == [2]
