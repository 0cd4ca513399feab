"""What `login` and `logout` do."""

from __future__ import annotations

from ..client import keys, session
from ..core.errors import UsageProblem
from ..core.terminal import print  # noqa: A004 - what is printed is cleaned
from ..providers.shared import addresses
from . import parsers
from .controller import Controller


class KeyCommands:
    """Subcommands about the keys of providers."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    def login(self, found: list[str]) -> None:
        """Ask for the key of a provider and keep it."""
        provider = self._provider("login", found)
        place = session.login(provider)
        variable = addresses.key_variables(provider)[0]
        if place == keys.KEYRING:
            print(f"{variable} is saved in the keyring of this computer")
        else:
            print(f"{variable} is kept for this kernel only: there is no keyring here")
        if self._says_simulated():
            return
        if self._controller.client.keys.origin([variable]) not in {place, ""}:
            print(f"but what the environment has as {variable} goes first")

    def logout(self, found: list[str]) -> None:
        """Forget the key of a login."""
        provider = self._provider("logout", found)
        places = session.logout(provider)
        variable = addresses.key_variables(provider)[0]
        if places:
            print(f"{variable} is forgotten ({', '.join(places)})")
        else:
            print(f"{variable} was not kept by a login")
        if self._says_simulated():
            return
        if origin := self._controller.client.keys.origin([variable]):
            print(f"it is still found in: {origin}")

    def _says_simulated(self) -> bool:
        """Say that no key counts while providers are simulated, if they are."""
        client = self._controller.client
        simulated = client.simulated and client.keys.closed
        if simulated:
            print(
                "This kernel talks to simulated providers, which need no key: "
                "`%llm_batch simulator --off` goes back to the real ones."
            )
        return simulated

    def _provider(self, command: str, found: list[str]) -> str:
        if found in (["-h"], ["--help"]):
            parsers.of(command).parse(found)
        _ = self._controller.client  # the one whose servers are meant
        if len(found) != 1:
            # Nothing of the line is repeated: a key may be in it.
            raise UsageProblem(
                f"%llm_batch {command} PROVIDER and nothing else: a key in the line would stay in "
                "the history; it is asked for"
            )
        return found[0]
