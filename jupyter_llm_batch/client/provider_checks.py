"""Whether providers can be used: their adapters, keys and connections."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.job import Account
from ..providers.base import Adapter
from ..submission import preview
from ..submission.preview import Preview
from . import connectivity
from .connectivity import Reach
from .context import Context


class ProviderChecks:
    """Looks at providers for ``doctor``."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def adapter(self, name: str) -> Adapter:
        """Return the adapter of a provider; the user may be asked for its key."""
        return self._context.adapter(name, ask=True)

    def account(self, adapter: Adapter) -> Account:
        """Return the account that an adapter sends with, as the journal knows it."""
        return adapter.account(self._context.store.salt())

    def check_key(self, adapter: Adapter) -> Reach:
        """Try the key of a provider, at no cost."""
        return self._context.call(connectivity.check_key(adapter))

    def count_tokens(self, plan: Preview, rows: int) -> dict[str, tuple[int, int, int]]:
        """Have the providers count the tokens of some rows of a preview, at no cost."""
        return preview.count(plan, rows, self._context.adapter, self._context.background.call)

    def reach(self, addresses: Mapping[str, str], settings: Mapping[str, str]) -> dict[str, Reach]:
        """Try the connection to each address, without a key; see `connectivity.look`."""
        return self._context.call(connectivity.look(addresses, settings))
