"""Images and files beside a prompt: values, refusals, hashes, and all three providers."""

import base64
import dataclasses
import hashlib
import io
import json
import os
import pathlib
import re
import tracemalloc
import types

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from support import complete, line_of, mark, ok

from jupyter_llm_batch.core.errors import UsageProblem
from jupyter_llm_batch.core.request import Limits, Recipe
from jupyter_llm_batch.core.result import Outcome
from jupyter_llm_batch.core.settings import Settings
from jupyter_llm_batch.data import media_types
from jupyter_llm_batch.data import rows as frames
from jupyter_llm_batch.data.tagged_json import pack, unpack
from jupyter_llm_batch.providers.anthropic import requests as anthropic_wire
from jupyter_llm_batch.providers.google import requests as google_wire
from jupyter_llm_batch.providers.openai import requests as openai_wire
from jupyter_llm_batch.providers.shared import media as parts
from jupyter_llm_batch.submission import fill, read_options
from jupyter_llm_batch.submission.prompts import media, media_parts, template

MODELS = ["openai:gpt-5-mini", "anthropic:claude-haiku-4-5", "google:gemini-2.5-flash"]
PDF = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n"
    b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n"
    b"3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\n"
    b"trailer<</Root 1 0 R>>\n%%EOF\n"
)


@pytest.fixture(autouse=True)
def _notebooks_folder(tmp_path, monkeypatch):
    """Let the files of a test lie in the notebook's folder, where rows may name them."""
    monkeypatch.chdir(tmp_path)


