"""What every adapter promises, as tests that a provider's package runs against its own adapter.

Derive a class from `ProviderContract` in a test module, say which adapter and which fake server,
and let pytest collect it. A check that the fake server does not support is skipped.
"""

from __future__ import annotations

import asyncio
import io
import json
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from unittest import SkipTest

import msgspec

from ..core.errors import Busy, Incomplete, ProviderError, Refused, Unclear, Undecided, UsageProblem
from ..core.job import Job, Phase, Remote
from ..core.request import Recipe
from ..core.result import Outcome, Result
from .base import Adapter, RealTime, completed
from .shared.addresses import key_variables

__all__ = ["ProviderContract"]

T = TypeVar("T")

#: Prompts that break whoever builds JSON by hand or splits text into lines carelessly.
_ODD = ["x", 'a "quoted" \\ text', "two\nlines\r\n", "\u2028\u2029\x85", "\x00\x1f", "😀 {{ x }}"]

#: Result lines that no provider should send, and one day sends.
_BROKEN = [b"", b"\n", b"{", b"null", b"[]", b'"text"', b"{}", b"\xff\xfe", b'{"id": {}}', b"7"]

#: Where nobody listens.
_NOBODY = "http://127.0.0.1:1"


class ProviderContract:
    """The checks; a subclass names an adapter and its fake server.

    Attributes
    ----------
    model
        A model that the fake server answers for.
    key
        A key that it takes.
    address
        The variable that holds the base URL; ``NAME_BASE_URL`` where it is empty.
    recipe
        What the requests of the checks share.
    patience
        Seconds in which the fake server finishes a job of three rows.
    """

    model = "test"
    key = "key-of-the-contract"
    address = ""
    recipe = Recipe()
    patience = 10.0

    # -- what a subclass says ------------------------------------------------------------------

    def adapter_of(self, environ: Mapping[str, str]) -> Adapter:
        """Return the adapter for keys and base URLs in `environ`."""
        raise NotImplementedError

    def url(self) -> str:
        """Return the base URL of the fake server, as the user's variable would hold it."""
        raise NotImplementedError

    def created(self) -> int:
        """Return how many creates the fake server has executed."""
        raise NotImplementedError

    def lose_the_next_answer(self) -> bool:
        """Have the server execute the next create and drop the connection; False if it cannot."""
        return False

    def list_without_end(self) -> bool:
        """Have each page of the server's listing name a further one; False if it cannot."""
        return False

    # -- requests and results ------------------------------------------------------------------

    def test_a_request_is_one_line_with_its_id_and_prompt(self) -> None:
        """Whatever the prompt holds, its line is one line of JSON and shows the prompt."""
        adapter = self._adapter()
        adapter.validate(self.recipe, self.model)
        encode = adapter.encoder(self.recipe, self.model)
        for prompt in _ODD:
            line = encode("b7-12", prompt)
            assert line.endswith(b"\n"), "a line ends with a newline"
            assert line.count(b"\n") == 1, f"{prompt!r} makes more than one line"
            assert "b7-12" in json.dumps(json.loads(line)), "the id is in the line"
            assert prompt in {adapter.prompt_of(line), *_texts(json.loads(line))}, f"{prompt!r}"
            assert encode("b7-12", prompt) == line, "equal requests have equal lines"

    def test_no_line_makes_the_parser_raise(self) -> None:
        """Bytes of any kind become a result, and none of them an answer."""
        adapter = self._adapter()
        for line in _BROKEN:
            result = adapter.parse(line, self.recipe.endpoint)
            assert isinstance(result, Result)
            assert result.outcome is not Outcome.OK, f"{line!r} is no answer"

    def test_the_meaning_depends_on_what_is_meant(self) -> None:
        """Model, system prompt, bound and parameters count; key and order do not."""
        adapter, more = self._adapter(), msgspec.structs.replace
        plain = adapter.meaning(self.recipe, self.model)
        assert self._adapter(key="another-key").meaning(self.recipe, self.model) == plain
        others = [
            adapter.meaning(self.recipe, "another-model"),
            adapter.meaning(more(self.recipe, system="Be brief"), self.model),
            adapter.meaning(more(self.recipe, max_tokens=77), self.model),
            adapter.meaning(more(self.recipe, params={"x": 1}), self.model),
        ]
        assert len({plain, *others}) == 5
        orders = [{"a": 1, "b": 2}, {"b": 2, "a": 1}]
        assert len({adapter.meaning(more(self.recipe, params=o), self.model) for o in orders}) == 1

    # -- account -------------------------------------------------------------------------------

    def test_a_missing_key_is_named(self) -> None:
        """Without a key the problem names the variable; with one there is none."""
        self._adapter().check_key()
        told = _raised(UsageProblem, lambda: self._adapter(key="").check_key())
        assert any(each in told for each in key_variables(self._adapter().name)), told

    def test_the_key_is_in_no_repr(self) -> None:
        """Neither the adapter nor what it holds nor the account shows the key."""
        adapter = self._adapter()
        account = adapter.account(b"salt")
        shown = f"{adapter!r}{account!r}" + "".join(map(repr, vars(adapter).values()))
        assert self.key not in shown
        assert account == self._adapter().account(b"salt")
        assert account != self._adapter(key="another-key").account(b"salt")
        assert account != self._adapter(url=_NOBODY).account(b"salt")

    # -- jobs ----------------------------------------------------------------------------------

    def test_every_answer_belongs_to_its_request(self) -> None:
        """Upload, create, retrieve and fetch: each row has one result, under its own id."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> dict[str, Result]:
            remote = await self._create(adapter, job, payload, "mine")
            return await _results(adapter, job, await self._ended(adapter, remote))

        found = self._run(work)
        assert sorted(found) == ["r-0", "r-1", "r-2"]
        assert {each.outcome for each in found.values()} == {Outcome.OK}
        assert len({each.text for each in found.values()}) == 3, "each prompt has its own answer"

    def test_a_create_is_sent_once(self) -> None:
        """One call makes one job, and the listing shows it once."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> list[str]:
            remote = await self._create(adapter, job, payload, "mine")
            listed = [each.remote_id async for each in adapter.list(time.time() - 60)]
            return [each for each in listed if each == remote.remote_id]

        before = self.created()
        assert len(self._run(work)) == 1
        assert self.created() == before + 1

    def test_a_lost_create_is_found_and_not_repeated(self) -> None:
        """The response is lost: `Unclear`, one job, and `find` knows it."""
        before, since = self.created(), time.time() - 60

        async def work(adapter: Adapter, job: Job, payload: Path) -> bool:
            upload_id = await adapter.upload(job, payload)
            if not self.lose_the_next_answer():
                raise SkipTest("the fake server loses no answers")
            await _fails(Unclear, adapter.create(job, payload, upload_id, "mine"))
            return await _is_found(adapter, "mine", job, since)

        assert self._run(work), "the job is there and is not found"
        assert self.created() == before + 1

    def test_a_label_finds_its_own_job(self) -> None:
        """Of two equal jobs the label tells which; an unknown label finds none."""
        if not self._adapter().limits(self.recipe.endpoint).labelled:
            raise SkipTest("this provider keeps no label")

        async def work(adapter: Adapter, job: Job, payload: Path) -> tuple[Any, ...]:
            since = time.time() - 60
            mine = await self._create(adapter, job, payload, "mine")
            await self._create(adapter, job, payload, "theirs")
            found = await adapter.find("mine", job, since)
            return mine, found, await adapter.find("nobody", job, since)

        mine, found, other = self._run(work)
        assert found.remote_id == mine.remote_id
        assert other is None

    def test_a_cancelled_job_ends(self) -> None:
        """After a cancel the job ends, whatever it got done."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> Remote:
            remote = await self._create(adapter, job, payload, "mine")
            with suppress(Refused):  # too late
                await adapter.cancel(remote.remote_id)
            return await self._ended(adapter, remote)

        assert self._run(work).phase is not Phase.ACTIVE

    def test_a_listing_has_an_end(self) -> None:
        """A listing that never ends is given up, and the same job is not listed for ever."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> None:
            await self._create(adapter, job, payload, "mine")
            if not self.list_without_end():
                raise SkipTest("the listing of the fake server has an end")
            async with asyncio.timeout(60):
                with suppress(ProviderError):  # it is read again later
                    async for _ in adapter.list(0.0):
                        pass

        self._run(work)

    # -- trouble -------------------------------------------------------------------------------

    def test_nobody_listening_is_busy(self) -> None:
        """A connection that was never made proves that nothing happened."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> None:
            await _fails(Busy, adapter.create(job, payload, "file-1", "mine"))
            await _fails(Busy, adapter.retrieve("job-1"))

        self._run(work, url=_NOBODY)

    def test_a_refused_key_is_told_without_the_key(self) -> None:
        """A wrong key is one of our errors, in one line, and the key is not in it."""
        wrong = "wrong-key-of-the-contract"

        async def work(adapter: Adapter, job: Job, payload: Path) -> str:  # noqa: ARG001
            return await _fails(ProviderError, adapter.retrieve("job-1"))

        told = self._run(work, key=wrong)
        assert wrong not in told
        assert "\n" not in told

    def test_an_unknown_job_is_one_of_our_errors(self) -> None:
        """Neither retrieve nor fetch lets a foreign exception out."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> None:  # noqa: ARG001
            await _fails(ProviderError, adapter.retrieve("no-such-job"))
            fetched = adapter.fetch("no-such-job", "output", "no-such-file", io.BytesIO())
            await _fails((ProviderError, Incomplete), fetched)

        self._run(work)

    # -- real time -----------------------------------------------------------------------------

    def test_a_single_request_has_its_result_line(self) -> None:
        """``ask`` sends one request and returns a line that `parse` reads."""

        async def work(adapter: Adapter, job: Job, payload: Path) -> Result:  # noqa: ARG001
            if not isinstance(adapter, RealTime):
                raise SkipTest("this provider has no real time")
            line = adapter.encoder(self.recipe, self.model)("r-0", "prompt 0")
            reply = await adapter.ask(line, job.endpoint, job.model)
            return adapter.parse(reply.line, job.endpoint)

        result = self._run(work)
        assert (result.custom_id, result.outcome) == ("r-0", Outcome.OK)

    # -- beneath -------------------------------------------------------------------------------

    def _adapter(self, *, key: str | None = None, url: str | None = None) -> Adapter:
        bare = self.adapter_of({})
        variable = key_variables(bare.name)[0]
        address = self.address or variable.removesuffix("_API_KEY") + "_BASE_URL"
        environ = {
            variable: self.key if key is None else key,
            address: self.url() if url is None else url,
        }
        return completed(bare.name, self.adapter_of(environ))

    def _run(
        self,
        work: Callable[[Adapter, Job, Path], Coroutine[Any, Any, T]],
        *,
        key: str | None = None,
        url: str | None = None,
    ) -> T:
        """Run `work` with an adapter and a job of three rows."""
        adapter = self._adapter(key=key, url=url)
        encode = adapter.encoder(self.recipe, self.model)
        lines = [encode(f"r-{row}", f"prompt {row}") for row in range(3)]

        async def main() -> T:
            try:
                return await work(adapter, job, payload)
            finally:
                await adapter.close()

        with tempfile.TemporaryDirectory() as folder:
            payload = Path(folder) / "job.jsonl"
            payload.write_bytes(b"".join(lines))
            job = Job(
                id="job-1",
                batch_id="r",
                round=0,
                number=0,
                provider=adapter.name,
                model=self.model,
                endpoint=self.recipe.endpoint,
                rows=len(lines),
                bytes=payload.stat().st_size,
                payload=payload.name,
            )
            return asyncio.run(main())

    async def _create(self, adapter: Adapter, job: Job, payload: Path, label: str) -> Remote:
        upload_id = await adapter.upload(job, payload)
        return await adapter.create(job, payload, upload_id, label)

    async def _ended(self, adapter: Adapter, remote: Remote) -> Remote:
        until = time.monotonic() + self.patience
        while remote.phase is Phase.ACTIVE:
            assert time.monotonic() < until, f"the job is still {remote.state!r}"
            await asyncio.sleep(0.02)
            remote = await adapter.retrieve(remote.remote_id)
        return remote


