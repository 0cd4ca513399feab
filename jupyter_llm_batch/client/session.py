"""The client that the magics and the module's functions share, real or simulated."""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Unpack

from ..core.batch import Batch
from ..core.errors import NotReady, UsageProblem, conceal
from ..core.identity import Identity
from ..core.policy import Policy
from ..core.settings import Settings
from ..costs.advice import Advice
from ..costs.comparison import Comparison
from ..costs.ledger import Ledger
from ..providers import registry
from ..providers.shared import addresses
from ..submission.options import Options
from ..submission.preview import Preview
from . import keys
from .client import Client
from .handle import BatchHandle

#: The simulator's batches take seconds, so they are looked at often.
SIMULATED_PACE = Policy(poll=0.3, poll_longest=2.0, retry=0.5, room=2.0, settle=3.0)
if TYPE_CHECKING:
    from .tracking import Tracker

_current: Client | None = None
_tracker: Tracker | None = None


def current() -> Client:
    """Return the client in use, made on first need."""
    global _current  # noqa: PLW0603 - one per process, like the kernel it lives in
    if _current is None or _current.closed:
        _current = Client() if _current is None else _current.again()
        if _current.store.loss is not None:
            warnings.warn(_current.store.loss.words, stacklevel=2)
    return _current


def simulation() -> Client | None:
    """Return the client in use if it is a simulated one; it stays until it is switched off."""
    return current() if _current is not None and _current.simulated else None


def use(client: Client) -> Client:
    """Make `client` the one in use; the one before goes on with its batches."""
    global _current  # noqa: PLW0603
    if _current is not None and _current.store.folder == client.store.folder:
        asked = _current.context.asked | client.context.asked
        client.context.asked = asked  # the kernel is the same
    _current = client
    return client


def simulate(
    *,
    settings: Settings | None = None,
    notebook: str | Identity | None = None,
    seconds: float = 8.0,
) -> Client:
    """Switch to the embedded simulator: no key, no cost, seconds instead of hours.

    The simulator is a process of its own that outlives a kernel restart. Its batches have a
    journal of their own and are marked as simulated everywhere.

    Parameters
    ----------
    seconds
        How long a simulated batch takes.
    """
    from .. import simulator
    from ..simulator.embedded import environ

    settings = settings or Settings()
    folder = settings.folder()
    running = simulator.ensure_running(folder / "simulator", seconds=seconds)
    running.behave(seconds=seconds)  # one that ran already has its own pace
    keys = environ(running.url, running.key)
    known = simulation()
    if known is not None and known.environ == keys:
        return known  # asked for twice: the same simulator, perhaps at another pace
    return use(
        Client(
            environ=keys,
            folder=folder,
            notebook=notebook,
            settings=settings,
            simulated=True,
            policy=SIMULATED_PACE,
        )
    )


def simulated(settings: Settings, *, notebook: str) -> Client:
    """Return a client of the embedded simulator, which keeps its pace if it runs already."""
    from .. import simulator
    from ..simulator.embedded import environ

    folder = settings.folder()
    running = simulator.ensure_running(folder / "simulator")
    return Client(
        environ=environ(running.url, running.key),
        folder=folder,
        notebook=notebook,
        settings=settings,
        simulated=True,
        policy=SIMULATED_PACE,
    )


def login(provider: str, key: str | None = None) -> str:
    """Keep a provider's key: in the system's keyring when there is one, else for this process.

    Parameters
    ----------
    provider
        Its name, as in ``provider:model``.
    key
        The key; without it, it is asked for and not shown.

    Returns
    -------
    str
        Where the key is now: ``"keyring"`` or ``"this kernel"``.
    """
    variable = _variable(provider)
    place = keys.KEYS.save(variable, keys.check(_asked(variable) if key is None else key))
    current().context.wake()
    return place


def logout(provider: str) -> list[str]:
    """Forget a provider's key here and in the keyring; return where it was."""
    places = keys.KEYS.drop(_variable(provider))
    current().context.wake()
    return places


def _variable(provider: str) -> str:
    known = registry.names(current().settings.servers)
    if provider not in known:
        # It may be a key that was typed in the provider's place.
        conceal(provider.strip())
        raise UsageProblem(
            f"a provider's name is needed here: known are {', '.join(known)}. What was given is "
            "not repeated: if it was a key, delete it from the cell and from the history, and "
            "replace the key at its provider"
        )
    return addresses.key_variables(provider)[0]


