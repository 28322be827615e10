"""Screenshots of the page for the docs: `make screens`, or `python tests/screenshots.py FOLDER`."""

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
    """Generate a recording with several voices."""
    generate(folder, SyntheticConfig(speakers=4, emotions=EMOTIONS, sentences=3, words=3))
    corpus = Corpus(name="spoken", utterances=tuple(synthetic.read(folder)))
    path = folder / "call.flac"
    path.write_bytes(encode("flac", make_speech(corpus, SECONDS, seed=3)))
    return path


def train_model(folder: Path) -> Path:
    """Train a second model, on these voices only."""
    path = folder / "generated.safetensors"
    command = [sys.executable, "-m", "serein", "train", "li2019-emodb", "-o", str(path)]
    command += ["--corpus", f"synthetic={folder}", "--set", "training.epochs=25"]
    subprocess.run(command, check=True)
    return path


def take_screenshots(chromium: Any, url: str, recording: Path, folder: Path) -> None:
    """Take screenshots: of one model, of two in dark mode, and on a phone."""
    with open_page(chromium, url, size=(820, 900)) as page:
        page.set_input_files("#file", recording)
        wait_for_answer(page)
        _screenshot(page, folder / "file.png", whole=True)
    with open_page(chromium, url, size=(820, 1240), color_scheme="dark") as page:
        page.select_option("#other", "generated")
        page.set_input_files("#file", recording)
        wait_for_answer(page)
        _screenshot(page, folder / "compare.png")
    with open_page(chromium, url, size=PHONE) as page:
        page.set_input_files("#file", recording)
        wait_for_answer(page)
        page.check("[value=spectrum]")
        wait_until(page, "figure.data.some(one => one.type === 'heatmap')")
        _screenshot(page, folder / "phone.png")


def _screenshot(page: Any, path: Path, *, whole: bool = False) -> None:
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.getElementById('result').scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=path, full_page=whole)


def main(folder: Path) -> None:
    """Take all screenshots."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place, open_browser() as chromium:
        recording, second = write_speech(Path(place)), train_model(Path(place))
        options = ["--model", "li2019-emodb", "--model", str(second), "--confidence", "0.45"]
        served = ServeProcess(Path(place), *options)
        try:
            take_screenshots(chromium, served.url, recording, folder)
        finally:
            served.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
