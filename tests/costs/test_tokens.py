"""Tokens before anybody has counted them: by script, by tiktoken, by the rules for media."""

import base64
import hashlib
import json
import struct
import zlib

import pytest

from jupyter_llm_batch.costs import media_tokens, tiktoken_counter, tokens
from jupyter_llm_batch.costs.tokens import measure_request, output_bound, text_tokens

#: Texts and how many tokens o200k_base makes of them, counted once.
TEXTS = {
    "english": ("The quick brown fox jumps over the lazy dog, and nobody minds at all.", 16),
    "german": ("Der Zug nach Hamburg fährt heute leider zwanzig Minuten später ab.", 14),
    "chinese": ("今天的天气非常好,我们一起去公园散步吧。", 15),
    "japanese": ("今日はとても良い天気なので、公園へ散歩に行きましょう。", 19),
    "russian": ("Сегодня очень хорошая погода, пойдём гулять в парк.", 15),
    "json": ('{"id": 17, "price": 3.25, "tags": ["a", "bb"], "name": "item"}', 29),
}


@pytest.mark.parametrize(("text", "exact"), TEXTS.values(), ids=TEXTS)
def test_the_span_of_a_text_holds_its_tokens(text, exact):
    """The true count lies between low and ceiling, whatever the script."""
    low, expected, ceiling = text_tokens(text)
    assert low <= expected <= ceiling
    assert low <= exact <= ceiling


def test_endless_letters_split_into_small_pieces():
    """Keys and hashes have far more tokens than words of their length."""
    assert text_tokens("a1B2c3D4" * 20)[1] > 2 * text_tokens("letters and " * 13)[1]


def line(body, key="body"):
    return json.dumps({"custom_id": "x-0", key: body}).encode() + b"\n"


def test_the_same_prompt_counts_the_same_on_every_provider():
    """Three shapes of one request have the same text, and a system prompt and schema add to it."""
    text = "Tell me about foxes. " * 30
    shapes = [
        (line({"model": "m", "messages": [{"role": "user", "content": text}]}), "openai"),
        (line({"messages": [{"role": "user", "content": text}]}, "params"), "anthropic"),
        (line({"contents": [{"role": "user", "parts": [{"text": text}]}]}, "request"), "google"),
    ]
    counts = {measure_request(each, provider, "m").expected for each, provider in shapes}
    assert len(counts) == 1
    more = line({"system": text, "messages": [{"role": "user", "content": text}]}, "params")
    assert measure_request(more, "anthropic", "m").expected > 1.8 * counts.pop()


