"""The files of the page: how they are sent, and checks that need no browser."""

import gzip
import io
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest
import soundfile
from builders.service_client import Client, open_client

from serein.inference.vad import contains_speech
from serein.service import page

HERE = files("serein.service.page")
STYLE = (HERE / "style.css").read_text()
CONTENTS = {name: (HERE / name).read_bytes() for name in sorted(page.list_files())}
TEXTS = {name: body.decode() for name, body in CONTENTS.items() if not name.endswith(".mp3")}


@pytest.fixture(scope="module")
def call() -> Iterator[Client]:
    with open_client() as (made, _):
        yield made


@pytest.mark.parametrize("name", sorted(page.list_files()))
def test_files_are_sent_with_their_media_types(call: Client, name: str) -> None:
    answer = call("GET", f"/page/{name}")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"] == page.MEDIA_TYPES[name.rpartition(".")[2]]
    assert answer.content == CONTENTS[name]


def test_root_is_the_page(call: Client) -> None:
    answer = call("GET", "/")
    assert answer.text == TEXTS["index.html"]
    policy = answer.headers["Content-Security-Policy"]
    assert policy == page.CONTENT_SECURITY_POLICY
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_cached_files_are_not_sent_again(call: Client) -> None:
    first = call("GET", "/page/main.js")
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    again = call("GET", "/page/main.js", headers={"If-None-Match": f'"old", W/{tag}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == tag
    other = call("GET", "/page/main.js", headers={"If-None-Match": '"old"'})
    assert other.status_code == 200
    assert call("GET", "/page/live.js").headers["ETag"] != tag


def test_gzip_only_if_accepted(call: Client) -> None:
    packed = call("GET", "/page/style.css", headers={"Accept-Encoding": "gzip"})
    plain = call("GET", "/page/style.css", headers={"Accept-Encoding": "identity"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert packed.content == plain.content
    assert int(packed.headers["Content-Length"]) < len(gzip.compress(plain.content, 1))


@pytest.mark.parametrize(
    "path", ["/page/", "/page/__init__.py", "/page/..%2fapp.py", "/page/none.js", "/page/a/b.js"]
)
def test_other_paths_are_not_found(call: Client, path: str) -> None:
    answer = call("GET", path)
    assert answer.status_code == 404
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_page_loads_nothing_from_other_hosts() -> None:
    for name, text in TEXTS.items():
        found = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+[^\s\"']*", text))
        assert found <= {"http://www.w3.org/2000/svg"}, name


def test_referenced_files_exist() -> None:
    text = "".join(TEXTS.values())
    named = set(re.findall(r"page/([\w-]+\.\w+)", text)) - {"overview"}
    imported = set(re.findall(r'from "\./([\w.-]+)"', text))
    examples = {f"{name}.mp3" for name in re.findall(r'data-example="([\w-]+)"', text)}
    assert named | imported | examples == page.list_files() - {"index.html"}


def test_examples_are_speech_of_some_seconds() -> None:
    examples = [name for name in CONTENTS if name.endswith(".mp3")]
    assert len(examples) == 2
    for name in examples:
        samples, rate = soundfile.read(io.BytesIO(CONTENTS[name]), dtype="float32")
        assert 10 < len(samples) / rate < 60
        assert 0.1 < np.abs(samples).max() <= 1
        assert contains_speech([samples], rate) == [True]
        assert len(CONTENTS[name]) < 200_000


def test_page_files_are_short() -> None:
    assert {name: len(text.splitlines()) for name, text in TEXTS.items()}
    assert all(len(text.splitlines()) < 300 for text in TEXTS.values())


class TagReader(HTMLParser):
    """Collects the tags of the page."""

    def __init__(self) -> None:
        super().__init__()
        self.every: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.every.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def tags() -> list[tuple[str, dict[str, str | None]]]:
    reader = TagReader()
    reader.feed(TEXTS["index.html"])
    return reader.every


def test_referenced_elements_exist(
    tags: list[tuple[str, dict[str, str | None]]],
) -> None:
    known = [found["id"] for _, found in tags if "id" in found]
    assert len(known) == len(set(known))
    for _, found in tags:
        for name in ("for", "aria-labelledby", "aria-describedby"):
            assert set((found.get(name) or "").split()) <= set(known)
    scripts = "".join(text for name, text in TEXTS.items() if name.endswith(".js"))
    used = set(re.findall(r'\$\("([\w-]+)"\)', scripts))
    assert used <= set(known)


def test_fields_have_labels(tags: list[tuple[str, dict[str, str | None]]]) -> None:
    labelled = {found.get("for") for tag, found in tags if tag == "label"}
    for tag, found in tags:
        if tag in ("input", "select") and found.get("type") != "radio":
            assert found["id"] in labelled or found["aria-label"]
        if tag == "button":
            assert found["type"] in ("button", "submit")
    assert dict(tags)["html"]["lang"] == "en"
    assert not any("style" in found or "onclick" in found for _, found in tags)


def theme_colours(scheme: int) -> dict[str, str]:
    """Colours of the style sheet; scheme 0 is light, 1 is dark."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#\w{6})", blocks[scheme]))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """Contrast ratio by WCAG 2.2."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_colours_have_enough_contrast(scheme: int) -> None:
    found = theme_colours(scheme)
    words = [
        *((ink, paper) for ink in ("ink", "soft", "accent") for paper in ("paper", "panel")),
        ("on-accent", "accent"),
        ("warn", "warn-paper"),
        ("ink", "warn-paper"),
    ]
    for ink, paper in words:
        assert contrast(found[ink], found[paper]) >= 4.5, (ink, paper)
    for mark in ("edge", "accent", "stop", "wave", "attention"):
        assert contrast(found[mark], found["paper"]) >= 3, mark


def test_text_on_class_colours_has_enough_contrast() -> None:
    colours = set(re.findall(r"#[0-9a-f]{6}", TEXTS["colours.js"]))
    assert len(colours) >= 9
    for colour in colours:
        assert max(contrast(colour, ink) for ink in ("#000000", "#ffffff")) >= 4.5
