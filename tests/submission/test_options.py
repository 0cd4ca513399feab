"""The magic's line: words, options, and one clear line when it is wrong."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyter_llm_batch.core import cell_options, magic_line, option_values
from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.notebook import options

_SIMPLE = st.text(st.characters(codec="ascii", categories=["L", "N"]) | st.sampled_from("-_=.:/,"))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("", []),
        ("  a \t b ", ["a", "b"]),
        ('--system "Be brief" x', ["--system", "Be brief", "x"]),
        ("--system 'Be brief'", ["--system", "Be brief"]),
        ('--system ""', ["--system", ""]),
        (r'"say \"no\""', ['say "no"']),
        (r'"a\\" b', ["a\\", "b"]),
        ('--over df[["id", "text"]] x', ["--over", 'df[["id", "text"]]', "x"]),
        ("--over (a + b)[0: 2]", ["--over", "(a + b)[0: 2]"]),
        ("--over {'k': [1, 2]}", ["--over", "{'k': [1, 2]}"]),
        ("--over d[')'] x", ["--over", "d[')']", "x"]),
        ("--over f'{x}' y", ["--over", "f'{x}'", "y"]),
        ('--param stop="a b" x', ["--param", 'stop="a b"', "x"]),
        ("it's what it isn't", ["it's", "what", "it", "isn't"]),
        ("rock'n'roll x", ["rock'n'roll", "x"]),
        ('"a"+"b"', ['"a"+"b"']),
        ("a ) b", ["a", ")", "b"]),
        ("--over [f'{a} ) \"' for a in xs] y", ["--over", "[f'{a} ) \"' for a in xs]", "y"]),
        ("--over f'{a} b' y", ["--over", "f'{a} b'", "y"]),
        ("--over [rb'( ' , 1]", ["--over", "[rb'( ' , 1]"]),
        ("--system '''it's so''' x", ["--system", "it's so", "x"]),
        ("x --wait # done by 'noon", ["x", "--wait"]),
        ("status x#2 #", ["status", "x#2"]),
        ("--over df;", ["--over", "df"]),
        ("--system 'a;' ;", ["--system", "a;"]),
        ("--system '#1' x", ["--system", "#1", "x"]),
    ],
)
def test_blanks_divide_outside_quotes_and_brackets_only(line, found):
    """A line falls apart at blanks, and only quotes around a whole word come off."""
    assert options.words(line) == found


@given(st.lists(_SIMPLE.filter(bool)))
def test_simple_words_come_back_as_they_were(found):
    """Words without blanks, quotes and brackets survive being joined and split."""
    assert options.words("  ".join(found)) == found


@given(st.lists(st.text(_SIMPLE.filter(bool).map(lambda text: text[0]) | st.just(" "))))
def test_quoted_words_keep_their_blanks(found):
    """Between quotes a word keeps every blank, whichever quotes are used."""
    for quote in "\"'":
        assert options.words(" ".join(f"{quote}{word}{quote}" for word in found)) == found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--system 'Be brief", "a quote is not closed in: 'Be brief"),
        ("--over df[0", "a bracket is not closed in: df[0"),
        ("x --over f(a, (b) y", "a bracket is not closed in: f(a, (b) y"),
    ],
)
def test_what_is_left_open_is_shown(line, said):
    """An open quote or bracket is refused with the words that it swallowed."""
    with pytest.raises(UsageProblem) as caught:
        options.words(line)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("b --modle x", "unknown '--modle': did you mean --model?"),
        ("b --zzzzzz", "unknown '--zzzzzz'; `%%llm_batch --help` lists the options"),
        ("b extra", "unknown 'extra'"),
        ("b --mod x", "unknown '--mod'"),
        ("", "the following arguments are required: name; `%%llm_batch --help` explains"),
        ("b --model", "argument -m/--model: expected one argument"),
        ("b --max-tokens 0", "argument --max-tokens: must be at least 1"),
        ("b --retry 1.5", "argument --retry: '1.5' is not a whole number"),
        ("b --reask=-1", "argument --reask: '-1' is not a whole number"),
        ("b --param seed=1e999", "argument --param: 1e999 is larger than any number that can be"),
        ("b --param a", "argument --param: 'a' is not KEY=VALUE"),
        ("b --param =a", "argument --param: '=a' is not KEY=VALUE"),
    ],
)
def test_a_wrong_line_is_one_line_with_the_next_step(line, said):
    """A wrong option raises one line that names the magic, the fault and the help."""
    with pytest.raises(UsageProblem) as caught:
        cell_options.cell_parser().parse(options.words(line))
    message = str(caught.value)
    assert message.startswith("%%llm_batch: ")
    assert said in message
    assert "`%%llm_batch --help`" in message
    assert "\n" not in message


@pytest.mark.parametrize("asked", ["-h", "--help", "b --model m --help"])
def test_help_is_the_list_of_options(asked):
    """Asking for help, anywhere in the line, gives the description of every option."""
    parser = cell_options.cell_parser()
    with pytest.raises(cell_options.HelpShown) as caught:
        parser.parse(options.words(asked))
    assert all(option in str(caught.value) for option in parser.options())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("k=0.5", 0.5),
        ("k=true", True),
        ("k=null", None),
        ('k=["a", 1]', ["a", 1]),
        ('k={"a": {"b": 1}}', {"a": {"b": 1}}),
        ("k=low", "low"),
        ("k=a=b", "a=b"),
        ("k=", ""),
        ("k='a b'", "a b"),
        ("k=True", "True"),
        ("k='{\"a\": 1}'", {"a": 1}),
    ],
)
def test_a_parameter_is_json_or_else_text(text, value):
    """The value of a parameter is read as JSON, and is a string where it is none."""
    key, found = option_values.parameter(text)
    assert (key, found, type(found)) == ("k", value, type(value))


def test_the_last_of_equal_parameters_counts():
    """Parameters add up, and of two with one key the later one is sent."""
    line = "b --param a=1 --param b=x --param a=2"
    args = cell_options.cell_parser().parse(options.words(line))
    assert options.submit_options(args, {})["params"] == {"a": 2, "b": "x"}


@pytest.mark.parametrize("text", ["-1", "nan", "inf", "1e9", "soon", ""])
def test_a_wait_is_a_finite_number_of_seconds(text):
    """A wait that is negative, endless or no number is refused."""
    with pytest.raises(argparse.ArgumentTypeError, match="is not a number of seconds"):
        option_values.seconds(text)
    assert option_values.seconds("0") == 0
    assert option_values.seconds("2.5") == 2.5


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (
            "reviws[:2]",
            "--over reviws[:2]: name 'reviws' is not defined (did you mean 'reviews'?)",
        ),
        ("qqq", "--over qqq: name 'qqq' is not defined"),
        ("_hiden", "--over _hiden: name '_hiden' is not defined"),
        ("reviews['a']", "--over reviews['a']: TypeError: list indices must be integers"),
        ("1 +", "--over 1 +: SyntaxError: invalid syntax"),
        ("fail()", "--over fail(): ValueError: two lines"),
    ],
)
def test_an_expression_that_fails_says_which_and_why(expression, said):
    """A failing expression gives one line: option, expression, fault, and a public near name."""

    def fail():
        message = "two\n   lines"
        raise ValueError(message)

    with pytest.raises(UsageProblem) as caught:
        options.evaluate(expression, {"reviews": [], "_hidden": 1, "fail": fail}, "--over")
    message = str(caught.value)
    assert message.startswith(said)
    assert "\n" not in message
    assert ("did you mean" in message) == ("did you mean" in said)


def test_an_interrupt_is_not_a_usage_problem():
    """Interrupting an expression interrupts; it is not reworded."""

    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        options.evaluate("f()", {"f": interrupted}, "--over")


def test_the_system_prompt_has_one_source():
    """The system prompt is a text, or a variable that holds one, never both."""
    parser = cell_options.cell_parser()

    def system(line):
        return options.system_of(parser.parse(options.words(line)), {"rules": "Be kind", "n": 3})

    assert system("b") is None
    assert system("b --system 'Be brief'") == "Be brief"
    assert system("b --system-from rules") == "Be kind"
    with pytest.raises(UsageProblem, match="not both"):
        system("b --system x --system-from rules")
    with pytest.raises(UsageProblem, match="--system-from n is an int, not text"):
        system("b --system-from n")


def test_only_options_that_were_given_name_rows_or_a_schema():
    """Rows and schema are expressions of the user's, and absent where the line has none."""
    parser = cell_options.cell_parser()
    bare = options.submit_options(parser.parse(["b"]), {})
    assert not {"over", "schema"} & set(bare)
    args = parser.parse(options.words("b --over rows[1:] --schema s --as label"))
    given_ = options.submit_options(args, {"rows": [1, 2], "s": {"type": "object"}})
    assert given_["over"] == [2]
    assert given_["schema"] == {"type": "object"}
    assert given_["column"] == "label"


