"""`serein page`: its answers in Chromium against those of the service, and its folder."""

import base64
import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
from builders.browser import open_page, wait_for_answer, wait_until
from builders.encoded_audio import encode
from builders.service_client import Client
from builders.speech_streams import make_speech, rating_recognizer
from builders.static_page import ort_web_folder, serve_folder

from serein.bundle import save
from serein.errors import ConfigError, StorageError
from serein.inference.recognizer import Recognizer
from serein.records import Corpus
from serein.service import static_page
from serein.service.app import create_app
from serein.service.config import ServiceConfig
from serein.service.engine import Engine
from serein.service.static_page import load_ort_web, write_static_page

TOLERANCE = 1e-3
MODEL = "serein-light"
DEFAULTS: dict[str, Any] = {"window": 4, "hop": 1, "smooth": 1, "speech": True}
FINE: dict[str, Any] = {"window": 3, "hop": 0.25, "smooth": 3, "speech": False}
OVERVIEW = """async ([name, content, query]) => {
  const {fetchOverview} = await import("/page/api.js");
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const file = new File([bytes], name);
  try {
    return await fetchOverview(file, query, new AbortController().signal, () => {});
  } catch (error) {
    return {problem: error.message, title: error.title};
  }
}"""
"""The document of a file, or its problem."""


@pytest.fixture(scope="module")
def ort_web() -> Path:
    try:
        return ort_web_folder()
    except LookupError as error:
        pytest.skip(f"no onnxruntime-web: {error}")