def picture(color="red", form="PNG", size=(4, 4)):
    """Return an image as bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", size, color).save(buffer, form)
    return buffer.getvalue()


PNG = picture()


def b64(data):
    return base64.b64encode(data).decode()


def image(value, kind="image"):
    """Return the parts of a value under ``--image``."""
    return media_parts.parts_of(value, media_parts.Column("c", kind))


def file(value):
    return image(value, "file")


def refusal(value, kind="image"):
    """Return the one line that refuses a value."""
    with pytest.raises(UsageProblem) as caught:
        image(value, kind)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def seen(*data, of="image"):
    """Return the hash by which the simulator names the bytes that it saw."""
    digest = hashlib.sha256()
    for each in data:
        digest.update(of.encode() + each)
    return digest.hexdigest()[:8]


# -- values ----------------------------------------------------------------------------------------


def test_every_kind_of_value_gives_the_same_part(tmp_path, monkeypatch):
    """Text, Path, relative and home paths, file: and data: URLs, bytes: one form, no name in it."""
    path = tmp_path / "any name.png"
    path.write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    expected = [{"type": "image", "media_type": "image/png", "data": b64(PNG)}]
    for value in (
        path, str(path), "any name.png", "~/any name.png", path.as_uri(),
        f"data:image/png;base64,{b64(PNG)}", PNG, bytearray(PNG), memoryview(PNG), np.bytes_(PNG),
        {"bytes": PNG, "path": None}, {"bytes": None, "path": str(path)}, [path], (PNG,),
        np.array([str(path)]), pathlib.PurePosixPath(path), np.str_(path),
    ):  # fmt: skip
        assert image(value) == expected, value
        assert file(value) == expected, value


def test_a_list_gives_several_parts_and_an_empty_one_none():
    """A row may have any number of images."""
    blue = picture("blue")
    assert [each["data"] for each in image([PNG, blue])] == [b64(PNG), b64(blue)]
    assert image([]) == []


def test_urls_and_ids_go_to_the_provider(tmp_path, monkeypatch):
    """What the provider fetches or keeps is named, not read; a file that exists is a file."""
    url = "https://example.com/a.PNG?sig=x"
    assert image(url) == [{"type": "image", "media_type": "image/png", "url": url}]
    assert image("https://example.com/a") == [{"type": "image", "url": "https://example.com/a"}]
    assert file("https://example.com/a.png")[0]["type"] == "image"
    assert file("gs://b/a.mp4") == [
        {"type": "file", "media_type": "video/mp4", "url": "gs://b/a.mp4"}
    ]
    for name in ("file-abc123456", "file_011CNha8iCJcU1wXNR6q4V8w", "files/abc-123"):
        assert file(name) == [{"type": "file", "id": name}]
    assert file(types.SimpleNamespace(id="file-abc123456")) == [
        {"type": "file", "id": "file-abc123456"}
    ]
    kept = types.SimpleNamespace(uri="https://x/v1beta/files/1", mime_type="image/png", id=None)
    assert image(kept) == [
        {"type": "image", "media_type": "image/png", "url": "https://x/v1beta/files/1"}
    ]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file-abc123456").write_bytes(PNG)
    assert "data" in image("file-abc123456")[0]


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_pil_images_keep_their_format(form):
    """An image that was opened stays what it was; a GIF, which not all take, becomes a PNG."""
    (part,) = image(Image.open(io.BytesIO(picture(form=form))))
    assert part["media_type"] == ("image/png" if form == "GIF" else f"image/{form.lower()}")
    assert Image.open(io.BytesIO(base64.b64decode(part["data"]))).size == (4, 4)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I", "F", "LA", "HSV"])
def test_pil_images_of_every_mode_become_png(mode):
    """A mode that PNG does not have is converted."""
    (part,) = image(Image.new(mode, (3, 2)))
    assert part["media_type"] == "image/png"
    assert Image.open(io.BytesIO(base64.b64decode(part["data"]))).size == (3, 2)


@pytest.mark.parametrize(
    ("data", "name", "expected"),
    [
        (PNG, "a.jpg", "image/png"),
        (picture(form="JPEG"), "a.txt", "image/jpeg"),
        (picture(form="WEBP"), "", "image/webp"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "", "image/heic"),
        (b"\0\0\0\x18ftypisom\0\0\0\0", "", "video/mp4"),
        (b"\0\0\0\x18ftypM4A \0\0\0\0", "", "audio/mp4"),
        (b"\0\0\0\x14ftypqt  \0\0\0\0", "", "video/quicktime"),
        (b"RIFF\0\0\0\0WAVEfmt ", "", "audio/wav"),
        (b"ID3\4\0\0\0", "", "audio/mpeg"),
        (b"fLaC\0\0", "", "audio/flac"),
        (b"\x1a\x45\xdf\xa3\0", "", "video/webm"),
        (PDF, "a.png", "application/pdf"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b'{"a": 1}', "a.json", "application/json"),
        ("naïve".encode(), "", "text/plain"),
        (b"# a", "a.MD", "text/markdown"),
        (b"<svg/>", "a.svg", "text/plain"),
        (b"plain text", "a.png", "text/plain"),
        (b"PK\3\4....", "a.docx", media_types.type_by_name("a.docx")),
        (b"PK\3\4....", "a.png", "application/zip"),
        (b"\0\1\2\3", "a.png", ""),
        (b"\0\1\2\3", "a.mp3", "audio/mpeg"),
        (b"\xff\xfe\0x", "a.txt", ""),
    ],
)
def test_types_are_told_by_content_first(data, name, expected):
    """A name counts only where the bytes do not tell."""
    assert media_types.media_type_of(data, name) == expected


# -- refusals --------------------------------------------------------------------------------------


def test_what_cannot_be_read_is_one_line_with_the_path(tmp_path):
    """Missing, a folder, empty, a pipe, no path at all: the user knows what to look at."""
    (tmp_path / "empty.png").touch()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "odd.png").write_bytes(b"\0\1\2\3")
    (tmp_path / "page.png").write_bytes(b"<html>Not found</html>")
    for name, words in {
        "none.png": "there is no file",
        "": "is a folder",
        "empty.png": "is empty",
        "pipe": "no regular file",
        "odd.png": "no known type",
        "page.png": r"is no image \(text/plain\): use --file",
    }.items():
        line = refusal(tmp_path / name)
        assert re.search(words, line), line
        assert line.startswith("--image c: ")
        assert str(tmp_path / name) in line
    assert f"in {pathlib.Path.cwd()}" in refusal("none.png")
    assert "characters)" in refusal("A" * 5000)
    assert len(refusal("A" * 5000)) < 300
    assert "null" in refusal("a\0b")
    assert "no image (application/pdf): use --file" in refusal(PDF)
    assert "no image (application/pdf): use --file" in refusal("https://example.com/a.pdf")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(tmp_path):
    """Permissions are named as the reason."""
    (tmp_path / "a.png").write_bytes(PNG)
    (tmp_path / "a.png").chmod(0)
    assert "may not be read" in refusal(tmp_path / "a.png")


def test_a_file_too_large_for_all_is_not_even_read(tmp_path):
    """Its size is looked at first; nothing of it gets into memory."""
    with (tmp_path / "big.mp4").open("wb") as big:
        big.truncate(media_parts.MOST + 1)
    tracemalloc.start()
    assert "100 MB, more than any provider takes" in refusal(tmp_path / "big.mp4", "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("s3://b/a.png", "s3://"),
        ("data:image/png;base64,@@@", "not a valid data: URL"),
        ("data:image/png", "not a valid data: URL"),
        (7, "int is no path, URL, bytes or PIL image"),
        (np.zeros((2, 2, 3), "uint8"), "PIL.Image.fromarray"),
        (object(), "object is no path"),
        ({"a": 1}, "dict is no path"),
        (b"", "empty"),
    ],
)
def test_what_is_no_media_is_refused(value, words):
    """One line says what would do."""
    assert words in refusal(value)


# -- rows ------------------------------------------------------------------------------------------


def rows_of(data):
    """Return the tuples of a dict of columns."""
    return zip(*data.values(), strict=True)


@dataclasses.dataclass
class Receipt:
    photo: bytes
    shop: str


def contents(text, value, namespace=None, skip_null=False, **named):
    """Return the contents of a cell over rows, as the client makes them."""
    options = {"over": value, "namespace": namespace or {}, "skip_null": skip_null, **named}
    return list(read_options.ask(text, "x", {"model": MODELS[0]} | options, Settings()).contents)


def said(text, *found):
    """Return the content that a text with images is."""
    made = [{"type": "image", "media_type": "image/png", "data": b64(data)} for data in found]
    return [{"role": "user", "content": [*made, {"type": "text", "text": text}]}]


@pytest.mark.parametrize(
    "make",
    [
        pd.DataFrame,
        pl.DataFrame,
        pa.table,
        lambda data: [dict(zip(data, row, strict=True)) for row in rows_of(data)],
        lambda data: [Receipt(*row) for row in rows_of(data)],
        lambda data: iter([Receipt(*row) for row in rows_of(data)]),
        lambda data: dict(enumerate(Receipt(*row) for row in rows_of(data))),
    ],
    ids=["pandas", "polars", "pyarrow", "dicts", "dataclasses", "generator", "dict"],
)
@pytest.mark.parametrize("text", ["At {{ shop }}", "At {{ row.shop }}", "At {{ shop|string }}"])
def test_each_row_meets_its_own_media(make, text):
    """Over every kind of rows, by every way of rendering, and over many slices."""
    photos = [picture((n % 256, n // 256, 0)) for n in range(1100)]
    shops = [f"s{n}" for n in range(1100)]
    found = contents(text, make({"photo": photos, "shop": shops}), image="photo")
    assert found == [said(f"At {shop}", photo) for photo, shop in zip(photos, shops, strict=True)]


def test_plain_lists_are_the_media_themselves(tmp_path):
    """`item` is the path or the image, `key` the key."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    assert contents("x", [str(path), path], image="item") == [said("x", PNG)] * 2
    assert contents("{{ item }}", {str(path): "t"}, image="key") == [said("t", PNG)]
    assert contents("x", pd.Series([PNG]), image=["item"]) == [said("x", PNG)]


