"""Long recordings: channels, parts, invalid input, and output formats."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from builders.speech_streams import (
    RATE,
    Wave,
    assert_same_segments,
    make_speech,
    untrained_recognizer,
)

from serein.audio import Source
from serein.bundle import Bundle, Card, save
from serein.corpora import audformat
from serein.errors import AudioError, ConfigError
from serein.features.logmel import Config, FrontEnd
from serein.inference import formats
from serein.inference.backend import Window
from serein.inference.long_form import answer_by_timeline, join_segments, recognize_long
from serein.inference.recognition import Answer, Recognition, Segment
from serein.inference.recognizer import Recognizer
from serein.inference.torch_backend import predict_windows
from serein.inference.windowing import SampleBuffer
from serein.records import Corpus

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def recognizer() -> Recognizer:
    return untrained_recognizer()


@pytest.fixture(scope="module")
def wave(corpus: Corpus) -> Wave:
    return make_speech(corpus, 12.0)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, wave: Wave) -> Path:
    """A stereo file: speech in the left channel, and two seconds later in the right one."""
    path = tmp_path_factory.mktemp("calls") / "a call.flac"
    late = np.concatenate([np.zeros(2 * RATE, np.float32), wave[: -2 * RATE]])
    soundfile.write(path, np.stack([wave, late], axis=1), RATE)
    return path


@pytest.fixture(scope="module")
def answer(recognizer: Recognizer, file: Path) -> Recognition:
    return recognizer.timeline(file, window=1.0, hop=0.5)


def recognize_silence(recognizer: Recognizer) -> Recognition:
    return recognizer.timeline((np.zeros(2 * RATE, np.float32), RATE))


def test_channels_are_recognized_separately(recognizer: Recognizer, file: Path, wave: Wave) -> None:
    left, right = (recognizer.timeline(file, channel=channel) for channel in (1, 2))
    alone = recognizer.timeline((soundfile.read(file, dtype="float32")[0][:, 0], RATE))
    assert left.segments
    assert right.segments
    assert_same_segments(left.segments, alone.segments or [])
    assert (left.channel, right.channel, alone.channel) == (1, 2, None)
    assert right.segments[0].start == pytest.approx(left.segments[0].start + 2, abs=0.04)


def test_part_equals_the_cut_recording(recognizer: Recognizer, wave: Wave) -> None:
    part = recognizer.timeline((wave, RATE), start=3.0, end=9.0)
    alone = recognizer.timeline((wave[3 * RATE : 9 * RATE], RATE))
    assert (part.start, part.end) == (3.0, 9.0)
    assert part.segments
    moved = [replace(one, start=one.start + 3, end=one.end + 3) for one in alone.segments or []]
    assert_same_segments(part.segments, moved)


def test_answer_is_the_mean_of_segments_weighted_by_length(answer: Recognition) -> None:
    assert answer.segments
    length = [one.end - one.start for one in answer.segments]
    for name, found in answer.tasks["emotion"].probabilities.items():
        values = [one.tasks["emotion"].probabilities[name] for one in answer.segments]
        assert found == pytest.approx(np.average(values, weights=length))
    assert all(end - start < 1.001 for start, end in answer.windows)


def test_timeline_of_silence(recognizer: Recognizer) -> None:
    answer = recognize_silence(recognizer)
    assert (answer.segments, answer.tasks, answer.label, answer.windows) == ([], {}, None, [])
    assert answer.end == 2.0
    assert formats.as_csv([answer]) == "file,start,end\n"
    assert formats.as_rttm([answer]) == ""
    assert formats.as_vtt([answer]) == "WEBVTT\n"
    assert json.loads(formats.as_json([answer], {}))["recognized"][0]["segments"] == []
    assert formats.as_table([answer]).row_count == 1
    assert len(answer.to_frame()) == 0


def test_withheld_labels_in_all_formats(file: Path) -> None:
    listening = untrained_recognizer()
    unsure = Recognizer(listening.bundle, confidence=1.0).timeline(file)
    assert unsure.segments
    assert {one.label for one in unsure.segments} == {None}
    assert unsure.label is None
    assert " unsure " in formats.as_rttm([unsure])
    assert "\nunsure\n" in formats.as_vtt([unsure])
    assert next(csv.DictReader(io.StringIO(formats.as_csv([unsure]))))["emotion"] == ""


def test_recordings_that_cannot_be_read(recognizer: Recognizer, file: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.flac"
    broken.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    bad = np.zeros(RATE, np.float32)
    bad[-1] = np.nan
    cases: dict[str, Source] = {
        "is truncated": broken,
        "does not exist": tmp_path / "no.wav",
        "is empty": b"",
        "has 10 ms of audio": (np.zeros(160, np.float32), RATE),
        "are NaN": (bad, RATE),
    }
    for words, source in cases.items():
        with pytest.raises(AudioError, match=words):
            recognizer.timeline(source)
    with pytest.raises(AudioError, match=r"channel 3 of .* expected 1 to 2"):
        recognizer.timeline(file, channel=3)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"shard": (3, 3)}, "shard 3 of 3; expected 0 to 2"),
        ({"shard": (0, 2), "speech": False}, "switch speech detection on"),
        ({"hop": 9.0}, "leaves gaps"),
    ],
)
def test_invalid_settings(
    recognizer: Recognizer, file: Path, how: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        recognizer.timeline(file, **how)


def test_to_frame_has_a_row_per_segment(answer: Recognition) -> None:
    frame = answer.to_frame()
    assert answer.segments
    assert frame.index.names == ["file", "start", "end"]
    assert len(frame) == len(answer.segments)
    assert frame.index.get_level_values("start")[0] == pd.Timedelta(
        answer.segments[0].start, unit="s"
    )
    assert list(frame["emotion"]) == [one.label for one in answer.segments]
    columns = [column for column in frame if str(column).startswith("emotion_")]
    assert frame[columns].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)


def test_to_frame_of_a_whole_recording_has_one_row(recognizer: Recognizer, file: Path) -> None:
    frame = recognizer(file).to_frame()
    assert frame.index.tolist() == [(str(file), pd.Timedelta(0), pd.Timedelta(12, unit="s"))]


def test_long_recording_is_answered_by_its_timeline(
    recognizer: Recognizer, file: Path, wave: Wave
) -> None:
    line, found = recognizer.timeline((wave, RATE)), recognizer((wave, RATE))
    assert_same_segments(found.segments or [], line.segments or [])
    assert (found.shares, found.label, found.values) == (line.shares, line.label, line.values)
    for task, shares in found.shares.items():
        first, share = next(iter(shares.items()))
        assert found.tasks[task].label == (first if share >= 0.5 else "mixed")
    assert found.attention
    assert len(formats.as_csv([found]).splitlines()) == 2
    assert formats.as_table([found]).row_count == 1
    part, alone = recognizer((wave, RATE), start=2.0), recognizer((wave[2 * RATE :], RATE))
    assert (part.start, part.end, part.label) == (2.0, 12.0, alone.label)
    moved = [replace(one, start=one.start + 2, end=one.end + 2) for one in alone.segments or []]
    assert_same_segments(part.segments or [], moved)
    read = recognize_long(recognizer, file, "a call", lambda: None)
    assert (read.source, read.is_timeline) == ("a call", False)
    assert read.headlines == recognizer(file).headlines
    short = recognizer((wave[: 7 * RATE], RATE))
    assert (short.segments, short.shares, short.headlines) == (None, {}, {})


@pytest.mark.parametrize(
    ("lengths", "label"),
    [
        ({"anger": 4.0, "sadness": 2.0}, "anger"),
        ({"anger": 4.0, "sadness": 3.0, "neutral": 3.0}, "mixed"),
        ({None: 4.0, "sadness": 2.0}, None),
    ],
)
def test_labels_of_a_timeline_follow_its_shares(
    recognizer: Recognizer, lengths: dict[str | None, float], label: str | None
) -> None:
    segments, end = [], 0.0
    for name, length in lengths.items():
        p = dict.fromkeys(recognizer.classes["emotion"], 0.1) | {name or "anger": 0.6}
        tasks = {
            "emotion": Answer(label=name, confidence=0.6, probabilities=p),
            "gender": Answer(
                label="male", confidence=0.9, probabilities={"female": 0.1, "male": 0.9}
            ),
        }
        segments.append(Segment(start=end, end=end + length, tasks=tasks))
        end += length
    timeline = join_segments(recognizer, "call", segments, end)
    found = answer_by_timeline(timeline, None)
    assert (timeline.label, found.label, found.tasks["gender"].label) == (label, label, "male")
    answer = found.tasks["emotion"]
    top = (
        answer.probabilities[label] if label in answer.probabilities else answer.top[0].probability
    )
    assert answer.confidence == top
    assert (label or "unsure") in found.headlines["emotion"]
    table = formats.as_table([found])
    (cell,) = table.columns[2].cells
    assert str(cell).startswith("mixed" if label == "mixed" else f"{label or 'unsure'} 67% of")
    tasks = json.loads(formats.as_label_studio([found]))[0]["predictions"][0]["result"]
    assert [one["value"] for one in tasks if one["from_name"] == "emotion"] == (
        [{"choices": [label]}] if label == "anger" else []
    )
    assert found.headlines["emotion"] in found._repr_html_()


def test_to_frame_without_pandas(answer: Recognition, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        answer.to_frame()


def test_audformat_round_trip(answer: Recognition, tmp_path: Path) -> None:
    text = formats.as_audformat([answer])
    (tmp_path / "db.yaml").write_text(
        "name: it\nusage: research\nlanguages: [deu]\nsource: here\nschemes: {}\n"
        "tables: {segments: {type: segmented, columns: {emotion: {}}}}\n"
    )
    (tmp_path / "db.segments.csv").write_text(text)
    read = audformat.read(tmp_path)
    assert answer.segments
    assert [u.start for u in read] == pytest.approx([s.start for s in answer.segments], abs=1e-3)
    assert [u.label("emotion") for u in read] == [s.label for s in answer.segments]


def test_audformat_times_have_days_and_hours() -> None:
    assert formats._format_timedelta(90_061.5) == "1 days 01:01:01.500"
    assert formats._format_clock(90_061_500) == "25:01:01.500"


def test_rttm_has_ten_fields(answer: Recognition) -> None:
    lines = formats.as_rttm([answer]).splitlines()
    assert answer.segments
    assert len(lines) == len(answer.segments)
    fields = lines[0].split(" ")
    assert fields[:3] == ["SPEAKER", "a_call", "1"]
    assert float(fields[3]) == pytest.approx(answer.segments[0].start, abs=1e-3)
    assert (len(fields), fields[7]) == (10, answer.segments[0].label)
    other = replace(answer, source="other/a call.wav")
    assert formats.as_rttm([answer, other]).splitlines()[-1].split()[1] == "other/a_call.wav"


def test_subtitles_are_in_order(recognizer: Recognizer, file: Path) -> None:
    both = [recognizer.timeline(file, channel=channel) for channel in (1, 2)]
    cues = formats.as_vtt(both).split("\n\n")
    assert cues[0] == "WEBVTT"
    times = [cue.split(" --> ")[0] for cue in cues[1:]]
    assert times == sorted(times)
    assert "<v channel 2>" in formats.as_vtt(both)
    with pytest.raises(ConfigError, match="of one recording; found 2"):
        formats.as_vtt([both[0], replace(both[1], source="other.wav")])


def test_recognize_command_with_formats(
    run: Run, file: Path, recognizer: Recognizer, tmp_path: Path
) -> None:
    model = tmp_path / "small.safetensors"
    save(Bundle(recognizer.system, Card()), model)
    words = ["recognize", file, "--model", model]
    _, out, _ = run(*words, "--format", "json", "--window", "1", "--hop", "0.5")
    document = json.loads(out)["recognized"][0]
    wanted = recognizer.timeline(file, window=1.0, hop=0.5).segments
    assert wanted
    assert [one["start"] for one in document["segments"]] == [one.start for one in wanted]
    _, out, _ = run(*words, "--channels", "each", "--format", "csv")
    assert {row["channel"] for row in csv.DictReader(io.StringIO(out))} == {"1", "2"}
    _, out, _ = run(*words, "--no-speech", "--format", "json")
    assert json.loads(out)["recognized"][0]["segments"][0]["start"] == 0
    for kind, begin in (("rttm", "SPEAKER a_call 1"), ("vtt", "WEBVTT"), ("audformat", "file,")):
        status, out, _ = run(*words, "--format", kind)
        assert (status, out.startswith(begin)) == (0, True)
    status, out, _ = run(*words, "--smooth", "3")
    assert (status, "start" in out) == (0, True)
    status, _, err = run(*words, "--channels", "left")
    assert (status, "Known: each, mix" in err) == (2, True)
    status, _, err = run(*words, "--hop", "9")
    assert (status, "leaves gaps" in err) == (2, True)


@pytest.mark.parametrize(
    "config",
    [
        Config(),
        Config(window=400, hop=160, bands=40, seconds=None),
        Config(window=401, hop=300, bands=32, deltas=1),
        Config(window=512, hop=512, bands=32, deltas=0),
    ],
)
def test_overlapping_windows_equal_single_windows(config: Config) -> None:
    torch.manual_seed(0)
    front_end, wave_s = FrontEnd(config), 0.1 * torch.randn(8 * RATE)
    start_b = config.hop * torch.tensor([0, 3, 40, 77, 60])
    length_b = torch.tensor([4 * RATE, 30_001, 400, 1234, 16_384])
    x_btf, mask_bt = front_end.overlapping(wave_s, start_b, length_b)
    for x_tf, mask_t, start, length in zip(x_btf, mask_bt, start_b, length_b, strict=True):
        alone_btf, _ = front_end(wave_s[start : start + length][None], length[None])
        torch.testing.assert_close(x_tf[mask_t], alone_btf[0], rtol=0, atol=1e-5)
        assert not x_tf[~mask_t].any()


@pytest.mark.parametrize("settings", [(), ("features.pad=true",)])
def test_predict_windows_with_any_front_end(settings: tuple[str, ...], wave: Wave) -> None:
    recognizer, buffer = untrained_recognizer(*settings), SampleBuffer()
    buffer.append(wave)
    windows = [Window(buffer, 400 * start, 400 * start + 8000) for start in (0, 7, 200)]
    found = predict_windows(recognizer.system, windows)
    for row_k, (_, start, end) in zip(found, windows, strict=True):
        alone = recognizer((wave[start:end], RATE)).tasks
        wanted = [p for task in alone.values() for p in task.probabilities.values()]
        assert row_k == pytest.approx(wanted, abs=1e-5)
