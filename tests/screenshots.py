"""Screenshots for the docs: `make screens`, or `python tests/screenshots.py FOLDER [WHAT]`.

WHAT is "page", the web page of the service, or "documents", a report and an explanation; else both.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from builders.browser import PHONE, open_browser, open_page, wait_for_answer, wait_until
from builders.encoded_audio import encode
from builders.service_client import ServeProcess
from builders.speech_streams import make_speech

from serein.corpora import synthetic
from serein.records import Corpus
from serein.synthetic import SyntheticConfig, generate

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SECONDS = 24.0


def write_speech(folder: Path) -> Path:
    """Generate a recording with several voices; the microphone plays it as ``call.wav``."""
    generate(folder, SyntheticConfig(speakers=4, emotions=EMOTIONS, sentences=3, words=3))
    corpus = Corpus(name="spoken", utterances=tuple(synthetic.read(folder)))
    path = folder / "call.flac"
    speech = make_speech(corpus, SECONDS, seed=3)
    path.write_bytes(encode("flac", speech))
    path.with_suffix(".wav").write_bytes(encode("wav", speech))
    return path


def train_model(folder: Path) -> Path:
    """Train a second model, on these voices only."""
    path = folder / "generated.safetensors"
    command = [sys.executable, "-m", "serein", "train", "li2019-emodb", "-o", str(path)]
    command += ["--corpus", f"synthetic={folder}", "--set", "training.epochs=25"]
    subprocess.run(command, check=True)
    return path


def take_screenshots(chromium: Any, url: str, recording: Path, folder: Path) -> None:
    """Take screenshots: of one model, of two in dark mode, live, and on a phone."""
    with open_page(chromium, url, size=(1280, 900)) as page:
        page.set_input_files("#file", recording)
        wait_for_answer(page)
        _move_playhead(page, 7)
        _screenshot(page, folder / "file.png", whole=True)
    with open_page(chromium, url, size=(1280, 1240), color_scheme="dark") as page:
        page.select_option("#other", "generated")
        page.set_input_files("#file", recording)
        wait_for_answer(page)
        _move_playhead(page, 7)
        page.keyboard.press("+")
        _screenshot(page, folder / "compare.png")
    with open_page(chromium, url, size=(820, 600)) as page:
        page.click("#live")
        wait_until(page, "document.getElementById('clock').innerText >= '0:14'")
        page.screenshot(path=folder / "live.png")
        page.click("#live")
        wait_for_answer(page)
    with open_page(chromium, url, size=PHONE) as page:
        page.set_input_files("#file", recording)
        wait_for_answer(page)
        page.check("[value=spectrum]")
        page.wait_for_selector("[data-row=spectrum] image", state="attached")
        _move_playhead(page, 7)
        _screenshot(page, folder / "phone.png")


def take_document_screenshots(chromium: Any, place: Path, folder: Path) -> None:
    """Take screenshots of the top of a report and of an explanation, on generated speech."""
    corpus = place / "practice"
    generate(corpus, SyntheticConfig(speakers=4, emotions=EMOTIONS, sentences=2, words=3))
    run = [sys.executable, "-m", "serein"]
    evaluate = ["evaluate", "quickstart", "--corpus", f"mine={corpus / 'labels.csv'}"]
    subprocess.run([*run, *evaluate, "--runs", str(place / "runs")], check=True)
    report = next((place / "runs").glob("*/report.html"))
    recording = next((corpus / "wav").glob("*-anger-*.wav"))
    explanation = place / "explanation.html"
    explain = ["explain", str(recording), "--model", "li2019-emodb", "-o", str(explanation)]
    subprocess.run([*run, *explain], check=True)
    for document, height in ((report, 1000), (explanation, 900)):
        context = chromium.new_context(viewport={"width": 900, "height": height})
        page = context.new_page()
        page.goto(document.as_uri())
        page.wait_for_timeout(1500)
        page.screenshot(path=folder / f"{document.stem}.png")
        context.close()


def _move_playhead(page: Any, seconds: int) -> None:
    page.focus("#plot")
    for _ in range(seconds):
        page.keyboard.press("ArrowRight")


def _screenshot(page: Any, path: Path, *, whole: bool = False) -> None:
    page.evaluate("document.activeElement.blur()")
    if not whole:
        page.evaluate("document.getElementById('result').scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=path, full_page=whole)


def main(folder: Path, what: str = "") -> None:
    """Take all screenshots, or those of "page" or "documents"."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place:
        recording = write_speech(Path(place))
        with open_browser(recording.with_suffix(".wav")) as chromium:
            if what in ("", "documents"):
                take_document_screenshots(chromium, Path(place), folder)
            if what in ("", "page"):
                second = str(train_model(Path(place)))
                options = ["--model", "li2019-emodb", "--model", second, "--confidence", "0.45"]
                with ServeProcess(Path(place), *options) as served:
                    take_screenshots(chromium, served.url, recording, folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