def test_several_columns_stand_before_the_text_in_order():
    """Images as they were named, then files, then the text."""
    frame = pd.DataFrame({"a": [PNG], "b": [picture("blue")], "c": [PDF]})
    (content,) = contents("x", frame, image=["b", "a"], file="c")
    kinds = [(part["type"], part.get("data", "")) for part in content[0]["content"]]
    assert kinds == [
        ("image", b64(picture("blue"))), ("image", b64(PNG)), ("file", b64(PDF)), ("text", ""),
    ]  # fmt: skip


def test_a_variable_is_media_for_all_rows():
    """A name that is no field comes from the notebook, as in the template."""
    assert contents("{{ item }}", ["a", "b"], {"logo": PNG}, image="logo") == [
        said("a", PNG), said("b", PNG),
    ]  # fmt: skip
    frame = pd.DataFrame({"logo": [picture("blue")]})
    assert contents("x", frame, {"logo": PNG}, image="logo") == [said("x", picture("blue"))]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
def test_a_null_is_refused_with_its_row_or_left_out(make):
    """Like any other null; an empty list is none, it is no media on purpose."""
    frame = make({"photo": [PNG, None], "q": ["a", "b"]})
    with pytest.raises(UsageProblem, match=r"^row 1: photo is empty .*--skip-null"):
        contents("x {{ q }}", frame, image="photo")
    assert contents("x {{ q }}", frame, image="photo", skip_null=True) == [said("x a", PNG), None]
    assert contents("x", [[], [PNG]], image="item") == ["x", said("x", PNG)]


def test_a_refusal_names_row_and_index():
    """Where the index says more than the position, it is there."""
    frame = pd.DataFrame({"photo": [PNG, "no/such.png"]}, index=["p", "q"])
    with pytest.raises(UsageProblem, match=r"^row 1 \(index 'q'\): --image photo: there is no"):
        contents("x", frame, image="photo")


def test_a_name_that_is_nowhere_is_told_with_the_nearest():
    """For frames before anything is read, for items with the row."""
    with pytest.raises(UsageProblem, match=r"--image foto: .* did you mean 'photo'"):
        contents("x", pd.DataFrame({"photo": [1]}), image="foto")
    with pytest.raises(UsageProblem, match=r"^row 0: --file foto: .* did you mean 'photo'"):
        contents("x", [{"photo": 1}], file="foto")
    with pytest.raises(UsageProblem, match=r"^row 0: --image foto: .*--image item"):
        contents("x", [PNG], image="foto")


def test_a_blank_text_is_refused_beside_media_too():
    """A provider takes no blank text."""
    with pytest.raises(UsageProblem, match=r"^row 0: the prompt is blank"):
        contents("{{ q }}", [{"q": " ", "p": PNG}], image="p")