def png(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + header
    return base64.b64encode(data + struct.pack(">I", zlib.crc32(b"IHDR" + header))).decode()


@pytest.mark.parametrize(
    ("provider", "model", "size", "count"),
    [
        ("anthropic", "claude-haiku-4-5", (1000, 1000), 1296),
        ("anthropic", "claude-haiku-4-5", (280, 280), 100),
        ("openai", "gpt-6-astra", (1024, 1024), 1229),
        ("openai", "gpt-5-mini", (256, 256), 77),
        ("openai", "gpt-4o", (1024, 1024), 765),
        ("openai", "gpt-4o", (2048, 4096), 1105),
        ("google", "gemini-2.5-flash", (300, 300), 258),
        ("google", "gemini-2.5-flash", (1000, 700), 516),
        ("google", "gemini-3.8-flash", (4000, 3000), 1120),
    ],
)
def test_images_count_as_the_providers_say(provider, model, size, count):
    """An image of known size has the tokens of the provider's documented examples."""
    assert media_tokens.image(provider, model, size)[1] == count


@pytest.mark.parametrize("model", ["claude-haiku-4-5", "claude-opus-5-5"])
def test_large_images_are_scaled_down_first(model):
    """However large a picture is, it counts at most what the model reads of it."""
    most = 1568 if "4-5" in model else 4784
    assert media_tokens.image("anthropic", model, (8000, 6000))[1] <= most


def test_an_image_counts_by_its_pixels_and_not_by_its_bytes():
    """The base64 of a picture is no text; its size is read from its first bytes."""
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{png(256, 256)}"}}
    content = [{"type": "text", "text": "What is it?"}, part]
    body = {"model": "gpt-5-mini", "messages": [{"role": "user", "content": content}]}
    found = measure_request(line(body), "openai", "gpt-5-mini")
    assert found.media == 1
    assert 77 < found.expected < 77 + 20


def test_sizes_are_read_from_the_four_formats():
    """PNG, GIF, WebP and JPEG tell their size; anything else is of unknown size."""
    gif = base64.b64encode(b"GIF89a" + struct.pack("<HH", 12, 34)).decode()
    webp = b"RIFF\0\0\0\0WEBPVP8X" + bytes(8) + (11).to_bytes(3, "little")
    webp = base64.b64encode(webp + (33).to_bytes(3, "little")).decode()
    jpeg = b"\xff\xd8\xff\xe0\0\x04ab\xff\xc0\0\x11\x08" + struct.pack(">HH", 34, 12) + bytes(9)
    assert media_tokens.size_of(png(12, 34)) == (12, 34)
    assert media_tokens.size_of(gif) == (12, 34)
    assert media_tokens.size_of(webp) == (12, 34)
    assert media_tokens.size_of(base64.b64encode(jpeg).decode()) == (12, 34)
    for unknown in ("AAAA", "not base64!", None, 3):
        assert media_tokens.size_of(unknown) is None


def test_a_picture_elsewhere_has_a_wide_span():
    """Of an address nothing is known but the least and the most that a picture counts."""
    part = {"type": "image", "source": {"type": "url", "url": "https://example.org/x.png"}}
    body = {"messages": [{"role": "user", "content": [part]}], "max_tokens": 5}
    found = measure_request(line(body, "params"), "anthropic", "claude-haiku-4-5")
    assert found.low < found.expected < found.ceiling


def test_a_pdf_counts_by_its_pages():
    """Pages that the file tells are counted; each is a picture and its text."""
    pdf = base64.b64encode(b"%PDF" + b"<< /Type /Page >>" * 3 + b"<< /Type /Pages >>").decode()
    assert media_tokens.page_count(pdf) == (3, 3, 3)
    source = {"type": "base64", "media_type": "application/pdf", "data": pdf}
    body = {"messages": [{"role": "user", "content": [{"type": "document", "source": source}]}]}
    found = measure_request(line(body, "params"), "anthropic", "claude-haiku-4-5")
    assert 3 * 1500 < found.expected < 3 * 3000


@pytest.mark.parametrize(
    ("body", "bound"),
    [
        ({"max_completion_tokens": 7}, 7),
        ({"max_output_tokens": 7, "n": 3}, 21),
        ({"max_tokens": 7}, 7),
        ({"generationConfig": {"maxOutputTokens": 7, "candidateCount": 2}}, 14),
        ({"messages": []}, None),
        ({"max_tokens": "7"}, None),
        ([], None),
    ],
)
def test_the_bound_of_a_request(body, bound):
    """The most output tokens are found under each provider's name, times the answers asked for."""
    assert output_bound(body) == bound


def test_what_cannot_be_read_is_counted_as_text():
    """A line that is no JSON still has an estimate."""
    assert measure_request(b"no json at all", "openai", "m").expected > 0


# -- tiktoken --------------------------------------------------------------------------------------


def test_tiktoken_is_never_made_to_download(tmp_path, monkeypatch):
    """Without its data on disk, or with a damaged file, there is no counter, and no request."""
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a request was made"))
    tiktoken_counter._encoding.cache_clear()
    assert tiktoken_counter.counter() == (None, "")
    url = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
    (tmp_path / hashlib.sha1(url.encode()).hexdigest()).write_bytes(b"damaged")
    tiktoken_counter._encoding.cache_clear()
    assert tiktoken_counter.counter() == (None, "")
    tiktoken_counter._encoding.cache_clear()


def test_the_encoding_on_disk_is_the_one_that_tiktoken_looks_for():
    """Another file, or another digest, would be fetched; a new tiktoken shows here first."""
    openai_public = pytest.importorskip("tiktoken_ext.openai_public")
    constants = openai_public.o200k_base.__code__.co_consts
    assert {tiktoken_counter._URL, tiktoken_counter._DIGEST} <= set(constants)


def test_a_counter_gives_a_narrow_span():
    """With an exact counter the span is as narrow as tokenizers of one family differ."""
    body = {"model": "m", "messages": [{"role": "user", "content": "words " * 1000}]}
    found = measure_request(line(body), "openai", "m", lambda text: len(text.split()))
    assert found.expected == 1000 + tokens.REQUEST + tokens.MESSAGE
    assert found.low >= 0.94 * found.expected
    assert found.ceiling <= 1.12 * found.expected