@pytest.mark.parametrize(
    ("text", "value"),
    [('user="123"', "123"), ("n=123", 123), ("mode='fast'", "fast"), ('stop=["a"]', ["a"])],
)
def test_a_parameter_in_json_quotes_is_a_string(text, value):
    """A quoted number stays a string, as JSON has it."""
    args = cell_options.cell_parser().parse(["x", "--param", text])
    assert args.param[0][1] == value


def test_not_a_number_is_no_parameter():
    """NaN cannot be sent as JSON and is refused here."""
    with pytest.raises(UsageProblem, match="NaN"):
        cell_options.cell_parser().parse(["x", "--param", "x=NaN"])


def test_an_apostrophe_before_a_blank_opens_nothing():
    """Plain words with apostrophes stay words."""
    assert options.words("a students' don't b") == ["a", "students'", "don't", "b"]


@pytest.mark.parametrize("left_out", ["--notify", "--cache"])
def test_an_option_without_its_value_swallows_nothing_when_a_line_is_rewritten(left_out):
    """A bare option that may have a value leaves the options after it to be taken out."""
    line = f"%%llm_batch x {left_out} --resubmit -mopenai:a --over df --realtime"
    assert magic_line.amend_line(line, magic_line.TRIAL | {"--model": "google:b"}, "y") == (
        f"%%llm_batch y {left_out} --over df --wait --model google:b"
    )


@given(st.data())
def test_every_option_is_taken_out_whole(data):
    """Whatever its arity, an option and its value leave a line together, and nothing else does."""
    parser = cell_options.any_line()
    actions = [each for each in parser._actions if each.option_strings]
    chosen = data.draw(st.lists(st.sampled_from(actions), unique=True))
    words = []
    for each in chosen:
        value = [] if each.nargs == 0 or (each.nargs == "?" and data.draw(st.booleans())) else ["v"]
        words.append([data.draw(st.sampled_from(each.option_strings)), *value])
    gone = data.draw(st.sets(st.sampled_from(range(len(words))))) if words else set()
    line = " ".join(["%%llm_batch x", *(" ".join(each) for each in words)])
    changes = {parser.full_name(words[number][0]): None for number in gone}
    left = [" ".join(each) for number, each in enumerate(words) if number not in gone]
    assert magic_line.amend_line(line, changes) == " ".join(["%%llm_batch x", *left])