def _asked(variable: str) -> str:
    import getpass
    import warnings

    with warnings.catch_warnings():
        # Where the terminal cannot hide what is typed, nothing is typed.
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f"{variable}: ")
        except (EOFError, OSError, RuntimeError, getpass.GetPassWarning):
            raise UsageProblem(
                f"nobody can be asked here: set {variable} in the environment"
            ) from None


def track() -> None:
    """Count the calls that your own OpenAI, Anthropic and Gemini clients make in this kernel.

    Opt-in, until `untrack`. Calls are counted whether sync, async, streamed or raw, over aiohttp
    too; sessions over WebSockets (Live, Realtime) are not, see `tracking`. Model, tokens and time
    of each call are kept in the journal with the cell that made it, contents and keys are not;
    ``%llm_batch advise`` says what could be a batch.
    """
    global _tracker  # noqa: PLW0603
    if _tracker is None:
        from .tracking import Tracker

        client = current()
        _tracker = Tracker(client.store, client.context.background, client.notebook)
        _tracker.start()


def untrack() -> None:
    """Stop counting; everything is as it was before `track`."""
    global _tracker  # noqa: PLW0603
    if _tracker is not None:
        _tracker.stop()
        _tracker = None


def submit(
    text: str | None = None, *, name: str, wait: bool = False, **options: Unpack[Options]
) -> BatchHandle:
    """Submit a batch and return at once.

    Parameters
    ----------
    text, name, **options
        As `client.Client.submit` takes them; `asking.Options` describes the options.
    wait
        Return when the answers are there, or a sample waits for `BatchHandle.send_rest`.
    """
    return _waited(current().submit(text, name=name, **options), wait=wait)


def _waited(handle: BatchHandle, *, wait: bool) -> BatchHandle:
    if wait:
        with contextlib.suppress(NotReady):  # a sample is there to be looked at
            handle.wait()
    return handle


def preview(
    text: str | None = None, *, name: str, count: int = 0, **options: Unpack[Options]
) -> Preview:
    """Return what `submit` would send and cost, and send nothing; see `client.Client.preview`."""
    return current().preview(text, name=name, count=count, **options)


def add(text: str | None = None, *, name: str, key: str = "", **options: Unpack[Options]) -> int:
    """Collect for a later `submit_draft`; return how many parts there are.

    See `client.Client.add` for `key`.
    """
    return current().add(text, name=name, key=key, **options)


def collected(*, everywhere: bool = False) -> list[Batch]:
    """Return what `add` collected and nobody has sent yet, oldest first."""
    return current().drafts(everywhere=everywhere)


def submit_draft(
    name: str,
    *,
    resubmit: bool = False,
    confirm: bool = False,
    max_cost: float | None = None,
    wait: bool = False,
) -> BatchHandle:
    """Send what `add` collected under `name`, or what waits for a look at its sample."""
    handle = current().submit_draft(name, resubmit=resubmit, confirm=confirm, max_cost=max_cost)
    return _waited(handle, wait=wait)


def retry(name: str, *, confirm: bool = False, unbilled: bool = False) -> int:
    """Send the rows of an ended batch that have no answer again; return how many.

    Rows that may have been billed, and are then paid again, go only with `confirm`; see
    `BatchHandle.retry`.
    """
    return get(name).retry(confirm=confirm, unbilled=unbilled)


def forget(name: str, *, confirm: bool = False) -> None:
    """Delete the local data of a batch, or what was collected under `name`.

    Answers that were paid for are deleted only with `confirm`.
    """
    client = current()
    if not client.drop_draft(name):
        client.forget(client.get(name), confirm=confirm)


def adopt(remote: str, name: str) -> BatchHandle:
    """Take over a batch that was created elsewhere; see `client.Client.adopt`."""
    return current().adopt(remote, name)


def get(name: str) -> BatchHandle:
    """Return the latest batch called `name`, or ``name#2`` for its second version."""
    return current().get(name)


def batches(*, everywhere: bool = False) -> list[BatchHandle]:
    """Return the batches of this notebook (or of all notebooks), oldest first."""
    return current().batches(everywhere=everywhere)


def cost(name: str = "") -> Ledger:
    """Return what was spent and saved, by one batch or by all; see `client.Client.cost`."""
    return current().cost(name)


def compare(left: str, right: str) -> Comparison:
    """Compare two batches over the same rows; see `client.Client.compare`."""
    return current().compare(left, right)


def advise() -> list[Advice]:
    """Return what would have been cheaper; see `client.Client.advise`."""
    if _tracker is not None:
        _tracker.flush()
    return current().advise()