def test_media_are_made_row_by_row(tmp_path):
    """Of a hundred files, only the present one is in memory."""
    paths = []
    for number in range(40):
        paths.append(tmp_path / f"{number}.png")
        paths[-1].write_bytes(PNG + bytes(1_000_000))
    rows = frames.read_rows(paths)
    made = media.attach(
        template.compile("x"), rows, media.columns("item", ()), namespace={}, skip_null=False
    )
    tracemalloc.start()
    assert sum(content is not None for content in made) == 40
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 12_000_000


# -- the wires -------------------------------------------------------------------------------------


def line(provider, found, **recipe):
    """Return the request line that a provider's wire makes of parts."""
    content = [{"role": "user", "content": [*found, {"type": "text", "text": "t"}]}]
    if provider == "openai":
        encode = openai_wire.encoder(Recipe(**recipe), "m")
    elif provider == "anthropic":
        encode = anthropic_wire.encoder(Recipe(**recipe), "m")
    else:
        encode = google_wire.encoder(Recipe(**recipe))
    return encode("r-0", content)


def sent(provider, found, **recipe):
    """Return the parts as they stand in the request, the text's left out."""
    decoded = json.loads(line(provider, found, **recipe))
    body = decoded.get("body") or decoded.get("params") or decoded["request"]
    messages = body.get("messages") or body.get("input") or body["contents"]
    return (messages[-1].get("content") or messages[-1]["parts"])[:-1]


ALL = [
    *image(PNG),
    *file(PDF),
    {"type": "image", "url": "https://x/a"},
]


def test_openai_chat_has_its_form():
    """image_url with data or address, file with data or id."""
    made = sent("openai", [*ALL, {"type": "file", "id": "file-123456"}], system="S")
    assert made == [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{b64(PNG)}"}},
        {
            "type": "file",
            "file": {
                "filename": "file.pdf",
                "file_data": f"data:application/pdf;base64,{b64(PDF)}",
            },
        },
        {"type": "image_url", "image_url": {"url": "https://x/a"}},
        {"type": "file", "file": {"file_id": "file-123456"}},
    ]


def test_openai_responses_have_theirs():
    """input_image and input_file, and the text is an input_text."""
    more = [
        {"type": "file", "url": "https://x/a.pdf"},
        {"type": "file", "id": "file-123456"},
        {"type": "image", "id": "file-123456"},
    ]
    made = sent("openai", [*ALL, *more], endpoint="responses")
    assert made == [
        {
            "type": "input_image",
            "detail": "auto",
            "image_url": f"data:image/png;base64,{b64(PNG)}",
        },
        {
            "type": "input_file",
            "filename": "file.pdf",
            "file_data": f"data:application/pdf;base64,{b64(PDF)}",
        },
        {"type": "input_image", "detail": "auto", "image_url": "https://x/a"},
        {"type": "input_file", "file_url": "https://x/a.pdf"},
        {"type": "input_file", "file_id": "file-123456"},
        {"type": "input_image", "detail": "auto", "file_id": "file-123456"},
    ]
    text = json.loads(line("openai", ALL, endpoint="responses"))["body"]["input"][0]["content"][-1]
    assert text == {"type": "input_text", "text": "t"}


def test_anthropic_takes_its_own_ids():
    """A kept file is an image or a document by its id."""
    made = sent("anthropic", [{"type": "image", "id": "file_1"}, {"type": "file", "id": "file_2"}])
    assert made == [
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "document", "source": {"type": "file", "file_id": "file_2"}},
    ]


def test_google_takes_sound_and_video_under_its_own_names():
    """Bytes are inlineData, kept files and buckets fileData."""
    made = sent(
        "google",
        [
            {"type": "file", "media_type": "audio/mpeg", "data": "QUJD"},
            {"type": "file", "media_type": "video/quicktime", "url": "gs://b/a.mov"},
            {"type": "file", "id": "files/abc"},
        ],
    )
    kept = "https://generativelanguage.googleapis.com/v1beta/files/abc"
    assert made == [
        {"inlineData": {"mimeType": "audio/mp3", "data": "QUJD"}},
        {"fileData": {"mimeType": "video/mov", "fileUri": "gs://b/a.mov"}},
        {"fileData": {"fileUri": kept}},
    ]


def data(media_type, size=4, kind="file"):
    return {"type": kind, "media_type": media_type, "data": "A" * size}


