"""Estimate the tokens of a batch before it is sent. No I/O here.

Tokens are estimated when a batch is planned, and stored with it; they are priced when shown, since
prices change. Input is measured on a sample of the request lines. Output is what this prompt gave
before, else a guess. The ceiling is what the request allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from statistics import fmean, median, stdev

import msgspec

from ..core.money import Estimate
from ..core.request import Recipe
from ..core.result import Usage
from ..core.text import count
from . import tokens
from .rates import LINEAR, Cost

#: Sampled lines: at most twice as many are measured.
SAMPLE = 48

#: Bytes of sampled lines that are held in memory, and how few are kept even so: with images in
#: them, lines are large.
HELD, FEWEST = 8_000_000, 4

#: Guess of the output tokens per answer where nothing is known.
GUESS = 250

#: Share of the earlier answers' mean length that is the least to be expected of the next ones.
SHORTER = 0.7

#: Output tokens that Anthropic's adapter allows where the user names no bound.
DEFAULT_BOUNDS = {"anthropic": 4096}

#: Shortest prefix that is cached (tokens).
CACHED_FROM = 1024

#: Largest plausible correction; a larger one comes from a provider without usage.
_LEAST, _MOST = 0.3, 3.0


class Meter:
    """A sample of request lines, spread evenly however many there are.

    Attributes
    ----------
    due
        The number of the line that `take` wants next; asking is cheaper than calling.
    rows, size, longest
        Lines so far, their bytes, and those of the longest; counted by whoever has the lines.
    """

    def __init__(self) -> None:
        self.due = 1
        self.rows = 0
        self.size = 0
        self.longest = 0
        self._kept: list[bytes] = []
        self._stride = 1
        self._held = 0

    def take(self, line: bytes) -> None:
        """Take line number `due`."""
        self._kept.append(line)
        self._held += len(line)
        while len(self._kept) == 2 * SAMPLE or (self._held > HELD and len(self._kept) > FEWEST):
            del self._kept[1::2]
            self._stride *= 2
            self._held = sum(map(len, self._kept))
        self.due += self._stride - (self.due - 1) % self._stride

    @property
    def lines(self) -> Sequence[bytes]:
        """The sampled lines."""
        return self._kept


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Past usage, used to estimate the next batch.

    Attributes
    ----------
    output
        Output tokens per answer, None when nothing is known.
    basis
        Source of `output`, as text.
    correction
        Input tokens that were billed for each one that was counted.
    cached, written
        Shares of the input that were read from and written to a prompt cache.
    """

    output: float | None = None
    basis: str = ""
    correction: float = 1.0
    cached: float = 0.0
    written: float = 0.0


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """One earlier job of the same model: what it used, and what had been counted."""

    prompt: str
    rows: int
    usage: Usage
    counted: int = 0


def past_usage(prompt: str, priors: Sequence[Prior]) -> Past:
    """Return past usage for a batch of `prompt` from `priors`, earlier jobs of its model.

    How tokens are counted depends on the model, so that other prompts correct the input, upwards
    only. How long the answers are depends on the prompt, so that only its own answers count.
    """
    known = [prior for prior in priors if prior.rows and prior.usage.input]
    if not known:
        return Past()
    own = [prior for prior in known if prior.prompt == prompt]
    ratios = [prior.usage.input / prior.counted for prior in own or known if prior.counted]
    correction = min(_MOST, max(_LEAST, median(ratios) if ratios else 1.0))
    if not own:
        # Schemas and media of other prompts may have been counted too high: they lower nothing.
        return Past(correction=max(1.0, correction))
    rows = sum(prior.rows for prior in own)
    usage = sum((prior.usage for prior in own), Usage())
    return Past(
        output=usage.output / rows,
        basis=f"{count(rows)} earlier answers to this prompt",
        correction=correction,
        cached=usage.cached / usage.input,
        written=usage.cache_write / usage.input,
    )


