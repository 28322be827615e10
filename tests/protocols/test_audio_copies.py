"""Copies of recordings, found by their samples."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders.protocols import make_utterance, split_by_settings

from serein.corpora import hash_contents
from serein.errors import ProtocolError
from serein.protocols import (
    SILENCE,
    find_leaks,
    hash_audio,
    hash_audio_excerpts,
    raise_on_leaks,
)
from serein.records import Utterance


@pytest.fixture
def recordings(tmp_path: Path) -> dict[str, Utterance]:
    """Return one recording in several files, and recordings that nearly equal it."""
    noise = np.random.default_rng(0).integers(-9000, 9000, 40_000).astype(np.int16)
    late, longer = noise.copy(), np.append(noise, np.int16(5))
    late[-1] += 1
    soundfile.write(tmp_path / "one.wav", noise, 16_000)
    soundfile.write(tmp_path / "flac.flac", noise, 16_000)
    soundfile.write(tmp_path / "float.wav", noise / 32768, 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "late.wav", late, 16_000)
    soundfile.write(tmp_path / "longer.wav", longer, 16_000)
    soundfile.write(tmp_path / "slow.wav", noise, 8_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([noise, noise], 1), 16_000)
    (tmp_path / "text.wav").write_text("no audio")
    made_ = {
        file.stem: replace(make_utterance(file.stem, 0), path=file) for file in tmp_path.iterdir()
    }
    made_["part"] = replace(make_utterance("part", 0), path=tmp_path / "longer.wav", end=2.5)
    made_["gone"] = replace(make_utterance("gone", 0), path=tmp_path / "gone.wav")
    return made_


def test_hash_audio_is_equal_for_equal_samples_in_any_format(
    recordings: dict[str, Utterance],
) -> None:
    marks = hash_audio(recordings.values())
    same = {id_ for id_, mark in marks.items() if mark == marks["one-0"]}
    assert same == {"one-0", "flac-0", "float-0", "part-0"}
    assert len({mark for id_, mark in marks.items() if id_ not in same}) == len(marks) - len(same)
    assert set(recordings) - {id_[:-2] for id_ in marks} == {"text", "gone"}
    assert marks == hash_audio([*recordings.values()][::-1])


def test_copy_in_another_format_is_a_leak(recordings: dict[str, Utterance]) -> None:
    utterances = [recordings[name] for name in ("one", "flac", "late", "text")]
    protocol = split_by_settings(utterances, "leave-one-speaker-out", validation="none")
    by_bytes = {
        one.kind: one for one in find_leaks(protocol, utterances, hash_contents(utterances))
    }
    assert by_bytes["duplicate"].verdict == "clean"
    by_samples = find_leaks(
        protocol, utterances, hash_contents(utterances), audio_hashes=hash_audio(utterances)
    )
    with pytest.raises(
        ProtocolError, match=r"duplicate: .*2 utterances.*flac-0 \(test\) and one-0 \(train\)"
    ):
        raise_on_leaks(by_samples)


def test_digital_silence_is_no_copy(tmp_path: Path) -> None:
    silence, noise = np.zeros(8000, np.int16), np.arange(500, dtype=np.int16)
    pause = [np.concatenate([own, silence, own]) for own in (noise, noise + 1)]
    waves = {"a": silence, "b": silence, "c": pause[0], "d": pause[1]}
    for name, wave in waves.items():
        soundfile.write(tmp_path / f"{name}.wav", wave, 16_000)
    utterances = [replace(make_utterance(n, 0), path=tmp_path / f"{n}.wav") for n in waves]
    hashes, samples = hash_contents(utterances), hash_audio(utterances)
    assert hashes["a-0"] == hashes["b-0"]
    assert len({*samples.values()}) == 4
    excerpts = hash_audio_excerpts(utterances)
    assert excerpts["a-0"] == excerpts["b-0"] == SILENCE
    assert excerpts["c-0"] != excerpts["d-0"]  # the middle of both is silent
    protocol = split_by_settings(utterances, "leave-one-speaker-out", validation="none")
    found = find_leaks(protocol, utterances, hashes, audio_hashes=samples)
    assert {one.kind: one.verdict for one in found}["duplicate"] == "clean"