@pytest.mark.parametrize(
    ("provider", "found", "recipe", "words"),
    [
        ("openai", [data("image/heic", kind="image")], {}, "not image/heic"),
        ("openai", [data("audio/wav")], {}, "not audio/wav"),
        ("openai", [data("application/zip")], {}, "not application/zip"),
        ("openai", [data("application/pdf", 67_000_000)], {}, "66.7 MB in base64 per request"),
        ("openai", [{"type": "image", "url": "gs://b/a.png"}], {}, "not gs://b/a.png"),
        ("openai", [{"type": "file", "id": "files/abc"}], {}, "file-… or file_…"),
        ("openai", [{"type": "image", "id": "file-123456"}], {}, "--endpoint responses"),
        ("openai", [{"type": "file", "url": "https://x/a.pdf"}], {}, "--endpoint responses"),
        ("openai", [{"type": "image", "url": "https://x"}] * 1501, {}, "1,500 images"),
        ("anthropic", [data("image/heic", kind="image")], {}, "not image/heic"),
        ("anthropic", [data("video/mp4")], {}, "not video/mp4"),
        ("anthropic", [data("image/png", 5_242_884, "image")], {}, "5.24 MB in base64"),
        ("anthropic", [data("image/png", 5_000_000, "image")] * 7, {}, "32 MB in base64"),
        ("anthropic", [data("application/pdf", 32_000_004)], {}, "32 MB in base64"),
        ("anthropic", [{"type": "image", "url": "http://x/a.png"}], {}, "https://…"),
        ("anthropic", [{"type": "file", "id": "file-123456"}], {}, "file_…"),
        ("anthropic", [{"type": "image", "url": "https://x"}] * 601, {}, "600 images"),
        ("google", [data("image/gif", kind="image")], {}, "not image/gif"),
        ("google", [data("application/msword")], {}, "not application/msword"),
        ("google", [data("video/mp4", 20_000_004)], {}, "20 MB in base64"),
        ("google", [{"type": "file", "id": "file-123456"}], {}, "files/…"),
    ],
)  # fmt: skip
def test_what_a_provider_does_not_take_is_refused_before_it_is_sent(provider, found, recipe, words):
    """Type, size, number, address and id; one line says what the provider takes."""
    with pytest.raises(UsageProblem) as caught:
        line(provider, found, **recipe)
    assert words in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
@pytest.mark.parametrize("endpoint", ["chat", "responses"])
def test_people_see_marks_instead_of_base64(provider, endpoint):
    """A prompt is shown with what is in it and how large that is."""
    if endpoint == "responses" and provider != "openai":
        return
    wire = {"openai": openai_wire, "anthropic": anthropic_wire, "google": google_wire}[provider]
    made = line(provider, [*image(PNG + bytes(30_000)), *ALL[1:]], endpoint=endpoint)
    shown = wire.prompt_of(made)
    assert shown.startswith("[image/png, 30.1 kB]\n[application/pdf, ")
    assert "https://x/a]" in shown
    assert shown.endswith("\nt")
    assert len(shown) < 200


@pytest.mark.parametrize("provider", ["openai", "anthropic", "google"])
def test_base64_is_cut_for_people_and_text_is_not(provider):
    """What is long and encoded is shortened; a long text stays whole."""
    found = [*image(PNG + bytes(9000)), *file(PDF), *file(b"word " * 500)]
    whole = json.loads(line(provider, found))
    short = json.dumps(parts.shortened(whole | {"text": "long " * 999}))
    assert len(short) < 9_000
    assert "long " * 999 in short
    assert "characters)" in short


# -- hashes ----------------------------------------------------------------------------------------


def digest(content):
    return fill.content_hash(hashlib.blake2b(b"m", digest_size=16), content)


def test_a_hash_is_of_text_and_bytes_not_of_names(tmp_path):
    """The same image from anywhere asks the same; another image or text asks something else."""
    for name in ("a.png", "b.jpg"):
        (tmp_path / name).write_bytes(PNG)
    column = media.columns("x", ())
    values = [tmp_path / "a.png", str(tmp_path / "b.jpg"), PNG, f"data:;base64,{b64(PNG)}"]
    hashes = {digest(media.attach_one("t", column, {"x": value})) for value in values}
    assert len(hashes) == 1
    others = [("u", PNG), ("t", picture("blue")), ("t", [PNG, PNG])]
    assert len(hashes | {digest(media.attach_one(t, column, {"x": v})) for t, v in others}) == 4


def test_a_hash_of_media_is_golden():
    """It must never change, or an upgrade would buy the answers again."""
    content = said("t", b"\x89PNG\r\n\x1a\nbytes")
    assert digest(content).hex() == "f02f87c1d964306e55ccbc1023db439a"
    assert digest("plain").hex() == "76db3becbf3f917308db65232b9b3880"


def test_pil_images_are_hashed_by_their_pixels():
    """How PIL encodes them may change with its release, what they show does not."""
    (one,) = image(Image.new("RGB", (4, 4), "red"))
    (other,) = image(Image.new("RGB", (4, 4), "blue"))
    later = {**one, "data": b64(PNG + b"encoded otherwise"), "media_type": "image/webp"}
    asked = [digest([{"role": "user", "content": [part]}]) for part in (one, later, other)]
    assert asked[0] == asked[1] != asked[2]


