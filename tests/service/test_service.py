"""Valid requests to the service."""

import json
import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from builders.encoded_audio import encode, encode_format, list_formats, make_sweep
from builders.service_client import (
    RECOGNIZE,
    SPEECH,
    Client,
    open_client,
    open_engine,
    small_recognizer,
)
from builders.small_systems import small_system
from pydantic import TypeAdapter

from serein.bundle import Bundle, Card, save
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.service import auth, observability
from serein.service.app import create_app
from serein.service.engine import Engine
from serein.service.schemas import Model

Run = Callable[..., tuple[int, str, str]]
GENDERS = ["female", "male"]
LENGTHS = (0.3, 1.0, 2.5, 9.0, 0.7, 20.0, 1.5, 0.05)


@pytest.fixture(scope="module")
def service() -> Iterator[tuple[Client, Engine]]:
    with open_client(wait=0.3) as made:
        yield made


@pytest.fixture(scope="module")
def call(service: tuple[Client, Engine]) -> Client:
    return service[0]


def is_close(one: Any, other: Any) -> bool:
    """Return whether two JSON documents are equal, numbers to 1e-5."""
    if isinstance(one, dict):
        return list(one) == list(other) and all(is_close(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(is_close, one, other))
    return bool(one == pytest.approx(other, abs=1e-5))


def test_recognize_equals_command_in_any_batch(
    service: tuple[Client, Engine], run: Run, tmp_path: Path
) -> None:
    call, engine = service
    files = [tmp_path / f"{number}.flac" for number in range(len(LENGTHS))]
    for file, seconds in zip(files, LENGTHS, strict=True):
        file.write_bytes(encode("flac", make_sweep(seconds, 22_050), rate=22_050))
    save(small_recognizer().bundle, tmp_path / "small.safetensors")
    words = ["--model", tmp_path / "small.safetensors", "--format", "json", "--answer-nonspeech"]
    status, out, _ = run("recognize", *files, *words)
    assert status == 0
    forms = [{"files": {"file": (file.name, file.read_bytes())}} for file in files]
    answers = call.send_together([("POST", RECOGNIZE, form) for form in forms])
    for answer, wanted, file in zip(answers, json.loads(out)["recognized"], files, strict=True):
        assert answer.status_code == 200
        assert is_close(answer.json(), {**wanted, "source": file.name})
    counts = re.findall(r"serein_batch_recordings_(?:sum|count) (\d+)", text(call))
    batches, recordings = sorted(map(int, counts))
    assert batches < recordings  # some were in one batch
    assert engine.is_ready()


def text(call: Client) -> str:
    return call("GET", "/metrics").text


@pytest.mark.parametrize("kind", list_formats())
def test_recognize_accepts_every_audio_format_as_form_and_body(call: Client, kind: str) -> None:
    content = encode_format(kind)
    form = call("POST", RECOGNIZE, files={"any name": (f"speech.{kind}", content)})
    raw = call.post(content)
    assert (form.status_code, raw.status_code) == (200, 200)
    assert form.json() == {**raw.json(), "source": f"speech.{kind}"}
    assert raw.json()["source"] == "upload"


def test_recognize_returns_a_recognition(call: Client) -> None:
    answer = TypeAdapter(Recognition).validate_python(call.post(SPEECH).json())
    assert answer.end == pytest.approx(1.0)
    assert set(answer.tasks) == {"emotion", "gender"}


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\Windows\\speech.wav", "speech.wav"),
        ("/", "upload"),
        ("..", "upload"),
        ("a\u202eb.wav", "ab.wav"),
        ("x" * 999, "x" * 200),
    ],
)
def test_file_names_are_sanitized(call: Client, sent: str, said: str) -> None:
    answer = call("POST", RECOGNIZE, files={"file": (sent, SPEECH)})
    assert answer.json()["source"] == said


def test_model_route_describes_the_model(call: Client) -> None:
    about = Model.model_validate(call("GET", "/v1/model").json())
    assert about.classes == {"emotion": ["anger", "neutral", "sadness"], "gender": GENDERS}
    assert (about.rate, about.window, about.max_seconds) == (16_000, 7.5, 300)
    assert about.card.startswith("# small\n")


