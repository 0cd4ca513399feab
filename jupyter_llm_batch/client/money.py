"""The money of one journal, for a client: rules, promises, ledger, comparison and advice."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable
from typing import Any

from ..core.batch import Batch
from ..core.errors import UsageProblem
from ..core.money import Spend
from ..core.settings import Settings
from ..costs import advice, budget, estimate_price, ledger
from ..costs.budget import Rules
from ..costs.price_list import listed_models
from ..costs.prices import PriceBook
from ..storage.spending import Reserve
from ..storage.store import Store
from . import tracking, usage_facts


class Accounts:
    """What batches may cost, and what they cost.

    Parameters
    ----------
    settings
        Returns the user's settings as they are now.
    """

    def __init__(
        self, store: Store, settings: Callable[[], Settings], notebook: str, *, simulated: bool
    ) -> None:
        self._store = store
        self._settings = settings
        self._notebook = notebook
        self._simulated = simulated
        self._rules: tuple[object, Rules] | None = None
        self._booking: tuple[object, Rules] | None = None

    # -- rules -------------------------------------------------------------------------------------

    def rules(self) -> Rules:
        """Return the prices and the budget that the settings name now.

        Raises
        ------
        UsageProblem
            A price cannot be read.
        """
        settings = self._settings()
        named = (settings.prices, settings.discounts, settings.monthly_budget)
        if self._rules is None or self._rules[0] != named:
            book = PriceBook(settings.prices, settings.discounts)
            rules = Rules(book=book, monthly_budget=settings.monthly_budget)
            self._rules = (copy.deepcopy(named), rules)
        return self._rules[1]

    def rules_in_use(self) -> Rules:
        """Return the rules for what is under way, which a wrong price must not stop.

        Prices that are not set in this session are those of the latest submission: after a restart
        batches may end before the cell that sets them has run.
        """
        try:
            rules = self.rules()
        except UsageProblem:
            rules = self._rules[1] if self._rules else Rules(book=PriceBook())
        settings, kept = self._settings(), self._store.prices()
        # A terminal has no notebook of its own: it books for all of them.
        notebooks = [kept[self._notebook]] if self._notebook in kept else [*kept.values()]
        prices: dict[str, Any] = {}
        discounts: dict[str, Any] = {}
        for each in notebooks:
            prices |= each["prices"]
            discounts |= each["discounts"]
        prices |= settings.prices
        discounts |= settings.discounts
        if (prices, discounts) == (settings.prices, settings.discounts):
            return rules
        named = (prices, discounts, settings.monthly_budget)
        if self._booking is None or self._booking[0] != named:
            with contextlib.suppress(UsageProblem):
                book = PriceBook(prices, discounts)
                rules = Rules(book=book, monthly_budget=settings.monthly_budget)
                self._booking = (copy.deepcopy(named), rules)
        return self._booking[1] if self._booking else rules

    def keep_prices(self) -> None:
        """Journal the prices that are set now, for what was just submitted."""
        settings = self._settings()
        self._store.keep_prices(self._notebook, settings.prices, settings.discounts)

    def promise(self, batch: Batch) -> Reserve | None:
        """Hold a planned batch to its cap and the budget; without either nothing is looked up.

        Raises
        ------
        UsageProblem
            It may cost more than is allowed.
        """
        rules = self.rules()
        if rules.monthly_budget is not None:
            self._price_late()
        if not batch.estimates or (batch.max_cost is None and rules.monthly_budget is None):
            return None
        cost = estimate_price.price_estimates(batch.estimates, rules.book)
        budget.check_cap(cost, batch.max_cost)
        return budget.reserve_for(cost, rules, self._store.clock())

    # -- the ledger --------------------------------------------------------------------------------

    def lines(self, name: str = "") -> list[Spend]:
        """Return the lines of the ledger, oldest first: all, or those of one batch by its name."""
        self._price_late()
        found = [*self.unbooked(self._store.batches()), *self._store.spending.spends()]
        if name:
            found = [
                line
                for line in found
                if line.notebook == self._notebook
                and name in (line.title, line.title.partition("#")[0])
            ]
        return sorted(found, key=lambda line: line.at)

    def _price_late(self) -> None:
        """Book what was paid at prices that the user has named only since then."""
        if priced := budget.price_late(self._store.spending.spends(), self.rules_in_use().book):
            self._store.spending.book(priced)

    def unbooked(self, batches: Iterable[Batch]) -> list[Spend]:
        """Return lines for jobs of a time before there was a ledger."""
        found: list[Spend] = []
        for batch in batches:
            booked = self._store.spending.spends(batch_id=batch.id)
            found += ledger.spends_of_jobs(batch, self._store.jobs(batch.id), booked)
        return found

    # -- advice ------------------------------------------------------------------------------------

    def advise(self, calls: Iterable[advice.Call] | None) -> list[advice.Advice]:
        """Return what would have been cheaper; see `Client.advise`."""
        return advice.advise(
            usage_facts.read(self._store, self._store.batches(), self._notebook),
            self.rules().book,
            calls=self._tracked() if calls is None else calls,
            models=listed_models(),
        )

    def _tracked(self) -> list[advice.Call]:
        return [
            advice.Call(
                provider=call.provider,
                model=call.model,
                usage=call.usage,
                where=f"cell [{call.execution}] of {call.notebook}",
                known=call.known,
            )
            for call in tracking.calls(self._store)
        ]
