"""Google's File API: resumable uploads, listing, and the download of results."""

from __future__ import annotations

import re
import secrets
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from ..server.wire import Call, Reply, Route
from ..world.dialect import Clock
from ..world.files import Files, StoredFile, private_open
from .batches import DAY, INLINE_OUTPUT, NAME, OUTPUT
from .checks import camel_case, json_body, page_of, refused
from .times import timestamp

_LIFETIME = 2 * DAY
_LARGEST = 2 * 1024**3
_LONGEST_ID = 40
_ALPHABET = string.ascii_lowercase + string.digits


class Session(msgspec.Struct):
    """An upload under way."""

    account: str
    version: str
    name: str
    display_name: str
    mime_type: str
    path: Path
    size: int = 0


class FileApi:
    """The endpoints of files below ``/google``."""

    def __init__(self, files: Files, clock: Clock, uploads: Uploads) -> None:
        self._files = files
        self._clock = clock
        self._uploads = uploads
        version, file = "/(?P<version>v1|v1beta)", "/files/(?P<id>[^/:]+)"
        self.routes = [
            Route("POST", re.compile(f"/upload{version}/files"), self._start),
            Route("GET", re.compile(f"{version}/files"), self._list),
            Route("GET", re.compile(version + file), self._get),
            Route("DELETE", re.compile(version + file), self._delete),
            Route("GET", re.compile(f"{version}{file}:download"), self._download),
        ]

    def find(self, account: str, file_id: str) -> StoredFile:
        """Return a file of this account, or refuse without telling whether others have it."""
        file = self._files.get(NAME, account, file_id, self._clock.now())
        if file is None or file.purpose == INLINE_OUTPUT:
            raise refused(
                f"You do not have permission to access the File {file_id} or it may not exist.", 7
            )
        return file

    async def _start(self, call: Call) -> Reply:
        headers = call.headers
        if (
            headers.get("X-Goog-Upload-Protocol") != "resumable"
            or headers.get("X-Goog-Upload-Command") != "start"
        ):
            raise refused("The simulator takes resumable uploads only.")
        size = headers.get("X-Goog-Upload-Header-Content-Length", "0")
        if not size.isdigit() or int(size) > _LARGEST:
            raise refused("The file is larger than 2 GB.")
        file = camel_case(camel_case(json_body(call)).get("file") or {})
        name = str(file.get("name") or "").removeprefix("files/")
        token = self._uploads.open(
            Session(
                account=call.account,
                version=call.names["version"],
                name=name or "".join(secrets.choice(_ALPHABET) for _ in range(12)),
                display_name=str(file.get("displayName") or ""),
                mime_type=headers.get("X-Goog-Upload-Header-Content-Type", ""),
                path=self._files.scratch(),
            )
        )
        return Reply(
            b"",
            headers={
                "x-goog-upload-url": f"http://{call.headers['Host']}{Uploads.prefix}/{token}",
                "x-goog-upload-status": "active",
                "x-goog-upload-chunk-granularity": "8388608",
            },
        )

    async def _list(self, call: Call) -> Reply:
        files = self._files.listing(NAME, call.account, self._clock.now())
        uploads = [file for file in files if file.purpose not in (OUTPUT, INLINE_OUTPUT)]
        shown = [file_object(file, call.headers["Host"]) for file in uploads]
        return page_of(shown, "files", call.query, 10, 100)

    async def _get(self, call: Call) -> Reply:
        self._check_id(call, "GetFileRequest")
        file = self.find(call.account, call.names["id"])
        return Reply(file_object(file, call.headers["Host"]))

    async def _delete(self, call: Call) -> Reply:
        self._check_id(call, "DeleteFileRequest")
        self._files.delete(self.find(call.account, call.names["id"]).id)
        return Reply({})

    def _check_id(self, call: Call, request: str) -> None:
        # The ids of result files are longer than the rest of the File API takes.
        if len(call.names["id"]) > _LONGEST_ID:
            raise refused(
                f"* {request}.name: File ID (name excluding 'files/') cannot be more than "
                f"{_LONGEST_ID} characters.\n"
            )

    async def _download(self, call: Call) -> Reply:
        file = self.find(call.account, call.names["id"])
        if file.purpose != OUTPUT or call.query.get("alt") != "media":
            raise refused("Only the results of batches can be downloaded, with alt=media.")
        headers = {"Content-Type": "application/octet-stream"}
        return Reply(self._files.path(file.id), headers=headers)


class Uploads:
    """The addresses that uploads go to; they need no key, knowing one is enough."""

    prefix = "/google-upload"

    def __init__(self, files: Files, clock: Clock) -> None:
        self._files = files
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self.routes = [Route("POST", re.compile("/(?P<token>[0-9a-f]+)"), self._chunk)]

    def open(self, session: Session) -> str:
        """Begin an upload and return its token."""
        token = secrets.token_hex(16)
        self._sessions[token] = session
        return token

    def authenticate(self, _headers: Mapping[str, str]) -> str:
        """Let everybody in; the address is the secret."""
        return ""

    def no_route(self, _method: str, _path: str) -> Reply:
        """Return a 404."""
        return refused("Requested entity was not found.", 5).reply

    def too_large(self) -> Reply:
        """Return the reply for a piece that is too large."""
        return refused("The piece is too large.").reply

    def headers(self, _seconds: float) -> dict[str, str]:
        """Return no headers of its own."""
        return {}

    async def _chunk(self, call: Call) -> Reply:
        token = call.names["token"]
        session = self._sessions.get(token)
        if session is None:
            raise refused("Requested entity was not found.", 5)
        command = call.headers.get("X-Goog-Upload-Command", "")
        if call.headers.get("X-Goog-Upload-Offset") != str(session.size):
            raise refused(f"Invalid offset: {session.size} bytes are here.")
        with private_open(session.path, "ab") as file:
            file.write(call.body)
        session.size += len(call.body)
        if "finalize" not in command:
            return Reply(b"", headers={"x-goog-upload-status": "active"})
        del self._sessions[token]
        now = self._clock.now()
        record = StoredFile(
            id=session.name,
            provider=NAME,
            account=session.account,
            filename=session.display_name,
            purpose=session.mime_type,
            bytes=session.size,
            created_at=now,
            expires_at=now + _LIFETIME,
        )
        self._files.add(record, session.path)
        shown = file_object(record, call.headers["Host"])
        return Reply({"file": shown}, headers={"x-goog-upload-status": "final"})


def file_object(file: StoredFile, host: str) -> dict[str, Any]:
    """Return an uploaded file on the wire; its purpose is its type."""
    return {
        "name": f"files/{file.id}",
        "displayName": file.filename,
        "mimeType": file.purpose,
        "sizeBytes": str(file.bytes),
        "createTime": timestamp(file.created_at),
        "updateTime": timestamp(file.created_at),
        "expirationTime": timestamp(file.expires_at or file.created_at),
        "uri": f"http://{host}/google/v1/files/{file.id}",
        "state": "ACTIVE",
        "source": "UPLOADED",
    }
