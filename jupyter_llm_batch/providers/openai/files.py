"""The files of one OpenAI-compatible server: payloads go up, results come down."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from ...core import policy
from ...core.errors import Busy, KeyRefused, LLMBatchError, Refused, Vanished
from ...core.job import Job
from ..shared import bounds, downloads, network
from . import objects
from .client import Server

#: Seconds until an upload that is still being processed is looked at again.
_PENDING = 10.0


class Files:
    """Uploads, downloads and deletes files.

    Parameters
    ----------
    slow
        An upload is known to take its time before it can be used.
    """

    def __init__(self, server: Server, *, slow: bool = False) -> None:
        self._server = server
        self._slow = slow
        #: Uploads that the server was not through with when they came.
        self._unfinished: set[str] = set()

    async def upload(self, job: Job, payload: Path) -> str:
        """Upload the payload and return the file's id."""
        access = self._server.access
        try:
            # An open file is streamed from disk; a path would be read into memory by the SDK.
            with payload.open("rb") as file:
                async with self._server.translated():
                    answer = await self._server.connected().files.with_raw_response.create(
                        file=(f"{job.id}.jsonl", file, "application/jsonl"),
                        purpose="batch",
                        timeout=network.timeout(read=policy.ANSWER, write=policy.LONG_CALL),
                    )
                    found = objects.read_file(answer.content)
        except Refused as exc:
            if exc.status not in {404, 405, 501} or access.is_default:
                raise
            raise Refused(
                f"{access.who} takes no batches ({exc.status} for its files): run the cell with "
                "--realtime",
                status=exc.status,
                code=exc.code,
            ) from exc
        if found.usable is None:
            self._unfinished.add(found.id)
        return found.id

    async def check_usable(self, upload_id: str) -> None:
        """Raise `Busy` while the server is not through with an upload, `Refused` if it never is.

        OpenAI's files can be used at once. Of a server where that is not so, this process may not
        have seen the upload.
        """
        if not self._slow and upload_id not in self._unfinished:
            return
        who = self._server.access.who
        try:
            async with self._server.translated():
                answer = await self._server.connected().files.with_raw_response.retrieve(
                    upload_id, timeout=network.timeout()
                )
                file = objects.read_file(answer.content)
        except KeyRefused:
            raise
        except LLMBatchError:
            return  # not every server tells of its files, and other trouble the create meets, too
        if file.usable is None:
            raise Busy(f"{who} is still processing the uploaded file", retry_after=_PENDING)
        self._unfinished.discard(upload_id)
        if not file.usable:
            raise Refused(f"{who} cannot use the uploaded file: {file.reason}")

    async def delete(self, file_id: str) -> None:
        """Delete a file; one that is gone already is no trouble."""
        with suppress(Vanished):
            async with self._server.translated():
                await self._server.connected().files.with_raw_response.delete(
                    file_id, timeout=network.timeout()
                )

    @asynccontextmanager
    async def content(self, file_id: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open the content of a file."""
        async with (
            self._server.translated(),
            bounds.up_to(None),
            self._server.connected().files.with_streaming_response.content(
                file_id, timeout=network.timeout(read=policy.LONG_CALL)
            ) as answer,
        ):
            yield answer.iter_bytes(downloads.PIECE)