def test_health_and_metrics_routes(service: tuple[Client, Engine]) -> None:
    call, engine = service
    assert call("GET", "/healthz").json() == {"status": "ok"}
    assert call("GET", "/readyz").json() == {"status": "ready"}
    assert 'serein_requests_total{route="/healthz",status="200"} 1.0' in text(call)
    engine.closing = True
    assert call("GET", "/readyz").status_code == 503
    engine.closing = False


def test_security_headers(call: Client) -> None:
    for answer in (call("GET", "/healthz"), call("GET", "/nothing"), call.post(b"text")):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Server" not in answer.headers
    assert "cdn.jsdelivr.net" in call("GET", "/docs").headers["Content-Security-Policy"]


def test_cors_allows_configured_origins_only(call: Client) -> None:
    asked = {"Origin": "https://page.example", "Access-Control-Request-Method": "POST"}
    assert call("OPTIONS", RECOGNIZE, headers=asked).status_code == 405
    assert "Access-Control-Allow-Origin" not in call("GET", "/v1/model", headers=asked).headers
    with open_client(origins=("https://page.example",)) as (open_call, _):
        allowed = open_call("OPTIONS", RECOGNIZE, headers=asked).headers
        assert allowed["Access-Control-Allow-Origin"] == "https://page.example"
        other = open_call("OPTIONS", RECOGNIZE, headers={**asked, "Origin": "https://evil.example"})
        assert "Access-Control-Allow-Origin" not in other.headers


def test_routes_require_a_key_if_there_are_keys(tmp_path: Path) -> None:
    key = auth.add_key(tmp_path / "keys", "ann")
    with open_client(auth.read_keys(tmp_path / "keys")) as (call, _):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {key}"}):
            for path in ("/v1/model", "/metrics", RECOGNIZE):
                method = "POST" if path == RECOGNIZE else "GET"
                answer = call(method, path, headers=headers)
                assert answer.status_code == 401
                assert answer.headers["WWW-Authenticate"] == "Bearer"
                assert key not in answer.text
        right = {"Authorization": f"Bearer {key}"}
        assert call("GET", "/v1/model", headers=right).status_code == 200
        assert call.post(SPEECH, headers=right).status_code == 200
        assert call("GET", "/healthz").status_code == 200


def test_logs_contain_no_content(tmp_path: Path) -> None:
    stream, key = StringIO(), auth.add_key(tmp_path / "keys", "ann")
    with observability.log_to(stream), open_client(auth.read_keys(tmp_path / "keys")) as (call, _):
        right = {"Authorization": f"Bearer {key}"}
        call("POST", RECOGNIZE, files={"file": ("secret.wav", SPEECH)}, headers=right)
        call("GET", "/secret", headers={"Authorization": "Bearer secret"})
    good, lost = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert (good["route"], good["status"], good["key"]) == (RECOGNIZE, 200, "ann")
    assert (good["bytes"], good["seconds"]) == (len(SPEECH), 1.0)
    assert good["ms"] > 0
    assert (lost["route"], lost["status"]) == ("none", 404)
    assert "secret" not in stream.getvalue()
    assert key not in stream.getvalue()


def test_model_without_attention_is_served() -> None:
    system = small_system("features.pad=false", "model.attention=false").eval()
    plain = Recognizer(Bundle(system, Card(name="plain")), answer_nonspeech=True)
    with open_engine([plain]) as made:
        call = Client(create_app(made, None))
        content = encode("wav", make_sweep(2.0, 16_000))
        for query in ("", "&hop=0.5&window=1"):
            answer = call("POST", f"{RECOGNIZE}?model=plain{query}", content=content)
            assert answer.status_code == 200, answer.text
            document = answer.json()
            assert (document["model"], document["attention"]) == ("plain", {})
            assert query or set(document["tasks"]) == {"emotion", "gender"}
