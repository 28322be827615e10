"""Pictures of the page for the docs: `make screens`, or `python tests/screens.py FOLDER`."""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from builders.browser import PHONE, browser, opened, shown, until
from builders.encoded_audio import encoded
from builders.service_client import Served
from builders.speech_streams import talk

from serein.corpora import synthetic
from serein.records import Corpus
from serein.synthetic import SyntheticConfig, generate

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
SECONDS = 24.0


def speech(folder: Path) -> Path:
    """A recording of generated voices."""
    generate(folder, SyntheticConfig(speakers=4, emotions=EMOTIONS, sentences=3, words=3))
    corpus = Corpus(name="spoken", utterances=tuple(synthetic.read(folder)))
    path = folder / "call.flac"
    path.write_bytes(encoded("flac", talk(corpus, SECONDS, seed=3)))
    return path


def trained(folder: Path) -> Path:
    """A second model, which has heard these voices alone."""
    path = folder / "generated.safetensors"
    command = [sys.executable, "-m", "serein", "train", "li2019-emodb", "-o", str(path)]
    command += ["--corpus", f"synthetic={folder}", "--set", "training.epochs=25"]
    subprocess.run(command, check=True)
    return path


def pictures(chromium: Any, url: str, recording: Path, folder: Path) -> None:
    """One recording: as it is usual, compared in the dark, and on a phone."""
    with opened(chromium, url, size=(820, 900)) as page:
        page.set_input_files("#file", recording)
        shown(page)
        _kept(page, folder / "file.png", whole=True)
    with opened(chromium, url, size=(820, 1240), color_scheme="dark") as page:
        page.select_option("#other", "generated")
        page.set_input_files("#file", recording)
        shown(page)
        _kept(page, folder / "compare.png")
    with opened(chromium, url, size=PHONE) as page:
        page.set_input_files("#file", recording)
        shown(page)
        page.check("[value=spectrum]")
        until(page, "figure.data.some(one => one.type === 'heatmap')")
        _kept(page, folder / "phone.png")


def _kept(page: Any, path: Path, *, whole: bool = False) -> None:
    page.evaluate("document.activeElement.blur()")
    page.evaluate("document.getElementById('result').scrollIntoView()")
    page.wait_for_timeout(500)
    page.screenshot(path=path, full_page=whole)


def main(folder: Path) -> None:
    """Make them all."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as place, browser() as chromium:
        recording, second = speech(Path(place)), trained(Path(place))
        options = ["--model", "li2019-emodb", "--model", str(second), "--confidence", "0.45"]
        served = Served(Path(place), *options)
        try:
            pictures(chromium, served.url, recording, folder)
        finally:
            served.end()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
