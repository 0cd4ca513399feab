"""What is asked before a new batch is paid for, and what is said about it.

The checks raise before anything is journaled or sent. The user's answer is `--yes`, or
`--resubmit`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from ..core.batch import Batch
from ..core.errors import NotConfirmed, UsageProblem
from ..core.text import many
from ..costs import budget, model_names
from ..storage.store import Store
from . import find, repaying
from .spec import Ask, Plan


def check_name(store: Store, name: str) -> None:
    """Raise `UsageProblem` when the journal may have lost a batch of a name that it does not know.

    This needs no plan, so that nothing was rendered yet.
    """
    loss = store.losses()
    if loss is not None and loss.folders:
        raise UsageProblem(
            f"the journal {loss.reason} and no longer knows {name}, which may have been "
            "paid for: --resubmit sends it anyway, `%llm_batch doctor` says what can be done"
        )


def check_models(models: Sequence[str], versions: Sequence[Batch]) -> None:
    """Raise `NotConfirmed` when a new batch names a model that looks misspelt."""
    used = {model for each in versions for model in each.models}
    if words := misspelt(model for model in models if model not in used):
        raise NotConfirmed(words, yes="send it with this name")


def misspelt(models: Iterable[str]) -> str:
    """Say which of some models looks misspelt; empty where none does."""
    for model in models:
        if near := model_names.near_miss(model):
            return f"the price list knows no model {model!r}: did you mean {near!r}?"
    return ""


def check_rows(store: Store, plan: Plan, versions: Sequence[Batch], rules: budget.Rules) -> None:
    """Raise `UsageProblem` when rows that are about to go may have been paid for.

    Parameters
    ----------
    versions
        Earlier batches of the name in this notebook.
    """
    if versions:
        _check_lost_versions(store, plan, versions)
    if not plan.batch.simulated:  # a simulation costs nothing
        _check_elsewhere(store, plan, rules)


def _check_lost_versions(store: Store, plan: Plan, versions: Sequence[Batch]) -> None:
    """Ask when the journal may have lost a version that has paid for some of the rows."""
    loss = store.losses()
    if loss is None or not loss.folders:
        return
    if any(each.created_at >= loss.at for each in versions):
        return  # since then the user has sent it, having been asked
    fresh = many(len(plan.fresh), "row that is", "rows that are")
    raise UsageProblem(
        f"the journal {loss.reason} and may no longer know every version of {plan.batch.name}: "
        f"{fresh} new to it may have been paid for; "
        "`%llm_batch doctor` says what can be done, `%llm_batch doctor --settle` lets cells pay"
    )


def _check_elsewhere(store: Store, plan: Plan, rules: budget.Rules) -> None:
    """Ask when another batch has answers to some of the prompts, or is going to have them."""
    found = next(iter(find.alike(store, plan.batch, plan.packs["hashes"], plan.fresh)), None)
    if found is not None:
        raise NotConfirmed(
            f"{_has_them(found, len(plan.fresh))}",
            yes=f"pay again{repaying.about(plan.batch, found.rows, rules)}",
        )


def _has_them(found: find.Alike, fresh: int) -> str:
    """Say which batch has prompts that are about to be paid for, and how to use its answers."""
    if found.rows == fresh:
        these = "these prompts" if fresh > 1 else "this prompt"
    else:
        these = f"{found.rows:,} of these {fresh:,} prompts"
    if found.answered:
        return (
            f"{found.name} already has answers to {these}. --reuse {found.name} takes them at no "
            "cost"
        )
    return (
        f"{found.name} is being sent with {these} at this moment. --reuse {found.name} waits for "
        "its answers at no cost"
    )


def notices(store: Store, plan: Plan, ask: Ask) -> Iterator[str]:
    """Yield what the user should know about a new batch."""
    batch = plan.batch
    if batch.reused:
        sent = batch.rows - batch.reused - batch.skipped - plan.repeats
        yield (
            f"{many(batch.reused, 'row is', 'rows are')} taken from earlier runs at no cost, "
            + many(sent, "is new", "are new")
        )
    if plan.repeats:
        yield (
            f"{many(plan.repeats, 'row repeats', 'rows repeat')} the prompt of another: not "
            "asked again"
        )
    if ask.sample and not batch.held:
        yield "all rows that are new are asked in real time: no more than the sample"
    if ask.note:
        yield ask.note
    for name in ask.reuse:
        theirs = {each.id for each in find.by_name(store, name, batch.notebook)}
        if theirs.isdisjoint(batch.sources):
            yield f"{name} has no row like these: nothing of it is used"


def passing(
    store: Store,
    plan: Plan,
    older: Sequence[Batch],
    is_driven_elsewhere: Callable[[Batch], bool],
) -> Iterator[str]:
    """Yield what is worth saying while a new batch is under way.

    Parameters
    ----------
    older
        Earlier versions that it takes the place of.
    is_driven_elsewhere
        Whether another kernel drives a batch.
    """
    under_way = [each for each in older if each.finished_at is None]
    theirs = [each for each in under_way if is_driven_elsewhere(each)]
    under_way = [each for each in under_way if each not in theirs]
    if theirs:
        name = plan.batch.name
        yield (
            f"another running kernel of this notebook uses the name {name}, too: there it means "
            f"{theirs[-1].exact}, here {name}#{plan.batch.version}"
        )
    if under_way and not plan.batch.reused:
        yield (
            f"a new version; {under_way[-1].exact} keeps running: "
            f"`%llm_batch cancel {under_way[-1].exact}` stops it"
        )
    if plan.batch.simulated and (found := elsewhere(store, plan)):
        yield found  # else it was asked before


def elsewhere(store: Store, plan: Plan) -> str:
    """Say which other batch has answers, or will have, to prompts about to be paid for."""
    found = find.alike(store, plan.batch, plan.packs["hashes"], plan.fresh)
    return _has_them(found[0], len(plan.fresh)) if found else ""