# -- end to end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", MODELS)
def test_images_and_files_go_to_each_provider(client, tmp_path, model):
    """A real PNG and a real PDF reach the model with the row that they belong to."""
    photos = [picture("red"), picture("blue")]
    path = tmp_path / "a.pdf"
    path.write_bytes(PDF)
    frame = pd.DataFrame({"photo": photos, "invoice": [path, str(path)], "n": [1, 2]})
    handle = client.submit(
        "Is this {{ n }}?", name="x", over=frame, model=model, image="photo", file="invoice",
        system="Be brief",
    ).wait(60)  # fmt: skip
    for number, (answer, photo) in enumerate(zip(handle.answers()["answer"], photos, strict=True)):
        both = hashlib.sha256(b"image" + photo + b"file" + PDF).hexdigest()[:8]
        assert f"{mark(f'Is this {number + 1}?')}; saw 1 image and 1 file {both}" in answer
    assert list(handle.answers()["invoice"]) == [path, str(path)]
    assert "[image/png, " in handle.snapshot().samples[0].prompt


def test_images_go_to_openais_responses(client):
    """The other endpoint of OpenAI takes them too."""
    handle = client.submit(
        "Is this?", name="x", over=[PNG, PDF], model=MODELS[0], endpoint="responses", file="item"
    ).wait(60)
    first, second = handle.answers()
    assert f"saw 1 image {seen(PNG)}" in first
    assert f"saw 1 file {seen(PDF, of='file')}" in second


@pytest.mark.parametrize("model", MODELS)
def test_media_go_with_a_schema(client, model):
    """Structured answers of images are frames of fields."""
    schema = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}
    frame = pl.DataFrame({"photo": [PNG]})
    handle = client.submit(
        "What?", name="x", over=frame, model=model, image="photo", schema=schema
    ).wait(60)
    assert handle.results()[0].outcome is Outcome.OK
    assert handle.answers()["color"][0]


@pytest.mark.parametrize("model", MODELS)
def test_the_simulator_refuses_what_the_providers_refuse(client, model):
    """Bytes that are not what they claim to be fail the row, unbilled."""
    wrong = {"type": "image", "media_type": "image/png", "data": b64(b"no image at all")}
    invalid = {"type": "image", "media_type": "image/png", "data": "not base64!"}
    torn = {"type": "file", "media_type": "application/pdf", "data": b64(b"no pdf")}
    good = image(PNG)[0]
    rows = [
        [{"role": "user", "content": [part, {"type": "text", "text": "t"}]}]
        for part in (wrong, invalid, torn, good)
    ]
    handle = client.submit(name="x", over=rows, model=model, retry=0).wait(60)
    outcomes = [result.outcome for result in handle.results()]
    assert outcomes == [Outcome.FAILED] * 3 + [Outcome.OK]
    assert not any(result.billed for result in handle.results()[:3])


def test_a_foreign_form_is_refused_by_the_simulator(client):
    """Each endpoint knows its own parts only."""
    foreign = {"type": "input_image", "image_url": "https://x/a.png"}
    for number, model in enumerate(MODELS[:2]):
        rows = [[{"role": "user", "content": [foreign, {"type": "text", "text": "t"}]}]]
        handle = client.submit(name=f"x{number}", over=rows, model=model, retry=0).wait(60)
        assert handle.results()[0].outcome is Outcome.FAILED


def test_the_same_images_are_not_paid_twice(client, sim, tmp_path):
    """Renamed files attach to the batch; one changed image is one new row."""
    first, second = tmp_path / "a.png", tmp_path / "b.png"
    first.write_bytes(PNG)
    second.write_bytes(picture("blue"))
    options = {"name": "x", "model": MODELS[0], "image": "item"}
    client.submit("What?", over=[first, second], **options).wait(60)
    first.rename(tmp_path / "c.png")
    assert client.submit("What?", over=[tmp_path / "c.png", second], **options).attached
    second.write_bytes(picture("green"))
    again = client.submit("What?", over=[tmp_path / "c.png", second], **options).wait(60)
    assert again.record.reused == 1
    assert len(sim.ledger()) == 3


