"""The error tree as drawn, and messages without keys."""

import inspect
import re

import pytest

from jupyter_llm_batch.core import errors
from jupyter_llm_batch.providers.shared.decoding import one_line

KEYS = [
    "sk-proj-AbCdEf0123456789_-xyzXYZ",
    "sk-svcacct-AbCdEf0123456789",
    "sk-ant-api03-AbCd_Ef-0123456789AA",
    "AIzaSyA0123456789-abcdefghijklmnopqrstu",
    "sim-dummy-key",
    "SK-ABCDEF0123456789",
]


def drawn():
    """Return the parent of each class by name, as the module's docstring draws them."""
    path, found = [], {}
    for line in inspect.getdoc(errors).replace("\n    ", "\n").splitlines():
        node = re.match(r"([│├└─ ]*)([A-Z][A-Za-z]+)(  |$)", line)
        if node:
            depth = len(node[1]) // 4
            path[depth:] = [node[2]]
            found[node[2]] = path[depth - 1] if depth else None
    return found


def classes():
    """Return the module's own classes by name."""
    return {
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and kind.__module__ == errors.__name__
    }


def test_the_drawn_tree_names_every_class():
    """The docstring draws each class of the module once, and none that is not there."""
    assert len(classes()) > 10
    assert set(drawn()) == set(classes())
    assert all(issubclass(kind, errors.LLMBatchError) for kind in classes().values())


def test_the_drawn_tree_is_the_tree():
    """The docstring draws every class beneath the class it derives from."""
    parents = {name: kind.__mro__[1].__name__ for name, kind in classes().items()}
    assert drawn() == parents | {"LLMBatchError": None}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "frame",
    [
        "{}",
        "Incorrect API key provided: {}. Look here.",
        "'{}'",
        '{{"key":"{}"}}',
        "({})",
        "\n{}\n",
    ],
)
def test_a_key_is_replaced_wherever_it_stands(key, frame):
    """Keys of each provider and of the simulator go, the words around them stay."""
    clean = errors.redact(frame.format(key))
    assert key not in clean
    assert key[-6:] not in clean
    assert "[key]" in clean
    assert clean.startswith(frame.split("{")[0])


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET https://h/v1/x?key=abc&alt=sse", "GET https://h/v1/x?key=[key]&alt=sse"),
        ("https://h/x?alt=sse&key=abc 403", "https://h/x?alt=sse&key=[key] 403"),
        ('url "https://h/x?key=abc" failed', 'url "https://h/x?key=[key]" failed'),
        ("Authorization: Bearer abc.def/+= end", "Authorization: Bearer [key] end"),
        ("authorization: bearer t0k3n", "authorization: bearer [key]"),
        ("x-api-key: abc end", "x-api-key: [key] end"),
        ("X-Goog-Api-Key: abc end", "X-Goog-Api-Key: [key] end"),
    ],
)
def test_a_key_is_known_by_its_place(text, clean):
    """What stands in a header or a query as the key is replaced, whatever it looks like."""
    assert errors.redact(text) == clean


def test_a_key_that_the_provider_masked_is_replaced_whole():
    """The first and last letters that a provider leaves of a key do not stay either."""
    clean = errors.redact("Incorrect API key provided: sk-proj-Ab**********wxyz")
    assert clean == "Incorrect API key provided: [key]"


@pytest.mark.parametrize(
    "text",
    [
        "row 3 of task-manager failed",
        "a high-risk-averse model",
        "model gpt-5-mini",
        "key=value",
        "",
    ],
)
def test_ordinary_words_stay(text):
    """Text without a key is left as it is."""
    assert errors.redact(text) == text


def test_every_provider_error_is_redacted():
    """A key never gets into a provider's error, its repr or its arguments."""
    key = KEYS[0]
    kinds = [errors.ProviderError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    assert len(kinds) >= 9
    for kind in kinds:
        more = ([],) if kind is errors.Undecided else ()
        error = kind(f"no: {key}", *more)
        assert str(error) == "no: [key]"
        assert key not in repr(error) + repr(error.args) + repr(vars(error))


def test_usage_problems_are_value_errors():
    """Callers that know only the built-in errors catch wrong input as well."""
    assert issubclass(errors.UsageProblem, ValueError)
    assert issubclass(errors.NotFound, LookupError)


@pytest.mark.parametrize(
    "text", ["Bearer sk-abcdefgh+ij/kl=", '{"x-api-key": "abcdefghijkl"}', "AQ.abcdefghijkl"]
)
def test_no_rest_of_a_key_stays(text):
    """Keys of odd letters, in headers as JSON and of new kinds go as a whole."""
    left = errors.redact(text)
    assert not [part for part in ("abcdef", "ij/kl", "ghijkl") if part in left]


@pytest.mark.parametrize(
    "text", ["a" * 1_000_000, "a." * 500_000, "AIza." * 200_000, "*" * 1_000_000]
)
def test_a_long_text_is_searched_in_one_pass(text):
    """A megabyte of one word is redacted like any other text, not in quadratic time."""
    assert errors.redact(f"{text} sk-abcdefgh1234") == f"{text} [key]"


def test_no_part_of_a_key_is_left_where_an_error_is_cut():
    """An error that is cut in the middle of a key shows nothing of the key."""
    errors.conceal("Od7QkeYOfnoKnownForm")
    for before in range(480, 500):
        said = one_line("x" * before + " Od7QkeYOfnoKnownForm, sk-abcdefgh1234")
        assert "Od7" not in said
        assert "sk-a" not in said