def make_estimate(
    meter: Meter,
    *,
    provider: str,
    model: str,
    recipe: Recipe,
    reasks: int = 0,
    bound: int | None = None,
    before: Past | None = None,
    counter: tokens.Counter | None = None,
    method: str = "",
) -> Estimate:
    """Return the estimate for the requests that `meter` sampled.

    Parameters
    ----------
    bound
        The most output tokens of any request, where the requests name it themselves (``raw``).
    before
        What earlier batches say.
    counter, method
        A counter of tokens and its name; by default the scripts' rates.
    """
    before = before or Past()
    lines, rows, size = meter.lines, meter.rows, meter.size
    found = [tokens.measure_request(line, provider, model, counter) for line in lines]
    if not found:
        return Estimate(provider=provider, model=model, rows=0)
    media = any(each.media for each in found)
    weight = rows / len(found) if media else size / sum(map(len, lines))
    counted = weight * sum(each.expected for each in found)
    # What the sample may miss: twice the error of its mean.
    rates = [each.ceiling / len(line) for each, line in zip(found, lines, strict=True)]
    spread = 0.0
    if 1 < len(found) < rows:
        spread = 2 * stdev(rates) / len(found) ** 0.5 / fmean(rates)
    ceiling = weight * sum(each.ceiling for each in found) * (1 + spread)
    if not media:
        ceiling = min(ceiling, size)  # a token is a byte or more
    expected = counted * before.correction
    long = [each.expected for each in found if each.expected * before.correction > LINEAR]
    output, basis = _output(recipe, before)
    cached, written = _caching(recipe, provider, before, expected, rows)
    most = 0 if recipe.endpoint == "embeddings" else _bound(recipe, provider, bound)
    return Estimate(
        provider=provider,
        model=model,
        rows=rows,
        low=round(min(weight * sum(each.low for each in found), expected * 0.9)),
        input=round(expected),
        ceiling=round(max(ceiling, expected * 1.1)),
        counted=round(counted),
        output=round(rows * _within(output, most, guessed=before.output is None)),
        output_ceiling=None if most is None else rows * most,
        guessed=before.output is None and recipe.endpoint != "embeddings",
        long_rows=round(rows * len(long) / len(found)),
        long_input=round(rows * sum(long) / len(found) * before.correction),
        steep=meter.longest * min(1.0, max(rates)) > LINEAR,
        cached=round(expected * cached),
        cache_write=round(expected * written),
        writes=_writes(recipe, provider),
        reasks=reasks,
        sampled=len(found),
        media=media,
        method=method or "by script",
        basis=basis,
        corrected=round(before.correction, 3),
    )


def _caching(
    recipe: Recipe, provider: str, before: Past, expected: float, rows: int
) -> tuple[float, float]:
    """Return the shares of the input that will be read from and written to a cache.

    Other providers than Anthropic promise nothing, so nothing is expected before it was seen.
    """
    if before.cached or before.written or not recipe.cache or provider != "anthropic":
        return before.cached, before.written
    shared = tokens.text_tokens((recipe.system or "") + recipe.prefix)[1] * before.correction
    if shared < CACHED_FROM or rows < 2:
        return 0.0, 0.0
    share = min(1.0, shared * rows / expected)
    return share * (rows - 1) / rows, share / rows


def _writes(recipe: Recipe, provider: str) -> bool:
    """Whether input may cost what writing to a cache costs: at OpenAI without being asked for."""
    if provider == "anthropic":
        return bool(recipe.cache or recipe.raw or "cache_control" in recipe.params)
    return provider != "google" and recipe.endpoint != "embeddings"


def _within(output: float, most: int | None, *, guessed: bool) -> float:
    """Return the expected output within its bound; a guess is that half of it is used."""
    if most is None:
        return output
    return min(output, most / 2 if guessed else most)


def _output(recipe: Recipe, before: Past) -> tuple[float, str]:
    if recipe.endpoint == "embeddings":
        return 0.0, "embeddings have no output tokens"
    if before.output is not None:
        return before.output, before.basis
    return float(GUESS), "a guess: there are no earlier answers to this prompt"


def _bound(recipe: Recipe, provider: str, bound: int | None) -> int | None:
    if recipe.raw:
        return bound
    body = dict(recipe.params)
    if recipe.max_tokens is not None and tokens.output_bound(body) is None:
        body["max_tokens"] = recipe.max_tokens
    found = tokens.output_bound(body)
    return DEFAULT_BOUNDS.get(provider) if found is None else found


def share_of_cost(money: Cost, part: int, whole: int) -> Cost:
    """Return the part of a cost that `part` of `whole` rows have on average."""
    factor = Decimal(part) / Decimal(whole) if whole else Decimal(0)
    return Cost(
        batch=money.batch * factor, realtime=money.realtime * factor, cache=money.cache * factor
    )