def refused(client, over, **more):
    """Return the line that refuses to send a file that a row names."""
    with pytest.raises(UsageProblem) as caught:
        client.submit("Q {{ n }}", name="x", over=over, model=MODELS[0], image="p", **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("spelled", ["text", "path", "url", "dots", "link", "list", "dict"])
def test_rows_name_files_of_the_notebooks_folder_only(client, sim, tmp_path, monkeypatch, spelled):
    """A path of a row that leads elsewhere is refused, however it is spelled; nothing is sent."""
    (tmp_path / "secret.png").write_bytes(picture())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    secret = tmp_path / "secret.png"
    pathlib.Path("link.png").symlink_to(secret)
    value = {
        "text": str(secret), "path": secret, "url": secret.as_uri(), "dots": "../secret.png",
        "link": "link.png", "list": [str(secret)], "dict": {"path": str(secret)},
    }[spelled]  # fmt: skip
    over = [{"n": 1, "p": value}]
    message = refused(client, over)
    assert message.startswith("row 0: --image p: ")
    assert f"outside the notebook's folder {tmp_path / 'here'}" in message
    assert f"--media-folder {tmp_path} allows" in message
    assert not sim.requests()
    handle = client.submit(
        "Q {{ n }}", name="x", over=over, model=MODELS[0], image="p", media_folder=tmp_path
    )
    assert handle.wait(60).snapshot().ok == 1


def test_hidden_folders_are_closed_to_rows(client, tmp_path, monkeypatch):
    """A notebook in the home folder does not open `.ssh` to whoever wrote the rows."""
    monkeypatch.chdir(tmp_path)
    pathlib.Path(".keys").mkdir()
    pathlib.Path(".keys/a.png").write_bytes(picture())
    over = [{"n": 1, "p": ".keys/a.png"}]
    assert "in a hidden folder" in refused(client, over)
    assert "in a hidden folder" in refused(client, over, media_folder=".")
    client.submit(
        "Q {{ n }}", name="x", over=over, model=MODELS[0], image="p", media_folder=".keys"
    )


def test_a_variable_may_name_any_file(client, tmp_path, monkeypatch):
    """What the user's own code names is not a row's, with and without rows."""
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    names = {"p": str(tmp_path / "a.png")}
    for name, over in (("x", {"over": [{"n": 1}]}), ("y", {})):
        client.submit(
            "Q {{ p|length }}", name=name, model=MODELS[0], image="p", namespace=names, **over
        )


def test_settings_allow_folders_for_every_cell(make_client, tmp_path, monkeypatch):
    """`%config LLMBatch.media_folders` stands for the option."""
    (tmp_path / "a.png").write_bytes(picture())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    client = make_client(settings=Settings(media_folders=[str(tmp_path)]))
    over = [{"n": 1, "p": str(tmp_path / "a.png")}]
    client.submit("Q {{ n }}", name="x", over=over, model=MODELS[0], image="p")


def test_media_count_towards_the_bytes_of_a_job(client, monkeypatch):
    """Rows with images are split by bytes as any others."""
    adapter = client.adapter("openai")
    monkeypatch.setattr(
        adapter, "limits", lambda _: Limits(requests=1000, bytes=50_000, line_bytes=50_000)
    )
    photos = [PNG + bytes([number]) * 15_000 for number in range(6)]
    handle = client.submit("What?", name="x", over=photos, model=MODELS[0], image="item").wait(60)
    assert [job.rows for job in client.store.jobs(handle.id)] == [2, 2, 2]
    for photo, answer in zip(photos, handle.answers(), strict=True):
        assert seen(photo) in answer


def test_a_preview_does_not_take_base64_for_text(client):
    """The tokens of images are not guessed from their bytes; how many there are is told."""
    photos = [PNG + bytes(300_000)] * 2
    preview = client.preview("What?", name="x", over=photos, model=MODELS[0], image="item")
    assert preview.tokens < 500
    assert preview.media == 2
    assert preview.encoded > 800_000
    assert preview.prompts[0] == "[image/png, 300 kB]\nWhat?"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"embed": True, "text": "x"}, "--embed takes text only"),
        ({"endpoint": "completions", "text": "x"}, "--endpoint completions takes text only"),
        ({"raw": True}, "with --raw"),
        ({}, "--over ROWS --image COL"),
    ],
)
def test_where_there_is_no_message_there_are_no_media(client, options, words):
    """One line; nothing is written or sent."""
    text = options.pop("text", None)
    with pytest.raises(UsageProblem, match=words):
        client.submit(text, name="x", over=[PNG], model=MODELS[0], image="item", **options)
    assert client.batches() == []


def test_a_refused_row_leaves_nothing_behind(client):
    """The last row's missing file undoes the whole plan."""
    with pytest.raises(UsageProblem, match=r"^row 2: "):
        client.submit("x", name="x", over=[PNG, PNG, "/no/x"], model=MODELS[0], image="item")
    assert client.batches() == []


def test_frames_with_paths_and_pictures_come_back(client):
    """What a notebook has in its columns is in the frame of the answers too."""
    frame = pd.DataFrame({
        "path": [pathlib.Path("a.png")], "shot": [Image.new("RGB", (3, 2), "red")], "raw": [PNG],
    })  # fmt: skip
    handle = client.submit("x", name="x", over=frame, model=MODELS[0], image=["shot", "raw"])
    back = handle.wait(60).answers()
    assert back["path"][0] == pathlib.Path("a.png")
    assert back["shot"][0].size == (3, 2)
    assert back["raw"][0] == PNG
    assert unpack(pack([pathlib.Path("a")])) == [pathlib.Path("a")]