@pytest.fixture(scope="module")
def folder(ort_web: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with the light model."""
    made = tmp_path_factory.mktemp("static") / "page"
    write_static_page(made, [MODEL], ort_web=ort_web)
    return made


@pytest.fixture(scope="module")
def microphone(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("heard") / "microphone.wav"
    path.write_bytes(encode("wav", make_speech(corpus, 20.0)))
    return path


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serve_folder(folder) as url:
        yield url


@pytest.fixture(scope="module")
def opened(chromium: Any, address: str) -> Iterator[Any]:
    """The page, opened once for all tests that only compute with it."""
    with open_page(chromium, address) as page:
        yield page


@pytest.fixture
def own_folder(folder: Path, tmp_path: Path) -> Path:
    """A copy of the page, to be damaged."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


@pytest.fixture(scope="module")
def service() -> Iterator[Client]:
    """A service in this process with the same model."""
    recognizer = Recognizer(MODEL, backend="onnx")
    with closing(Engine(recognizer, ServiceConfig(decoders=1), ())) as engine:
        yield Client(create_app(engine))


def make_wave(corpus: Corpus, rate: int, seconds: float, channels: int = 1) -> Any:
    """Generated speech with a hiss, at a rate, in channels of different level."""
    speech = make_speech(corpus, seconds + 1, seed=1)
    wave = soxr.resample(speech, 16_000, rate, quality="VHQ")[: round(seconds * rate)]
    wave = wave + np.random.default_rng(rate).normal(0, 1e-3, len(wave)).astype(np.float32)
    return np.stack([wave, *[0.5 * wave] * (channels - 1)], axis=-1)


def compute(page: Any, name: str, content: bytes, query: dict[str, Any]) -> dict[str, Any]:
    encoded = base64.b64encode(content).decode()
    found = page.evaluate(OVERVIEW, [name, encoded, {"model": MODEL, **query}])
    return dict(found)


def request(service: Client, name: str, content: bytes, query: dict[str, Any]) -> dict[str, Any]:
    parameters = {key: json.dumps(value) for key, value in query.items()}
    options = {"params": parameters, "files": {"file": (name, content)}}
    with ThreadPoolExecutor(1) as thread:  # the browser's event loop runs in this one
        sent = thread.submit(service, "POST", "/page/overview", **options).result()
    assert sent.status_code == 200, sent.text
    return dict(sent.json())


def assert_agrees(found: Any, wanted: Any, place: str = "") -> None:
    """Assert that documents have the same keys, texts and lengths, and numbers to a tolerance."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), place
        for key in wanted:
            assert_agrees(found[key], wanted[key], f"{place}.{key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), place
        for number, pair in enumerate(zip(found, wanted, strict=True)):
            assert_agrees(*pair, f"{place}.{number}")
    elif isinstance(wanted, int | float) and not isinstance(wanted, bool):
        assert found == pytest.approx(wanted, abs=TOLERANCE), place
    else:
        assert found == wanted, place


def parse_cells(text: str) -> list[list[str | float]]:
    def parse(cell: str) -> str | float:
        try:
            return float(cell)
        except ValueError:
            return cell

    return [[parse(cell) for cell in row] for row in csv.reader(io.StringIO(text))]


@pytest.mark.parametrize(
    ("name", "rate", "seconds", "channels", "query"),
    [
        ("odd.wav", 16_000, 4.0137, 1, DEFAULTS),
        (
            "long stereo.wav",
            44_100,
            7.31,
            2,
            {"window": 2, "hop": 0.75, "smooth": 3, "speech": False},
        ),
        ("telephone, line 2.wav", 8_000, 3.3333, 1, DEFAULTS),
        ("old.flac", 11_025, 2.7, 1, DEFAULTS),
        ("prime.wav", 44_101, 1.9, 1, FINE),
        ("lossy.mp3", 48_000, 3.1, 1, DEFAULTS),
        ("short.wav", 16_000, 0.031, 1, DEFAULTS),
    ],
)
def test_answers_are_those_of_the_service(
    opened: Any,
    service: Client,
    corpus: Corpus,
    name: str,
    rate: int,
    seconds: float,
    channels: int,
    query: dict[str, Any],
) -> None:
    content = encode(name.rpartition(".")[2], make_wave(corpus, rate, seconds, channels), rate)
    found, wanted = (
        compute(opened, name, content, query),
        request(service, name, content, query),
    )
    tables = [document["files"].pop("csv") for document in (found, wanted)]
    assert_agrees(found, wanted)
    assert_agrees(parse_cells(tables[0]), parse_cells(tables[1]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["serein-base", "values"])
def test_answers_of_other_models(
    kind: str, chromium: Any, ort_web: Path, corpus: Corpus, tmp_path: Path
) -> None:
    """The default model, and one of numbers that has no ONNX form and is exported."""
    model = kind
    if kind == "values":
        model = str(tmp_path / "values.safetensors")
        save(rating_recognizer().bundle, Path(model))
    write_static_page(tmp_path / "page", [model], ort_web=ort_web)
    recognizer = Recognizer(model)
    wave = make_wave(corpus, 44_100, 6.2)
    content = encode("wav", wave, 44_100)
    quiet = np.zeros((3 * 44_100, 1), np.float32)
    surrounded = encode("wav", np.concatenate([quiet, wave, quiet]), 44_100)
    with (
        closing(Engine(recognizer, ServiceConfig(decoders=1), ())) as engine,
        serve_folder(tmp_path / "page") as url,
        open_page(chromium, url) as page,
    ):
        for sent, query in ((content, FINE), (surrounded, DEFAULTS)):
            own = {"model": recognizer.name, **query}
            found = page.evaluate(OVERVIEW, ["a.wav", base64.b64encode(sent).decode(), own])
            wanted = request(Client(create_app(engine)), "a.wav", sent, query)
            for document in (found, wanted):
                document["files"].pop("csv")
            assert_agrees(found, wanted)


def test_silence_and_file_that_is_no_audio(opened: Any, service: Client) -> None:
    silence = encode("wav", np.zeros(16_000, np.float32))
    found = compute(opened, "s.wav", silence, DEFAULTS)
    wanted = request(service, "s.wav", silence, DEFAULTS)
    for document in (found, wanted):
        document["files"].pop("csv")
    assert_agrees(found, wanted)
    assert found["whole"]["speech"] is False
    for content, fault in (
        (b"%PDF-1.7", "not audio that this browser reads"),
        (encode("aiff"), "convert it to WAV, FLAC, MP3 or Ogg"),
        (b"", "is empty (0 bytes)"),
        (encode("wav", np.zeros(100, np.float32)), "has 6 ms of audio; expected at least 25 ms"),
    ):
        assert fault in compute(opened, "x.wav", content, DEFAULTS)["problem"]


def test_channels_that_cancel_are_refused(opened: Any, corpus: Corpus) -> None:
    wave = make_wave(corpus, 16_000, 1.0)
    content = encode("wav", np.concatenate([wave, -wave], axis=1))
    assert "cancel each other" in compute(opened, "x.wav", content, DEFAULTS)["problem"]


def test_settings_that_do_not_fit_the_model(opened: Any, corpus: Corpus) -> None:
    content = encode("wav", make_wave(corpus, 16_000, 1.0))
    for query, fault in (
        ({"window": 7}, "takes at most 6 s"),
        ({"window": 1, "hop": 2}, "leaves gaps"),
        ({"smooth": 2}, "expected an odd number"),
    ):
        found = compute(opened, "x.wav", content, {**DEFAULTS, **query})
        assert found["title"] == "These settings do not fit"
        assert fault in found["problem"]


def test_stream_of_a_long_recording_has_the_segments_of_its_file(
    opened: Any, corpus: Corpus
) -> None:
    content = encode("wav", make_wave(corpus, 16_000, 9.0))
    wanted = compute(opened, "long.wav", content, DEFAULTS)
    script = """async ([content, start]) => {
      const {streamSamples} = await import("/page/live.js");
      const {decodeAudio} = await import("/page/wav.js");
      const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
      const sound = await decodeAudio(new File([bytes], "long.wav")), hops = [];
      const collect = message => hops.push(...message.items);
      const signal = new AbortController().signal;
      return [await streamSamples(sound, start, "emotion", signal, collect), hops];
    }"""
    start = {"model": MODEL, **DEFAULTS, "merge": False, "summary": "long.wav"}
    found, hops = opened.evaluate(script, [base64.b64encode(content).decode(), start])
    assert_agrees(hops, wanted["hops"])
    assert_agrees(found["timeline"]["segments"], wanted["timeline"]["segments"])
    assert found["headlines"]["emotion"].startswith(tuple(wanted["timeline"]["shares"]["emotion"]))
    assert found["files"]["vtt"].startswith("WEBVTT")


def test_dropped_example_is_answered_and_nothing_leaves_the_machine(
    opened: Any, address: str
) -> None:
    seen: list[str] = []
    opened.on("request", lambda request: seen.append(f"{request.method} {request.url}"))
    opened.click("[data-example=two-voices]")
    wait_for_answer(opened)
    assert opened.inner_text("#result-title") == "two-voices.mp3"
    assert opened.is_hidden("#key-form")
    assert "no recording leaves this device" in opened.inner_text("footer")
    allowed = (f"GET {address}/", f"GET blob:{address}/", "GET data:")
    assert [one for one in seen if not one.startswith(allowed)] == []
    assert f"GET {address}/page/two-voices.mp3" in seen


def test_policy_refuses_other_hosts(chromium: Any, address: str) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(address)
    refused = page.evaluate(
        "Promise.all(['http://127.0.0.1:9/', 'https://example.org/'].map("
        "url => fetch(url, {method: 'POST', body: 'x', mode: 'no-cors'})"
        ".then(() => 'sent', () => 'refused')))"
    )
    reasons = page.evaluate("""new Promise(resolve => {
      document.addEventListener("securitypolicyviolation", event => resolve(event.blockedURI));
      fetch("http://127.0.0.1:9/").catch(() => {});
    })""")
    policies = page.evaluate(
        "[...document.querySelectorAll('meta[http-equiv]')].map(one => one.content)"
    )
    context.close()
    assert refused == ["refused", "refused"]
    assert reasons.startswith("http://127.0.0.1:9")
    assert "script-src 'self' 'wasm-unsafe-eval'" in policies[0]
    assert "connect-src 'self'" in policies[0]


def test_live_answers_and_recording(opened: Any) -> None:
    opened.click("#live")
    wait_until(opened, "document.getElementById('now').innerText.includes('%')")
    wait_until(opened, "document.getElementById('latency').innerText.includes('the last')")
    opened.click("#live")
    wait_until(
        opened, "document.getElementById('result-title').textContent.startsWith('recording ')"
    )
    wait_for_answer(opened)


def problem_of(chromium: Any, url: str, script: str = "") -> str:
    """Open a page that cannot work, and return the problem that it shows."""
    context = chromium.new_context()
    page = context.new_page()
    page.add_init_script(script)
    page.goto(url)
    page.wait_for_selector("#problem strong")
    text = str(page.inner_text("#problem"))
    context.close()
    return text


def test_browser_that_cannot_compute(chromium: Any, address: str, folder: Path) -> None:
    text = problem_of(chromium, address, "WebAssembly.validate = () => false")
    assert "lacks WebAssembly with SIMD" in text
    assert text.count("\n\n") <= 1
    text = problem_of(chromium, (folder / "index.html").as_uri())
    assert "python -m http.server" in text


def test_missing_and_damaged_files_are_named(chromium: Any, own_folder: Path) -> None:
    model = own_folder / "models" / "model-1.onnx"
    content = model.read_bytes()
    with serve_folder(own_folder) as url:
        model.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        text = problem_of(chromium, url)
        assert "models/model-1.onnx is not the file that was written" in text
        model.unlink()
        text = problem_of(chromium, url)
        assert "models/model-1.onnx could not be loaded (404)" in text
        assert "Try again" in text
        (own_folder / "models" / "models.json").write_text("[")
        assert "models/models.json could not be loaded" in problem_of(chromium, url)


def test_browser_without_a_microphone(chromium: Any, address: str) -> None:
    with open_page(chromium, address) as page:
        page.evaluate(
            "void (navigator.mediaDevices.getUserMedia = "
            "() => Promise.reject(new DOMException('none', 'NotFoundError')))"
        )
        page.click("#live")
        page.wait_for_selector("#problem strong")
        assert "There is no microphone" in page.inner_text("#problem")


def test_written_folder(folder: Path) -> None:
    files = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()}
    assert {"index.html", "LICENSES.txt", "models/models.json", "page/main.js"} <= files
    text = (folder / "index.html").read_text("utf-8")
    assert "://" not in text  # no other address
    document = json.loads((folder / "models" / "models.json").read_text("utf-8"))
    listed = [*document["runtime"].values(), *(one["file"] for one in document["models"])]
    for entry in listed:
        assert (folder / entry["path"]).stat().st_size == entry["bytes"]
    assert sum(len((folder / name).read_bytes()) for name in files) < 12e6


@pytest.fixture
def small_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that stand for onnxruntime-web, for folders that no browser opens."""
    files = dict.fromkeys(static_page.ORT_WEB_FILES, b"x")
    monkeypatch.setattr(static_page, "load_ort_web", lambda _: files)


@pytest.mark.usefixtures("small_runtime")
def test_class_set_and_confidence(tmp_path: Path) -> None:
    chosen = "anger,neutral,sadness"
    written = write_static_page(tmp_path / "page", [MODEL], classes=chosen, confidence=0.5)
    (model,) = json.loads((written.folder / "models" / "models.json").read_text())["models"]
    assert model["classes"]["emotion"] == chosen.split(",")
    assert model["class_set"]["emotion"]["columns"] == [0, 5, 6]
    assert set(model["thresholds"].values()) == {0.5}
    assert written.models == (MODEL,)
    write_static_page(tmp_path / "page", ["li2019-emodb"])  # over the earlier page
    (model,) = json.loads((written.folder / "models" / "models.json").read_text())["models"]
    assert model["class_set"] == {}
    assert len(list(tmp_path.glob("page/models/*.onnx"))) == 3


@pytest.mark.usefixtures("small_runtime")
def test_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", "index.html")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(StorageError, match=r"index.html: No space left.*is incomplete"):
        write_static_page(tmp_path / "page", [MODEL])


def test_earlier_page_is_replaced_and_other_folders_are_not(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="has files that are not of an earlier page"):
        write_static_page(tmp_path, [MODEL])
    with pytest.raises(ConfigError, match="is a file; name a folder"):
        write_static_page(tmp_path / "notes.txt", [MODEL])
    with pytest.raises(ConfigError, match="serein-light is given twice"):
        write_static_page(tmp_path / "new", [MODEL, MODEL])
    assert not (tmp_path / "new").exists()


def test_onnxruntime_web_is_checked(
    ort_web: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert set(load_ort_web(ort_web)) == {static_page.SCRIPT, static_page.WASM}
    with pytest.raises(ConfigError, match="has no ort"):
        load_ort_web(tmp_path)
    (tmp_path / static_page.SCRIPT).write_bytes(b"")
    with pytest.raises(ConfigError, match=r"cannot read .*wasm: No such file"):
        load_ort_web(tmp_path)
    (tmp_path / static_page.WASM).write_bytes(b"")
    with pytest.raises(ConfigError, match="is not that of the npm package onnxruntime-web"):
        load_ort_web(tmp_path)
    with pytest.raises(ConfigError, match="is not that of the npm package onnxruntime-web"):
        load_ort_web(tmp_path / static_page.WASM)  # an archive with another content
    with pytest.raises(ConfigError, match=r"cannot read .*none\.tgz"):
        load_ort_web(tmp_path / "none.tgz")
    monkeypatch.setattr(static_page, "ORT_WEB_URL", (tmp_path / "none.tgz").as_uri())
    with pytest.raises(ConfigError, match=r"cannot be fetched.*npm pack.*--ort-web"):
        load_ort_web()


def test_archive_is_fetched_once(ort_web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    def fetch() -> dict[str, bytes]:
        fetched.append("once")
        return load_ort_web(ort_web)

    monkeypatch.setattr(static_page, "_fetch", fetch)
    assert not static_page.is_ort_web_cached()
    assert load_ort_web() == load_ort_web()
    assert static_page.is_ort_web_cached()
    assert fetched == ["once"]


@pytest.mark.usefixtures("small_runtime")
def test_command(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    status, out, err = run("page", "-o", tmp_path / "page", "-m", MODEL)
    assert status == 0
    assert "fetching https://registry.npmjs.org/onnxruntime-web" in err
    assert "python -m http.server -d" in out
    assert run("page", "-o", tmp_path / "page", "-m", "serein-lihgt")[0] == 2
