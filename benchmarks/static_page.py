"""Size and times of the page without a server: `PYTHONPATH=tests python -m benchmarks.static_page`.

For each model it prints the size of the folder, the seconds from the request of the page to the
first answer of a 4 s file, and the milliseconds of an answer to that file by a model that is open;
both by wall clock and in processor time of the browser. The last column is the processor time of
onnxruntime for the same answer. An answer is that of the page: for the whole recording, and its
timeline. Processor time depends less on the load of the machine. Names of models may follow. It
needs Chromium and Playwright, and fetches onnxruntime-web once.
"""

import base64
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

from builders.browser import open_browser
from builders.encoded_audio import encode
from builders.speech_streams import make_speech
from builders.static_page import serve_folder

from serein import audio
from serein.corpora import synthetic
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.service.static_page import write_static_page
from serein.synthetic import SyntheticConfig, generate

SECONDS, OPENINGS, ANSWERS = 4.0, 3, 10
ANSWER = """async ([content, model]) => {
  const {fetchOverview} = await import("/page/api.js");
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const query = {model, window: 4, hop: 1, smooth: 1, speech: true};
  const start = performance.now();
  await fetchOverview(new File([bytes], "a.wav"), query, new AbortController().signal, () => {});
  return performance.now() - start;
}"""


def make_recording(folder: Path) -> Path:
    """Write a recording of generated speech."""
    generate(folder, SyntheticConfig(speakers=2, emotions=("anger", "neutral"), sentences=2))
    corpus = Corpus(name="spoken", utterances=tuple(synthetic.read(folder)))
    path = folder / "call.wav"
    path.write_bytes(encode("wav", make_speech(corpus, SECONDS)))
    return path


def read_cpu_seconds(session: Any) -> float:
    """Return the processor time of all processes that compute pages of a browser."""
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    return float(sum(one["cpuTime"] for one in processes if one["type"] == "renderer"))


def measure_page(chromium: Any, url: str, model: str, recording: Path) -> dict[str, float]:
    """Return median times of openings and of answers, in seconds."""
    session = chromium.new_browser_cdp_session()
    found: dict[str, list[float]] = {"first": [], "first_cpu": [], "answer": []}
    for number in range(OPENINGS):
        context = chromium.new_context()
        page, start, cpu = context.new_page(), perf_counter(), read_cpu_seconds(session)
        page.set_default_timeout(300_000)
        page.goto(url)
        page.set_input_files("#file", recording)
        page.wait_for_selector("#result:not([hidden])")
        found["first"].append(perf_counter() - start)
        found["first_cpu"].append(read_cpu_seconds(session) - cpu)
        if number < OPENINGS - 1:
            context.close()
    content = base64.b64encode(recording.read_bytes()).decode()
    page.evaluate(ANSWER, [content, model])
    cpu = read_cpu_seconds(session)
    for _ in range(ANSWERS):
        found["answer"].append(page.evaluate(ANSWER, [content, model]) / 1000)
    answer_cpu = (read_cpu_seconds(session) - cpu) / ANSWERS
    context.close()
    return {name: median(times) for name, times in found.items()} | {"answer_cpu": answer_cpu}


def measure_python(model: str, recording: Path) -> float:
    """Return the processor time of the same answer with onnxruntime, in seconds."""
    recognizer = Recognizer(model, backend="onnx")
    times = []
    for _ in range(ANSWERS + 1):
        start = process_time()
        source = (audio.load(recording), 16_000)
        recognizer(source)
        recognizer.timeline(source, merge=False)
        times.append(process_time() - start)
    return median(times[1:])


def main(models: Sequence[str]) -> None:
    """Print a row for each model."""
    print("| model | folder | first answer | processor | 4 s file | processor | onnxruntime |")
    print("|---|---|---|---|---|---|---|")
    with TemporaryDirectory() as place, open_browser() as chromium:
        recording = make_recording(Path(place) / "corpus")
        for model in models:
            written = write_static_page(Path(place) / model, [model])
            with serve_folder(written.folder) as url:
                times = measure_page(chromium, url, model, recording)
            native = measure_python(model, recording)
            print(
                f"| {model} | {written.size / 1e6:.1f} MB | {times['first']:.1f} s | "
                f"{times['first_cpu']:.1f} s | {1000 * times['answer']:.0f} ms | "
                f"{1000 * times['answer_cpu']:.0f} ms | {1000 * native:.0f} ms |",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:] or ["serein-light", "serein-base"])