def test_polars_frames_hold_pictures_too(client):
    """An object column of polars goes to the provider and comes back."""
    shots = [Image.new("RGB", (3, 2), "red"), Image.new("RGB", (3, 2), "blue")]
    frame = pl.DataFrame({"shot": pl.Series(shots, dtype=pl.Object), "q": ["a", "b"]})
    handle = client.submit("{{ q }}", name="x", over=frame, model=MODELS[0], image="shot").wait(60)
    back = handle.answers()
    assert [shot.getpixel((0, 0)) for shot in back["shot"]] == [(255, 0, 0), (0, 0, 255)]
    assert all("saw 1 image" in answer for answer in back["answer"])


def test_image_columns_of_data_sets_are_taken(client):
    """Parquet data sets keep images as structs of bytes and path."""
    frame = pa.table({"image": [{"bytes": PNG, "path": "a.png"}]})
    handle = client.submit("x", name="x", over=frame, model=MODELS[1], image="image").wait(60)
    assert f"saw 1 image {seen(PNG)}" in handle.answers()["answer"][0].as_py()


def test_routed_rows_take_their_media_along(client):
    """Each row of a generator goes to its own provider, in that one's form."""
    rows = ({"photo": PNG, "to": model} for model in MODELS)
    handle = client.submit("x", name="x", over=rows, route="to", image="photo").wait(60)
    assert all(f"saw 1 image {seen(PNG)}" in answer for answer in handle.answers())


def test_equal_images_are_asked_once_with_dedupe(client, sim):
    """Two rows with the same text and bytes share one paid answer."""
    options = {"name": "x", "model": MODELS[0], "image": "item", "dedupe": True}
    answers = client.submit("x", over=[PNG, bytearray(PNG)], **options).wait(60).answers()
    assert answers[0] == answers[1]
    assert len(sim.ledger()) == 1


def test_cells_are_collected_with_their_media(client):
    """`add` keeps the images on disk until the cells are sent."""
    for key in "ab":
        client.add(
            f"What is {key}?", name="x", key=key, model=MODELS[0], image="shot",
            namespace={"shot": Image.new("RGB", (2, 2), key * 3 and "red")},
        )  # fmt: skip
    answers = client.submit_draft("x").wait(60).answers()
    assert all("saw 1 image" in answer for answer in answers)


# -- in the notebook -------------------------------------------------------------------------------


def test_a_cell_takes_images_and_files(shell, tmp_path):
    """The options may be repeated, and name columns."""
    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    shell.user_ns["df"] = pd.DataFrame({"a": [path], "b": [PNG], "c": [PDF]})
    ok(shell, "%%llm_batch x --over df --image a --image b --file c --wait\nSame?")
    assert "saw 2 images and 1 file" in shell.user_ns["x"]["answer"][0]


def test_a_cell_without_rows_takes_a_variable(shell):
    """One prompt, or several, about an image of the notebook."""
    shell.user_ns["shot"] = Image.new("RGB", (2, 2))
    ok(shell, "%%llm_batch x --image shot --wait\nWhat?")
    assert "saw 1 image" in shell.user_ns["x"]
    ok(shell, "%%llm_batch y --image shot --split --wait\nWhat?\n---\nWhere?")
    assert all("saw 1 image" in answer for answer in shell.user_ns["y"])


def test_show_and_dry_run_print_no_base64(shell, capsys):
    """A megabyte of image is a mark in the prompt, and a stump in the request."""
    shell.user_ns["photos"] = [PNG + os.urandom(1_000_000)]
    ok(shell, "%%llm_batch x --over photos --image item --dry-run\nWhat?")
    printed = capsys.readouterr().out
    assert "[image/png, 1 MB]" in printed
    assert "1 image or file (1.0 MB)" in printed
    assert len(printed) < 10_000  # the picture alone is a megabyte
    ok(shell, "%%llm_batch x --over photos --image item --wait\nWhat?")
    capsys.readouterr()
    ok(shell, "%llm_batch show x 0")
    printed = capsys.readouterr().out
    assert "[image/png, 1 MB]\nWhat?" in printed
    assert "characters)" in printed
    assert len(printed) < 6_000


def test_the_line_magic_names_the_cell(shell, capsys):
    """`run` has no text that media could stand beside."""
    shell.user_ns["photos"] = [PNG]
    said = line_of(shell, "%llm_batch run x --over photos --image item", capsys)
    assert "%%llm_batch NAME --over ROWS --image COL" in said


def test_tab_completes_columns(shell):
    """After --image and --file come the fields of the rows."""
    shell.user_ns["df"] = pd.DataFrame({"photo_a": [1], "text": [1]})
    shell.user_ns["table"] = pa.table({"photo_b": [1]})
    shell.user_ns["dicts"] = [{"photo_c": 1}]
    shell.user_ns["plain"] = ["a"]
    for over, fragment, field in (
        ("df", "pho", "photo_a"), ("table", "pho", "photo_b"), ("dicts", "pho", "photo_c"),
        ("plain", "it", "item"),
    ):  # fmt: skip
        for option in ("--image", "--file"):
            assert field in complete(shell, f"%%llm_batch x --over {over} {option} {fragment}")
