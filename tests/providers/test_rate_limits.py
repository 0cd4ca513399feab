"""The rate-limit headers of the providers."""

from jupyter_llm_batch.core.job import Room
from jupyter_llm_batch.providers.shared import rate_limits


def test_openai_writes_spans():
    """Minutes, seconds and milliseconds add up; what is not there is not told."""
    headers = {
        "x-ratelimit-remaining-requests": "59",
        "x-ratelimit-reset-requests": "6m1.5s",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "20ms",
    }
    assert rate_limits.openai(headers) == [Room(left=59, reset=361.5), Room(left=0, reset=0.02)]
    assert rate_limits.openai({}) == []


def test_anthropic_writes_moments():
    """A reset is a moment in RFC 3339; one that has passed, or is none, means now."""
    headers = {
        "anthropic-ratelimit-requests-remaining": "4",
        "anthropic-ratelimit-requests-reset": "2026-11-25T10:00:30Z",
        "anthropic-ratelimit-input-tokens-remaining": "7",
        "anthropic-ratelimit-input-tokens-reset": "soon",
    }
    now = 1_795_600_800.0  # 2026-11-25T10:00:00Z
    assert rate_limits.anthropic(headers, now) == [Room(left=4, reset=30.0), Room(left=7)]
    assert rate_limits.anthropic(headers, now + 99)[0] == Room(left=4)


def test_nonsense_is_no_limit():
    """A count that is no number is left out, a reset beyond a day is cut."""
    assert rate_limits.openai({"x-ratelimit-remaining-requests": "many"}) == []
    headers = {"x-ratelimit-remaining-requests": "1", "x-ratelimit-reset-requests": "400d"}
    assert rate_limits.openai(headers) == [Room(left=1, reset=86_400.0)]
