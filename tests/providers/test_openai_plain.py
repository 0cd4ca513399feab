"""The simulator's completions, moderations and images, as the real SDK and our batches see them."""

import base64
import json

import openai
import pytest
from IPython.core.interactiveshell import InteractiveShell
from support import DUMMY_KEY, mark

from jupyter_llm_batch.core.identity import Identity
from jupyter_llm_batch.notebook.commands import Commands
from jupyter_llm_batch.notebook.config import LLMBatch
from jupyter_llm_batch.notebook.controller import Controller

TEXT, JUDGE, PAINTER = "gpt-3.5-turbo-instruct", "omni-moderation-latest", "gpt-image-1"
BODIES = {
    "completions": [{"prompt": "once", "max_tokens": 50}, {"prompt": "upon", "max_tokens": 50}],
    "moderations": [{"input": "a kind word"}, {"input": "I will attack"}],
    "/v1/images/generations": [{"prompt": "a cat"}, {"prompt": "a dog"}],
}
MODELS = dict(zip(BODIES, (TEXT, JUDGE, PAINTER), strict=True))


@pytest.fixture
def sdk(sim):
    with openai.OpenAI(base_url=sim.openai_url, api_key=DUMMY_KEY, max_retries=0) as sdk:
        yield sdk


def test_completions_answer_at_once(sdk, sim):
    """Text goes on for each prompt and choice, is cut at its bound, and can be streamed."""
    ask = {"model": TEXT, "max_tokens": 99}
    answer = sdk.completions.create(prompt=["one", "two"], n=2, **ask)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert [mark(word) in answer.choices[2 * i].text for i, word in enumerate(["one", "two"])]
    assert answer.usage.total_tokens > answer.usage.prompt_tokens > 0
    short = sdk.completions.create(model=TEXT, prompt="one", max_tokens=2).choices[0]
    assert short.finish_reason == "length"
    pieces = sdk.completions.create(prompt="one", stream=True, **ask)
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text
    with pytest.raises(openai.BadRequestError, match="'prompt'"):
        sdk.post("/completions", body={"model": TEXT}, cast_to=object)
    assert {entry["endpoint"] for entry in sim.ledger()} == {"/v1/completions"}


def test_moderations_answer_at_once(sdk):
    """A verdict for each input, with the model that is taken when none is named."""
    answer = sdk.moderations.create(input=["a kind word", "I will attack"])
    assert answer.model == JUDGE
    assert [verdict.flagged for verdict in answer.results] == [False, True]
    assert answer.results[1].categories.violence
    assert answer.results[1].category_scores.violence > 0.9 > answer.results[0].category_scores.hate
    parts = [{"type": "text", "text": "kill"}, {"type": "text", "text": " it"}]
    assert [each.flagged for each in sdk.moderations.create(input=parts).results] == [True]
    with pytest.raises(openai.BadRequestError, match="'input'"):
        sdk.post("/moderations", body={}, cast_to=object)


def test_images_answer_at_once(sdk):
    """Pictures that can be opened, each with the prompt as it was understood."""
    answer = sdk.images.generate(model=PAINTER, prompt="a cat", n=2)
    first, second = (base64.b64decode(each.b64_json) for each in answer.data)
    assert first.startswith(b"\x89PNG")
    assert first != second
    assert "(simulated" in answer.data[0].revised_prompt
    with pytest.raises(openai.BadRequestError, match="'prompt'"):
        sdk.post("/images/generations", body={"model": PAINTER}, cast_to=object)


@pytest.fixture
def magic(client):
    """Submits by the magic's door."""
    shell, config = InteractiveShell(), LLMBatch()
    controller = Controller(shell, config, Identity("nb.ipynb"))
    controller.use(client)
    commands = Commands(controller)

    def run(name, over, model, endpoint, more):
        shell.user_ns["rows"] = over
        commands.line(f"run {name} --over rows -m {model} --endpoint {endpoint} --raw --wait{more}")
        return client.get(name)

    return run


@pytest.mark.parametrize("mode", ["", " --realtime"])
@pytest.mark.parametrize("endpoint", BODIES)
def test_batches_and_real_time_have_them(client, magic, sim, endpoint, mode):
    """Each endpoint takes complete bodies, as a batch and in real time, by either door."""
    model = f"openai:{MODELS[endpoint]}"
    options = {"over": BODIES[endpoint], "model": model, "endpoint": endpoint, "raw": True}
    by_client = client.submit(name="a", realtime=bool(mode), **options).wait(60).answers()
    by_magic = magic("b", BODIES[endpoint], model, endpoint, mode).answers()
    for found in (by_client, by_magic):
        match endpoint:
            case "completions":
                assert [
                    mark(word) in text for word, text in zip(["once", "upon"], found, strict=True)
                ]
            case "moderations":
                assert [json.loads(text)["flagged"] for text in found] == [False, True]
            case _:
                bodies = [json.loads(text) for text in found]
                assert all(base64.b64decode(body["data"][0]["b64_json"]) for body in bodies)
    assert len(sim.ledger()) == 4