async def _results(adapter: Adapter, job: Job, remote: Remote) -> dict[str, Result]:
    found: dict[str, Result] = {}
    for part, ref in remote.parts.items():
        sink = io.BytesIO()
        await adapter.fetch(remote.remote_id, part, ref, sink)
        for line in sink.getvalue().splitlines():
            result = adapter.parse(line, job.endpoint)
            assert result.custom_id not in found, f"{result.custom_id} has two results"
            found[result.custom_id] = result
    return found


async def _is_found(adapter: Adapter, label: str, job: Job, since: float) -> bool:
    try:
        return await adapter.find(label, job, since) is not None
    except Undecided as undecided:
        return bool(undecided.candidates)


async def _fails(
    kinds: type[Exception] | tuple[type[Exception], ...], call: Awaitable[object]
) -> str:
    """Return the message of the error that a call ends with; it has to be one of `kinds`."""
    try:
        await call
    except kinds as error:
        return str(error)
    raise AssertionError(f"the call ended without {kinds}")


def _raised(kind: type[Exception], call: Callable[[], object]) -> str:
    try:
        call()
    except kind as error:
        return str(error)
    raise AssertionError(f"{kind.__name__} was not raised")


def _texts(value: Any) -> list[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, str):
        return [value]
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for each in items for text in _texts(each)]
