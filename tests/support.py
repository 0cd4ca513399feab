"""What test files import by name; fixtures stand in conftest.py."""

import hashlib
import inspect
import re
import time
from decimal import Decimal

from genai_prices import Usage as PricedUsage
from genai_prices import calc_price
from IPython.core.error import UsageError

from jupyter_llm_batch.core.policy import Policy

#: As fast as a test may be; every wait is tiny, every rule stays.
FAST = Policy(poll=0.02, poll_longest=0.05, retry=0.02, retry_longest=0.1, room=0.05, settle=0.2)


def mark(prompt):
    """Return the hash that the simulator puts into its answer to `prompt`."""
    return hashlib.sha256(prompt.encode()).hexdigest()[:8]


def until(condition, *, seconds=90.0):
    """Wait until `condition` is true and return what it gives; say what it was when it never is."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, f"still not so after {seconds:g} s: {_source(condition)}"
        time.sleep(0.01)
    return found


def _source(condition):
    try:
        return inspect.getsource(condition).strip()
    except (OSError, TypeError):
        return repr(condition)


#: What simulators of the tests let in (`keys=ANY`) beside their own random key.
ANY = ("sim-",)
DUMMY_KEY = "sim-dummy-key"

#: The fake keys of the tests. When a run ends it is searched for them, see leaks.py: a test that
#: takes one from here may not leave it in a file, an output or a log.
KEYS = {
    "openai": "sim-0penAiKey0fTheTests7x",
    "anthropic": "sim-ant-Anthr0picKey0fTests",
    "google": "sim-AIza-Go0gleKey0fTheTests",
    "azure": "sim-AzureKeyOfTheTests77",
    "groq": "sim-gsk-Gr0qKey0fTheTests",
    "odd": "0a1b2c3dZZZZ9f8e7d6c0011",  # no form by which anybody would know it as a key
    "login": "sim-L0ginKey0fTheTests42",
}


def run(shell, code):
    """Run a cell as a user would and return its result object."""
    return shell.run_cell(code, store_history=False)


def ok(shell, code):
    result = run(shell, code)
    assert result.success, result.error_before_exec or result.error_in_exec
    return result


class Shifted:
    """A clock that a test may set."""

    def __init__(self):
        self.ahead = 0.0

    def __call__(self):
        return time.time() + self.ahead


def billed(entry):
    """Return what the price list charges for one entry of the simulator's bill."""
    price = calc_price(
        PricedUsage(
            input_tokens=entry["input_tokens"],
            cache_read_tokens=entry["cached_tokens"],
            cache_write_tokens=entry["cache_write_tokens"],
            output_tokens=entry["output_tokens"],
        ),
        model_ref=entry["model"],
        provider_id=entry["provider"],
        price_context={"processing": "batch"} if entry["mode"] == "batch" else None,
    )
    return Decimal(price.total_price)


def bill(sim):
    return sum((billed(entry) for entry in sim.ledger()), Decimal(0))


def line_of(shell, code, capsys):
    """Return the single line that a failing cell prints."""
    capsys.readouterr()
    result = run(shell, code)
    error = result.error_in_exec
    assert isinstance(error, UsageError), error
    said = capsys.readouterr()
    lines = [each for each in (said.out + said.err).splitlines() if each.strip()]
    lines = [each for each in lines if not each.startswith("x · ")]  # a terminal's panel
    assert len(lines) == 1, lines
    return re.sub(r"\x1b\[[0-9;]*m", "", lines[0])


def complete(shell, text):
    """Return what Tab offers after `text`."""
    shell.Completer.use_jedi = False
    return [each.text for each in shell.Completer.completions(text, len(text))]
