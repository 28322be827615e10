"""Timelines and streams of models with regression tasks, with and without classes."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from builders.speech_streams import RATE, Wave, assert_same_segments, make_speech, rating_recognizer

from serein.bundle import save
from serein.errors import ConfigError
from serein.inference import formats, streaming
from serein.inference.long_form import join_shards
from serein.inference.recognition import Recognition
from serein.inference.recognizer import Recognizer
from serein.records import Corpus

Run = Callable[..., tuple[int, str, str]]
QUICK: dict[str, Any] = {"window": 1.0, "hop": 0.25}


@pytest.fixture(scope="module")
def mixed() -> Recognizer:
    """Values before classes, so that the main task is not the first one."""
    return rating_recognizer("tasks.sex={name='gender'}")


@pytest.fixture(scope="module")
def alone() -> Recognizer:
    return rating_recognizer()


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 20.0)


@pytest.fixture(scope="module")
def answer(mixed: Recognizer, wave: Wave) -> Recognition:
    return mixed.timeline((wave, RATE), **QUICK)


@pytest.fixture(scope="module")
def numbers(alone: Recognizer, wave: Wave) -> Recognition:
    return alone.timeline((wave, RATE), **QUICK)


@pytest.mark.parametrize("how", [{}, {"smooth": 5}, {"merge": False}, {"speech": False}])
@pytest.mark.parametrize("kind", ["mixed", "alone"])
def test_timeline_equals_stream(
    kind: str, wave: Wave, how: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    recognizer: Recognizer = request.getfixturevalue(kind)
    whole = recognizer.timeline((wave, RATE), **QUICK, **how).segments
    assert whole
    stream = recognizer.stream(RATE, **QUICK, **how)
    parts = [stream.feed(wave[at : at + 5_555]) for at in range(0, len(wave), 5_555)]
    found = [one for part in parts for one in part] + stream.close()
    assert_same_segments(found, whole)
    assert all(list(one.values) == ["arousal", "valence"] for one in found)


def test_one_window_equals_the_whole_recording(alone: Recognizer, wave: Wave) -> None:
    part = wave[: 2 * RATE]
    (found,) = alone.timeline((part, RATE), window=2.0, hop=2.0, speech=False).segments or []
    assert found.values == pytest.approx(alone((part, RATE)).values, abs=1e-5)
    assert (found.start, found.end, found.tasks, found.label) == (0.0, 2.0, {}, None)


def test_segments_follow_labels_and_hold_mean_values(
    mixed: Recognizer, answer: Recognition, wave: Wave
) -> None:
    hops = mixed.timeline((wave, RATE), **QUICK, merge=False).segments or []
    assert answer.segments
    assert 0 < len(answer.segments) < len(hops)
    for segment in answer.segments:
        own = [one for one in hops if segment.start <= one.start and one.end <= segment.end]
        assert {one.label for one in own} == {segment.label}
        length = [one.end - one.start for one in own]
        for name, value in segment.values.items():
            wanted = np.average([one.values[name] for one in own], weights=length)
            assert value == pytest.approx(wanted, abs=1e-6)
    length = [one.end - one.start for one in answer.segments]
    for name, value in answer.values.items():
        values = [one.values[name] for one in answer.segments]
        assert value == pytest.approx(np.average(values, weights=length))


def test_without_classes_each_hop_is_a_segment(
    alone: Recognizer, numbers: Recognition, wave: Wave
) -> None:
    apart = alone.timeline((wave, RATE), **QUICK, merge=False).segments
    assert numbers.segments == apart
    assert numbers.segments
    assert all(one.end - one.start < 0.251 for one in numbers.segments)
    assert len({one.values["arousal"] for one in numbers.segments}) > 10
    assert (numbers.tasks, numbers.label) == ({}, None)
    assert list(numbers.values) == ["arousal", "valence"]


def test_smoothing_averages_neighbouring_hops(alone: Recognizer, wave: Wave) -> None:
    plain, smooth = (
        [one.values["valence"] for one in found.segments or []]
        for found in (
            alone.timeline((wave, RATE), **QUICK, speech=False, smooth=hops) for hops in (1, 3)
        )
    )
    assert smooth[1:-1] == pytest.approx(np.convolve(plain, np.ones(3) / 3, "valid").tolist())
    assert smooth[0] == pytest.approx(np.mean(plain[:2]))
    assert np.var(smooth) < np.var(plain)


def test_joined_shards_equal_the_timeline(mixed: Recognizer, wave: Wave) -> None:
    source = (np.concatenate([wave] * 5), RATE)
    whole = mixed.timeline(source, **QUICK)
    parts = [mixed.timeline(source, shard=(number, 3), **QUICK) for number in range(3)]
    together = join_shards(mixed, parts)
    assert_same_segments(together.segments or [], whole.segments or [])
    assert together.values == pytest.approx(whole.values, abs=1e-5)
    assert together.tasks.keys() == whole.tasks.keys() == {"sex"}


def test_feed_streams_equals_single_streams(mixed: Recognizer, wave: Wave) -> None:
    many = [mixed.stream(RATE, **QUICK) for _ in range(3)]
    fed = streaming.feed_streams(mixed, [(stream, wave) for stream in many])
    closed = streaming.feed_streams(mixed, [(stream, None) for stream in many])
    wanted = mixed.timeline((wave, RATE), **QUICK).segments or []
    for one, rest in zip(fed, closed, strict=True):
        assert isinstance(one, list)
        assert isinstance(rest, list)
        assert_same_segments(one + rest, wanted)


def test_timeline_of_silence(alone: Recognizer, mixed: Recognizer) -> None:
    for recognizer in (alone, mixed):
        silent = recognizer.timeline((np.zeros(2 * RATE, np.float32), RATE))
        assert (silent.segments, silent.tasks, silent.values) == ([], {}, {})
        assert formats.as_csv([silent]) == "file,start,end\n"
        assert formats.as_table([silent]).row_count == 1


def test_tables_have_a_column_for_each_value(answer: Recognition, numbers: Recognition) -> None:
    probabilities = ["sex", "sex_female", "sex_male"]
    ranks = [f"{rank}_sex{end}" for rank in ("first", "second") for end in ("", "_probability")]
    scaled = [f"scaled_{name}{end}" for name in ("arousal", "valence") for end in ("", "_basis")]
    for one, columns in (
        (answer, [*probabilities, "arousal", "valence", *ranks, *scaled]),
        (numbers, ["arousal", "valence", *scaled]),
    ):
        assert one.segments
        for text in (formats.as_csv([one]), formats.as_audformat([one])):
            head, *lines = list(csv.reader(io.StringIO(text)))
            assert head == ["file", "start", "end", *columns]
            index = head.index("arousal")
            assert [float(line[index]) for line in lines] == pytest.approx(
                [segment.values["arousal"] for segment in one.segments], rel=1e-5
            )
        frame = one.to_frame()
        assert list(frame.columns) == columns
        assert frame["valence"].tolist() == [segment.values["valence"] for segment in one.segments]
        document = json.loads(formats.as_json([one], {}))["recognized"][0]
        assert (
            document["values"].keys()
            == document["segments"][0]["values"].keys()
            == {"arousal", "valence"}
        )


def test_terminal_table_has_values(answer: Recognition, numbers: Recognition) -> None:
    heads = ["file", "start", "end", "sex", "next", "arousal", "valence"]
    assert [one.header for one in formats.as_table([answer]).columns] == heads
    table = formats.as_table([numbers])
    assert [one.header for one in table.columns] == [*heads[:3], *heads[5:]]
    assert numbers.segments
    assert next(iter(table.columns[3].cells)) == f"{numbers.segments[0].values['arousal']:.2f}"


def test_subtitles_have_labels_and_values(answer: Recognition, numbers: Recognition) -> None:
    assert answer.segments
    assert numbers.segments
    for one in (answer, numbers):
        cue = formats.as_vtt([one]).split("\n\n")[1].splitlines()[1]
        segment = (one.segments or [])[0]
        values = ", ".join(f"{name} {value:.2f}" for name, value in segment.values.items())
        label = f"{segment.label} " if segment.tasks else ""
        assert cue.startswith(label)
        assert cue.endswith(f"%, {values}" if label else values)


def test_rttm_needs_a_classification_task(answer: Recognition, numbers: Recognition) -> None:
    lines = formats.as_rttm([answer]).splitlines()
    assert [line.split()[7] for line in lines] == [one.label for one in answer.segments or []]
    with pytest.raises(ConfigError, match=r"\(arousal, valence\) predict numbers"):
        formats.as_rttm([numbers])


def test_recognize_command_with_values(
    alone: Recognizer, mixed: Recognizer, wave: Wave, run: Run, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "a.wav", wave[: 5 * RATE], RATE)
    save(alone.bundle, tmp_path / "alone.safetensors")
    save(mixed.bundle, tmp_path / "mixed.safetensors")
    words = ["recognize", "a.wav", "--model", "alone.safetensors", "--window", "1", "--hop", "0.5"]
    scaled = "scaled_arousal,scaled_arousal_basis,scaled_valence,scaled_valence_basis"
    head = f"file,start,end,arousal,valence,{scaled}"
    for kind, begin in (
        ("csv", f"{head}\na.wav,"),
        ("audformat", f"{head}\na.wav,0 days"),
        ("vtt", "WEBVTT\n\n00:00:0"),
    ):
        status, out, err = run(*words, "--format", kind)
        assert (status, err) == (0, "")
        assert out.startswith(begin)
    status, out, _ = run(*words)
    assert (status, out.split()[:5]) == (0, ["file", "start", "end", "arousal", "valence"])
    (document,) = json.loads(run(*words, "--format", "json")[1])["recognized"]
    wanted = alone.timeline(tmp_path / "a.wav", window=1.0, hop=0.5)
    found = [one["values"]["arousal"] for one in document["segments"]]
    assert found == pytest.approx(
        [one.values["arousal"] for one in wanted.segments or []], rel=1e-4
    )
    (tmp_path / "a.wav").write_bytes(b"")  # the format is checked before any file is read
    status, out, err = run(*words, "--format", "rttm")
    assert (status, out) == (2, "")
    assert "rttm holds labels" in err
    soundfile.write(tmp_path / "a.wav", wave[: 5 * RATE], RATE)
    status, out, _ = run(*words[:3], "mixed.safetensors", "--format", "rttm")
    assert (status, out[:10]) == (0, "SPEAKER a ")
