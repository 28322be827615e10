"""One answer for one recording: the page's document, the timeline's shares, and the headline."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from builders.encoded_audio import encode
from builders.service_client import SPEECH, Client, open_client, small_recognizer
from builders.speech_streams import assert_same_segments, make_speech
from service.test_service import is_close

from serein.bundle import save
from serein.inference.long_form import merge_hops
from serein.inference.recognition import compute_shares, describe_shares
from serein.records import Corpus

Run = Callable[..., tuple[int, str, str]]
OVERVIEW = "/page/overview?window=3&hop=0.5"
DEFAULT_OVERVIEW = "/page/overview?window=4&hop=1&smooth=1&speech=0"
"""The settings of the page, which are those of the command; the small model answers noise, too."""


@pytest.fixture(scope="module")
def call() -> Iterator[Client]:
    with open_client() as (made, _):
        yield made


@pytest.fixture(scope="module")
def spoken(corpus: Corpus) -> bytes:
    return encode("flac", make_speech(corpus, 20.0))


def post(call: Client, path: str, content: bytes) -> dict[str, Any]:
    answer = call("POST", path, files={"file": ("call.flac", content)})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_one_upload_has_all_answers_and_downloads(call: Client, spoken: bytes) -> None:
    found = post(call, OVERVIEW, spoken)
    query = "/v1/recognize?window=3&hop=0.5"
    timeline = post(call, query, spoken)
    assert is_close(found["timeline"]["tasks"], timeline["tasks"])
    assert is_close(found["timeline"]["segments"], timeline["segments"])
    assert is_close(found["timeline"]["shares"], timeline["shares"])
    assert is_close(found["hops"], post(call, f"{query}&merge=false", spoken)["segments"])
    for name in ("csv", "vtt"):
        wanted = call("POST", f"{query}&format={name}", files={"file": ("call.flac", spoken)})
        assert len(found["files"][name].splitlines()) == len(wanted.text.splitlines())


def test_long_recording_has_one_answer(
    call: Client, spoken: bytes, run: Run, tmp_path: Path
) -> None:
    found, answer = post(call, DEFAULT_OVERVIEW, spoken), post(call, "/v1/recognize", spoken)
    assert is_close(found["whole"], answer)
    assert is_close(found["timeline"], {**answer, "attention": {}})
    save(small_recognizer().bundle, tmp_path / "small.safetensors")
    (tmp_path / "call.flac").write_bytes(spoken)
    # The model was saved without the setting that takes noise for speech.
    command = ["recognize", "call.flac", "--model", "small.safetensors", "--answer-nonspeech"]
    _, out, _ = run(*command, "--format", "json")
    assert is_close({**json.loads(out)["recognized"][0]}, answer)
    for more in ([], ["--window", "4"]):
        _, out, _ = run(*command, *more)
        assert f"call.flac: {describe_shares(answer['shares']['emotion'])}" in out
    segments = answer["segments"]
    shares = sum(
        one["end"] - one["start"]
        for one in segments
        if one["tasks"]["emotion"]["label"] == answer["tasks"]["emotion"]["label"]
    ) / sum(one["end"] - one["start"] for one in segments)
    label = answer["tasks"]["emotion"]["label"]
    assert label == "mixed" or shares >= 0.5
    assert found["headlines"]["emotion"].startswith(f"{label}: ")


def test_short_recording_has_one_answer(call: Client) -> None:
    found, answer = post(call, OVERVIEW, SPEECH), post(call, "/v1/recognize", SPEECH)
    assert found["headlines"] == {}
    assert is_close(found["whole"], answer)
    assert is_close(found["timeline"]["tasks"], answer["tasks"])
    assert answer["segments"] is None


def test_merged_hops_are_the_segments(corpus: Corpus) -> None:
    recognizer, source = small_recognizer(), (make_speech(corpus, 20.0), 16_000)
    whole = recognizer.timeline(source, hop=0.5)
    merged = merge_hops(recognizer, recognizer.timeline(source, hop=0.5, merge=False))
    assert_same_segments(merged.segments or [], whole.segments or [])
    assert sum(whole.shares["emotion"].values()) == pytest.approx(1.0)
    assert compute_shares([]) == {}
    assert recognizer((source[0][: 4 * 16_000], 16_000)).shares == {}
