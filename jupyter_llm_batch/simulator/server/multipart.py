"""Reads a large body as it arrives: a form, whose file goes to disk, or any, all of it to disk."""

from __future__ import annotations

from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from ..world.files import private_open


@dataclass(slots=True)
class Form:
    """The fields of a form, and its file."""

    fields: dict[str, str] = field(default_factory=dict)
    file: Path | None = None
    filename: str = ""
    size: int = 0
    complete: bool = False


class FormReader:
    """Feed it chunks, then read `form`."""

    def __init__(self, content_type: str, scratch: Path) -> None:
        message = Message()
        message["content-type"] = content_type
        self._delimiter = b"\r\n--" + str(message.get_param("boundary", "")).encode()
        # The first delimiter has no line break before it unless there is a preamble.
        self._buffer = bytearray(b"\r\n")
        self._scratch = scratch
        self._in_headers = False
        self._name: str | None = None
        self._text = bytearray()
        self._file: BinaryIO | None = None
        self.form = Form()

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        self._buffer += chunk
        while not self.form.complete and (self._headers() if self._in_headers else self._content()):
            pass

    def close(self) -> Form:
        """Return the form; an incomplete one if the body ended early."""
        if self._file is not None:
            self._file.close()
        return self.form

    def _headers(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return False
        headers = Message()
        for line in bytes(self._buffer[:end]).decode("utf-8", "replace").split("\r\n"):
            name, _, value = line.partition(":")
            if value:
                headers[name] = value.strip()
        del self._buffer[: end + 4]
        self._in_headers = False
        self._name = str(headers.get_param("name", "", "content-disposition"))
        filename = headers.get_filename()
        if filename is not None and self.form.file is None:
            self.form.file, self.form.filename = self._scratch, filename
            self._file = private_open(self._scratch, "wb")
        return True

    def _content(self) -> bool:
        end = self._buffer.find(self._delimiter)
        if end < 0:
            # The delimiter may begin in this chunk and go on in the next.
            sure = len(self._buffer) - len(self._delimiter)
            if sure > 0:
                self._take(sure)
            return False
        after = end + len(self._delimiter)
        if len(self._buffer) < after + 2:
            return False
        self._take(end)
        last = self._buffer[len(self._delimiter) :].startswith(b"--")
        del self._buffer[: len(self._delimiter) + (0 if last else 2)]
        self._end_part()
        self._in_headers = not last
        self.form.complete = last
        return True

    def _take(self, count: int) -> None:
        with memoryview(self._buffer) as view:
            if self._file is not None:
                self._file.write(view[:count])
                self.form.size += count
            elif self._name is not None:
                self._text += view[:count]
        del self._buffer[:count]

    def _end_part(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        elif self._name is not None:
            self.form.fields[self._name] = self._text.decode("utf-8", "replace")
        self._name = None
        self._text.clear()


class BodyReader:
    """Feed it chunks; all of them become the file of a form without fields."""

    def __init__(self, scratch: Path) -> None:
        self.form = Form(file=scratch, complete=True)
        self._file = private_open(scratch, "wb")

    def feed(self, chunk: bytes) -> None:
        """Take the next piece of the body."""
        self._file.write(chunk)
        self.form.size += len(chunk)

    def close(self) -> Form:
        """Return the form."""
        self._file.close()
        return self.form
