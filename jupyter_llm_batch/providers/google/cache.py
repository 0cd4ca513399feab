"""Gemini's explicit caches: when one pays, and request lines that refer to one. No network here.

A cache holds the system prompt that all rows of a job share. It is sent once and stored for money
until the job is over; each row then reads it at the price of cached input. Without one Gemini
caches by itself, for nothing and without a promise.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec

from ...core.job import Job
from ...costs import price_list
from ...storage import files as payloads
from ..shared import encoding

#: A job runs at most 48 hours, and a large upload before it takes its time.
HOURS = 49
#: A found cache is taken when it lives at least as long as a job.
_LEAST = 48 * 3600.0

#: The smallest cache of any model ("min_total_token_count"). Some want up to 4,096 tokens: they
#: refuse less, which costs nothing.
_LEAST_TOKENS = 1_024

#: USD for a million tokens and an hour, as the pricing page of the Gemini API had it in November
#: 2026 (https://ai.google.dev/gemini-api/docs/pricing, "storage price"). The Flash models from 3.6
#: on cost half of it until the end of 2026. Gemini 4 has implicit caching only.
_STORAGE = tuple(
    (re.compile(rf"gemini-(2\.5|3(\.\d)?)-{kind}(-preview)?(-[\d-]+)?"), Decimal(price))
    for kind, price in (("pro", "4.50"), ("flash(-lite)?", "1.00"))
)

_BEFORE = b'"request":{'
_NAME = b'"systemInstruction":'
#: What may not stand beside a reference; inside a text its quotes would be escaped.
_ALONE = re.compile(rb'"(?:tools|toolConfig|tool_config|cachedContent|cached_content)":')
_BLAMED = re.compile(r"cached[ _]?content", re.IGNORECASE)


# -- whether -----------------------------------------------------------------------------------


def pays(model: str, rows: int) -> bool:
    """Whether a cache for so many rows costs less than it saves, stored to its very end.

    Savings and costs both grow with the tokens, so that their number does not matter. What
    implicit caching would save is left out, since nothing promises it.
    """
    batch = price_list.input_rates("google", model.removeprefix("models/"), "batch")
    each = cost(model, HOURS)
    if batch is None or each is None or batch == _full(model):
        return False
    fresh, cached = batch
    return rows * (fresh - cached) > each


def cost(model: str, hours: float) -> Decimal | None:
    """Return the USD of writing and storing one token, or None where the prices are not known."""
    name = model.removeprefix("models/")
    storage = next((price for known, price in _STORAGE if known.fullmatch(name)), None)
    full = _full(model)
    if storage is None or full is None:
        return None
    return full[0] + Decimal(hours) * storage / 1_000_000


def _full(model: str) -> tuple[Decimal, Decimal] | None:
    return price_list.input_rates("google", model.removeprefix("models/"), None)


def wanted(job: Job, payload: Path) -> bytes:
    """Return what is worth a cache for `job`, as bytes of its lines; empty when nothing is."""
    if job.cache is None or job.endpoint != "chat" or not pays(job.model, job.rows):
        return b""
    instruction = shared(next(payloads.lines(payload), b""))
    if len(instruction) // 4 < _LEAST_TOKENS:  # about four bytes to a token
        return b""
    again = _fragment(instruction)
    rows = sum(1 for line in payloads.lines(payload) if _fits(line, again))
    return instruction if pays(job.model, rows) else b""


# -- lines -------------------------------------------------------------------------------------


def shared(line: bytes) -> bytes:
    """Return the system instruction with which the request of a line begins, as it stands there."""
    _, found, rest = line.partition(_BEFORE)
    if not found or not rest.startswith(_NAME):
        return b""
    # Lines are written by us: compact, with every quote inside a text escaped.
    try:
        request = msgspec.json.decode(b"{" + rest.rstrip()[:-1], type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:
        return b""
    return bytes(request["systemInstruction"])


def refer(lines: Iterable[bytes], instruction: bytes, name: str) -> Iterator[bytes]:
    """Yield `lines` with a cache's name for `instruction`; one that says more stays as it is."""
    fragment = _fragment(instruction)
    reference = b'%b"cachedContent":%b,' % (_BEFORE, encoding.fast(name))
    for line in lines:
        yield line.replace(fragment, reference, 1) if _fits(line, fragment) else line


def lines(payload: Path, name: str) -> Iterator[bytes]:
    """Yield the lines of `payload` with a cache's name in them."""
    instruction = shared(next(payloads.lines(payload), b""))
    return refer(payloads.lines(payload), instruction, name)


def write(payload: Path, name: str) -> Path:
    """Write these lines to a private file beside `payload`."""
    path = payload.with_name(f"{payload.stem}.cached.jsonl")
    with payloads.writing(path) as writer:
        for line in lines(payload, name):
            writer.write(line)
    return path


def _fragment(instruction: bytes) -> bytes:
    return b"%b%b%b," % (_BEFORE, _NAME, instruction)


def _fits(line: bytes, fragment: bytes) -> bool:
    return fragment in line and not _ALONE.search(line)


# -- what travels in `Job.upload_id` -----------------------------------------------------------


def join(file: str | None, cache: str | None) -> str | None:
    """Return one string for the uploaded file and the cache of a job."""
    return " ".join(filter(None, (file, cache))) or None


def split(upload_id: str | None) -> tuple[str | None, str | None]:
    """Return the uploaded file and the cache of a job."""
    names = (upload_id or "").split()
    caches = [name for name in names if name.startswith("cachedContents/")]
    files = [name for name in names if name not in caches]
    return next(iter(files), None), next(iter(caches), None)


def blamed(message: str | None) -> bool:
    """Whether an error speaks of a cache."""
    return bool(message and _BLAMED.search(message))


# -- wire --------------------------------------------------------------------------------------


class _Usage(msgspec.Struct, rename="camel", frozen=True):
    total_token_count: int = 0


class Cache(msgspec.Struct, rename="camel"):
    """A cache on the wire."""

    name: str
    model: str = ""
    display_name: str = ""
    create_time: str = ""
    expire_time: str = ""
    usage_metadata: _Usage = _Usage()

    def lasts(self, now: float) -> bool:
        """Whether it outlives a job that begins now."""
        expires = _moment(self.expire_time)
        return expires is not None and expires - now >= _LEAST

    def cost(self, model: str, now: float) -> Decimal | None:
        """Return the USD of having written it, and stored it until now."""
        created = _moment(self.create_time)
        if created is None:
            return None
        each = cost(model, max(0.0, now - created) / 3600)
        return None if each is None else each * self.usage_metadata.total_token_count


def _moment(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


class _Page(msgspec.Struct, rename="camel"):
    cached_contents: list[Cache] = []
    next_page_token: str = ""


def body(job: Job, model: str, instruction: bytes) -> bytes:
    """Return the request that creates the cache of `job`, to be found again by the job's id."""
    return encoding.fast(
        {
            "model": model,
            "displayName": job.id,
            "systemInstruction": msgspec.Raw(instruction),
            "ttl": f"{HOURS * 3600}s",
        }
    )


def read(answer: bytes) -> Cache:
    """Read one cache; `ValueError` when it is none."""
    return msgspec.json.decode(answer, type=Cache)


def read_page(answer: bytes) -> tuple[list[Cache], str]:
    """Read one page of a listing and the token of the next."""
    page = msgspec.json.decode(answer, type=_Page)
    return page.cached_contents, page.next_page_token
