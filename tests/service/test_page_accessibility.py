"""The page's states by the rules of axe-core (WCAG 2.2 A and AA), in Chromium."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from builders.browser import (
    DESKTOP,
    PHONE,
    drop_file,
    drop_files,
    open_page,
    wait_for_answer,
    wait_until,
)
from builders.encoded_audio import encode
from builders.service_client import SmallModelServer, small_recognizer
from builders.speech_streams import make_speech

from serein.bundle import save
from serein.records import Corpus

pytestmark = pytest.mark.slow

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
LANDSCAPE = (844, 390)
State = Callable[[Any], object]


@pytest.fixture(scope="module")
def serve_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    other = tmp_path_factory.mktemp("other") / "other.safetensors"
    save(small_recognizer("other", 1).bundle, other)
    return ["--model", str(other), "--max-seconds", "20", "--stream-seconds", "60"]


def list_violations(page: Any) -> list[str]:
    """The violations that axe-core finds, each with its elements."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    found = axe.Axe().run(page, options={"runOnly": RULES}).response["violations"]
    return [f"{one['id']}: {[node['html'][:120] for node in one['nodes'][:3]]}" for one in found]


def answered(page: Any, spoken: bytes, *clicks: str, keys: str = "") -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    for selector in clicks:
        page.click(selector)
    if keys:
        page.focus("#plot")
    for key in keys.split():
        page.keyboard.press(key)


def compared(page: Any, spoken: bytes) -> None:
    page.select_option("#other", "other")
    answered(page, spoken)


def several(page: Any, spoken: bytes) -> None:
    drop_files(page, {"0.wav": spoken, "1.wav": b"no audio"})
    wait_until(page, "document.querySelectorAll('#file-list li').length === 2")
    wait_until(page, "!document.getElementById('all-csv').disabled")


def refused(page: Any) -> None:
    drop_file(page, "call.wav", b"dear sir or madam")
    page.wait_for_selector("#problem strong")


def busy(page: Any, spoken: bytes) -> None:
    page.route("**/page/overview*", lambda route: route.fulfill(status=429, json={"detail": "x"}))
    drop_file(page, "call.wav", spoken)
    page.wait_for_selector("#problem button")


def silent(page: Any) -> None:
    drop_file(page, "sweep.wav", encode("wav"))
    wait_until(page, "document.getElementById('status').innerText.includes('No speech')")


def unplayable(page: Any, corpus: Corpus) -> None:
    drop_file(page, "call.aiff", encode("aiff", make_speech(corpus, 12.0)))
    wait_for_answer(page)


def pending(page: Any, spoken: bytes) -> None:
    page.route("**/page/overview*", lambda route: None)
    drop_file(page, "call.wav", spoken)
    wait_until(page, "document.getElementById('status').textContent.includes('Processing')")


def recorded(page: Any, button: str) -> None:
    page.click(button)
    wait_until(page, "document.getElementById('clock').innerText >= '0:01'")


def worded(page: Any, spoken: bytes) -> None:
    def add_words(route: Any) -> None:
        response = route.fetch()
        answer = response.json()
        answer["whole"]["words"] = [{"word": "so", "time": 1.0}, {"word": "it", "time": 3.0}]
        route.fulfill(response=response, json=answer)

    page.route("**/page/overview*", add_words)
    answered(page, spoken)
    assert page.locator("#words button").count() == 2


def streamed(page: Any, corpus: Corpus) -> None:
    drop_file(page, "long.wav", encode("wav", make_speech(corpus, 30.0)))
    wait_for_answer(page)


def list_states(spoken: bytes, corpus: Corpus) -> dict[str, State]:
    return {
        "first screen": lambda page: None,
        "settings and card": lambda page: [
            page.click(one) for one in ("#source summary", "#about summary")
        ],
        "waiting for an answer": partial(pending, spoken=spoken),
        "answer": partial(answered, spoken=spoken),
        "spectrogram": lambda page: answered(page, spoken, "[value=spectrum]"),
        "table": lambda page: answered(page, spoken, "#as-table summary"),
        "zoomed": lambda page: answered(page, spoken, keys="ArrowRight + +"),
        "playing in a loop": lambda page: answered(page, spoken, keys="ArrowRight l"),
        "words": partial(worded, spoken=spoken),
        "two models": partial(compared, spoken=spoken),
        "several recordings": partial(several, spoken=spoken),
        "long recording": partial(streamed, corpus=corpus),
        "no speech": silent,
        "unplayable": partial(unplayable, corpus=corpus),
        "unreadable": refused,
        "busy": partial(busy, spoken=spoken),
        "recording": lambda page: recorded(page, "#record"),
        "live": lambda page: recorded(page, "#live"),
    }


@pytest.mark.parametrize(
    ("size", "scheme"),
    [(DESKTOP, "light"), (PHONE, "dark"), (LANDSCAPE, "light")],
    ids=["desktop", "phone", "landscape"],
)
def test_states_have_no_violations(
    chromium: Any, live: SmallModelServer, spoken: bytes, corpus: Corpus, size: Any, scheme: Any
) -> None:
    found = {}
    for name, reach in list_states(spoken, corpus).items():
        with open_page(chromium, live.url, size=size, color_scheme=scheme) as page:
            reach(page)
            if violations := list_violations(page):
                found[name] = violations
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    assert found == {}


def test_key_form_has_no_violations(chromium: Any, tmp_path: Path, run: Any) -> None:
    run("serve", "--new-key", "ann", "--key-file", tmp_path / "keys")
    with (
        SmallModelServer(tmp_path, "--key-file", str(tmp_path / "keys")) as closed,
        open_page(chromium, closed.url) as page,
    ):
        page.wait_for_selector("#key")
        assert list_violations(page) == []
