"""How many real-time requests may be under way at once."""

from hypothesis import given
from hypothesis import strategies as st

from jupyter_llm_batch.core.job import Room
from jupyter_llm_batch.engine.window import FIRST, Window


def test_it_begins_small_and_doubles_while_all_goes_well():
    """Each answer makes room for one more request, up to the bound."""
    window = Window(64)
    assert window.free(0) == FIRST
    for _ in range(100):
        window.well([], 0)
    assert window.free(0) == 64


def test_trouble_halves_it_once_per_burst_and_then_it_grows_slowly():
    """Requests of one burst that are turned away count once; then one more per round."""
    window = Window(64)
    for _ in range(60):
        window.well([], 0)
    for _ in range(8):
        window.trouble(sent_at=5, now=10, wait=None, first_wait=1)
    assert window.size == 32
    assert window.free(10.5) == 0
    assert window.free(11.0) == 32
    for _ in range(32):
        window.well([], 12)
    assert 32 < window.size < 34


def test_what_the_provider_asks_for_comes_first():
    """`Retry-After` is kept to the second, however often nothing was wrong before."""
    window = Window(8)
    window.trouble(sent_at=0, now=1, wait=30, first_wait=1)
    assert window.free(30.9) == 0
    assert window.free(31.0) > 0


def test_waits_double_while_trouble_goes_on():
    """Where nothing is asked for, each trouble in a row waits twice as long."""
    window = Window(8)
    window.trouble(sent_at=0, now=1, wait=None, first_wait=2)
    assert window.open_at == 3
    window.trouble(sent_at=3, now=4, wait=None, first_wait=2)
    assert window.open_at == 8
    window.well([], 9)
    window.trouble(sent_at=9, now=10, wait=None, first_wait=2)
    assert window.open_at == 12


def test_headers_bound_it():
    """No more go out than the headers leave; when nothing is left, all wait for the reset."""
    window = Window(64)
    for _ in range(60):
        window.well([], 0)
    window.well([Room(left=3, reset=20), Room(left=5000, reset=1)], 0)
    assert window.free(0) == 3
    window.well([Room(left=0, reset=20)], 5)
    assert window.free(24) == 0
    assert window.free(25) == 1
    window.well([Room(left=40, reset=20)], 26)
    assert window.free(26) == 40


@given(st.lists(st.sampled_from(["well", "trouble", "sent", "over"]), max_size=200))
def test_it_never_exceeds_its_bound_and_never_closes_for_good(steps):
    """Whatever happens, there is room for at least one request once all is over and quiet."""
    window, now = Window(16), 0.0
    for step in steps:
        now += 1
        if step == "sent" and window.free(now):
            window.sent()
        elif step == "over" and window.under_way:
            window.over()
        elif step == "well":
            window.well([], now)
        elif step == "trouble":
            window.trouble(now - 1, now, None, 1)
        assert window.under_way <= 16
        assert window.free(now) <= 16
    while window.under_way:
        window.over()
    assert window.free(now + 1e4) >= 1
