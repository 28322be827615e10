"""The page with models that predict values, in Chromium."""

from pathlib import Path
from typing import Any

import pytest
from builders.browser import drop_file, wait_until
from builders.service_client import SmallModelServer
from builders.speech_streams import rating_recognizer

from serein.bundle import save
from serein.inference.recognizer import Recognizer

SEX = "tasks.sex={name='gender'}"
NAMES = ["arousal", "valence"]
TITLES = "figure.timeline.rows.map(row => row.title).filter(Boolean)"


@pytest.fixture(scope="module")
def serve_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("models")
    options: list[str] = []
    for name, more in (("alone", ()), ("mixed", (SEX,))):
        save(rating_recognizer(*more).bundle, folder / f"{name}.safetensors")
        options += ["--model", str(folder / f"{name}.safetensors")]
    return options


def drop_and_wait(page: Any, spoken: bytes, model: str) -> None:
    page.select_option("#model", model)
    drop_file(page, "call.wav", spoken)
    page.wait_for_selector("#result:not([hidden])")
    wait_until(page, "document.querySelector('#figure > svg')")
    wait_until(page, "document.getElementById('status').textContent.includes('arousal ')")


def test_values_are_drawn_as_lines(page: Any, spoken: bytes) -> None:
    drop_and_wait(page, spoken, "alone")
    whole = rating_recognizer()(spoken)
    told = [f"{name}: {value:.2f}" for name, value in whole.values.items()]
    assert page.inner_text("#verdicts .answer") == ", ".join(told)
    titles = page.evaluate(TITLES)
    assert titles[:2] == NAMES
    assert "confidence" not in titles
    hops = rating_recognizer().timeline(spoken, window=4.0, hop=1.0).segments or []
    drawn = page.evaluate(
        "[...document.querySelectorAll('[data-value=valence]')].flatMap("
        "line => [...line.points].map(({y}) => y))"
    )
    values = [one.values["valence"] for one in hops]
    low, high = min(values), max(values)
    margin = 0.08 * (high - low) or 0.5
    heights = [72 * (1 - (value - low + margin) / (high - low + 2 * margin)) for value in values]
    assert drawn[::2] == drawn[1::2] == pytest.approx(heights, abs=0.1)
    page.click("#as-table summary")
    heads = [text for text in page.locator("#tables thead th").all_inner_texts() if text]
    assert heads == ["start", "end", *NAMES]
    cells = page.locator("#tables tbody tr:first-child td").all_inner_texts()
    assert cells[3:] == [f"{value:.2f}" for value in hops[0].values.values()]
    name = page.get_attribute("#tables tbody tr:first-child button", "aria-label")
    assert name.endswith(f": arousal {cells[3]}, valence {cells[4]}")


def test_values_are_drawn_below_classes(page: Any, spoken: bytes) -> None:
    drop_and_wait(page, spoken, "mixed")
    recognizer: Recognizer = rating_recognizer(SEX)
    assert page.evaluate(TITLES)[:4] == ["sex", "confidence", *NAMES]
    assert str(recognizer(spoken).label) in page.inner_text("#verdicts .answer")
    segments = recognizer.timeline(spoken, window=4.0, hop=1.0).segments or []
    page.click("#as-table summary")
    rows = page.locator("#tables tbody tr")
    assert rows.count() == len(segments)
    for number, segment in enumerate(segments):
        cells = rows.nth(number).locator("td").all_inner_texts()
        expected = list(segment.values.values())
        assert [float(cell) for cell in cells[-2:]] == pytest.approx(expected, abs=0.0051)
    page.focus("#plot")
    page.keyboard.press("End")
    page.keyboard.press("Home")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert "arousal " in page.get_attribute("#plot", "aria-valuetext")


def test_comparison_of_models_with_different_tasks(page: Any, spoken: bytes) -> None:
    drop_and_wait(page, spoken, "alone")
    page.select_option("#other", "small")
    wait_until(page, "document.querySelectorAll('#verdicts .verdict').length === 2")
    wait_until(page, f"{TITLES}.includes('arousal, alone')")
    assert page.inner_text("#agreement") == ""
    page.select_option("#model", "small")
    page.select_option("#other", "alone")
    wait_until(page, f"{TITLES}[0] === 'small' && {TITLES}.includes('valence, alone')")
    assert page.locator("[data-row=probabilities] polygon").count() >= 3
    assert page.evaluate("document.querySelectorAll('#tables table').length") == 2


def test_downloads_of_values(page: Any, live: SmallModelServer, spoken: bytes) -> None:
    drop_and_wait(page, spoken, "alone")
    for kind, begin in (("csv", "file,start,end,arousal,valence,"), ("vtt", "WEBVTT\n")):
        with page.expect_download() as download:
            page.click(f"[data-format={kind}]")
        assert Path(download.value.path()).read_text().startswith(begin)
    assert page.inner_text("#problem") == ""
    assert live.process.poll() is None


@pytest.mark.parametrize("model", ["alone", "mixed"])
def test_live_values(page: Any, model: str) -> None:
    page.select_option("#model", model)
    page.click("#live")
    wait_until(page, "document.getElementById('now').innerText.includes('arousal ')")
    assert ("%" in page.inner_text("#now")) == (model == "mixed")
    page.click("#live")
    page.wait_for_selector("#result:not([hidden])")
    assert page.inner_text("#problem") == ""
