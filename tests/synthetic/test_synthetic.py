from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from builders.corpus_layouts import (
    write_audformat,
    write_cremad,
    write_emodb,
    write_librispeech,
    write_ravdess,
    write_savee,
)

from serein.errors import ConfigError, StorageError, UnknownName
from serein.records import Utterance
from serein.synthetic import (
    EMOTION_STYLES,
    LEXICON,
    RATE,
    SOUNDS,
    SyntheticConfig,
    Voice,
    generate,
    synthesize,
)
from serein.synthetic.iemocap import write_small_iemocap

Samples = npt.NDArray[np.floating[Any]]
PLAIN = Voice(pitch=110, formant_factor=1, loudness=0, rate=1, emotion_factor=1)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return generate(
        tmp_path_factory.mktemp("corpus"), SyntheticConfig(speakers=6, words=4, sentences=2)
    )


def select_samples(utterances: list[Utterance], **attributes: str) -> list[Samples]:
    chosen = [one for one in utterances if all(one.label(n) == v for n, v in attributes.items())]
    assert chosen
    return [soundfile.read(one.path)[0] for one in chosen]


def level(samples: Samples) -> float:
    """Return the level in decibels relative to full scale."""
    return float(10 * np.log10(np.mean(samples**2)))


def pitch(samples: Samples) -> float:
    """Return the median pitch in Hz: the autocorrelation's peak, 70 to 400 Hz, of loud frames."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, 640)[::320]
    loud = frames[np.mean(frames**2, axis=1) > 0.3 * np.mean(samples**2)]
    power = np.abs(np.fft.rfft(loud * np.hanning(640), 2048)) ** 2
    lags = np.fft.irfft(power)[:, RATE // 400 : RATE // 70]
    return float(np.median(RATE / (lags.argmax(axis=1) + RATE // 400)))


def brightness(samples: Samples) -> float:
    """Return the level of 1 to 5 kHz relative to that below 1 kHz, in decibels."""
    power = np.abs(np.fft.rfft(samples)) ** 2
    hertz = np.fft.rfftfreq(len(samples), 1 / RATE)
    high = power[(hertz >= 1000) & (hertz < 5000)].sum()
    return float(10 * np.log10(high / power[hertz < 1000].sum()))


def mean(measure: Any, utterances: list[Utterance], **attributes: str) -> float:
    return float(
        np.mean([measure(samples) for samples in select_samples(utterances, **attributes)])
    )


def test_small_corpus_has_every_speaker_and_emotion(tmp_path: Path) -> None:
    settings = SyntheticConfig(speakers=4, emotions=("anger", "sadness", "neutral"), sentences=2)
    utterances = generate(tmp_path, settings)
    assert len(utterances) == 24
    assert {one.speaker: one.gender for one in utterances} == {
        "s01": "female",
        "s02": "male",
        "s03": "female",
        "s04": "male",
    }
    assert {one.session for one in utterances} == {"01", "02"}
    assert [one.id for one in utterances] == sorted({one.id for one in utterances})


def test_every_file_is_audible_mono_16_khz_and_within_bounds(corpus: list[Utterance]) -> None:
    assert len(corpus) == 6 * 7 * 2
    for one in corpus:
        info = soundfile.info(one.path)
        assert (info.samplerate, info.channels, info.subtype) == (16_000, 1, "PCM_16")
        samples, _ = soundfile.read(one.path)
        assert np.isfinite(samples).all()
        assert 0.05 <= np.abs(samples).max() <= 0.99
        assert 0.5 < info.duration < 8


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    settings = SyntheticConfig(
        speakers=2, emotions=("fear", "boredom"), sentences=1, takes=2, seed=3
    )
    first, second = generate(tmp_path / "a", settings), generate(tmp_path / "b", settings)
    assert len(first) == 8
    assert [one.path.read_bytes() for one in first] == [one.path.read_bytes() for one in second]
    assert len({one.path.read_bytes() for one in first}) == 8
    tables = [(tmp_path / side / "labels.csv").read_bytes() for side in "ab"]
    assert tables[0] == tables[1]


def test_an_utterance_does_not_depend_on_the_others(tmp_path: Path) -> None:
    few = generate(tmp_path / "few", SyntheticConfig(speakers=1, emotions=("fear",), sentences=1))
    many = generate(
        tmp_path / "many", SyntheticConfig(speakers=3, emotions=("anger", "fear"), takes=2)
    )
    same = [one for one in many if one.id == few[0].id]
    assert len(same) == 1
    assert same[0].text == few[0].text
    assert same[0].path.read_bytes() == few[0].path.read_bytes()


def test_another_seed_gives_other_voices_and_sentences(tmp_path: Path) -> None:
    one = generate(tmp_path / "0", SyntheticConfig(speakers=1, emotions=("fear",)))
    other = generate(tmp_path / "1", SyntheticConfig(speakers=1, emotions=("fear",), seed=1))
    assert [x.id for x in one] == [x.id for x in other]
    assert [x.text for x in one] != [x.text for x in other]
    assert Voice.for_speaker("s01", "male") != Voice.for_speaker("s01", "male", seed=1)


def test_emotions_move_pitch_level_tempo_and_timbre(corpus: list[Utterance]) -> None:
    def length(samples: Samples) -> float:
        return len(samples)

    assert mean(pitch, corpus, emotion="anger") > 1.15 * mean(pitch, corpus, emotion="sadness")
    assert mean(pitch, corpus, emotion="fear") > 1.15 * mean(pitch, corpus, emotion="neutral")
    assert mean(level, corpus, emotion="anger") > mean(level, corpus, emotion="sadness") + 5
    assert mean(length, corpus, emotion="boredom") > 1.2 * mean(length, corpus, emotion="fear")
    assert mean(brightness, corpus, emotion="anger") > mean(brightness, corpus, emotion="sadness")


def test_women_speak_higher_than_men(corpus: list[Utterance]) -> None:
    neutral = {gender: mean(pitch, corpus, gender=gender) for gender in ("female", "male")}
    assert neutral["female"] > 1.4 * neutral["male"]


def test_random_variation_makes_the_emotions_overlap(corpus: list[Utterance]) -> None:
    speakers = sorted({one.speaker for one in corpus if one.speaker})
    angry = [level(x) for s in speakers for x in select_samples(corpus, speaker=s, emotion="anger")]
    happy = [
        level(x) for s in speakers for x in select_samples(corpus, speaker=s, emotion="happiness")
    ]
    assert min(angry) < max(happy)
    assert np.mean(angry) > np.mean(happy)


@pytest.mark.parametrize("vowel", "aeiou")
def test_vowels_have_their_formants(vowel: str) -> None:
    samples = synthesize([vowel * 4], PLAIN, "neutral", np.random.default_rng(0))
    frames = np.lib.stride_tricks.sliding_window_view(samples[2500:6000], 320)[::80]
    power = (np.abs(np.fft.rfft(frames * np.hanning(320), 4096)) ** 2).sum(axis=0)
    hertz = np.fft.rfftfreq(4096, 1 / RATE)
    sound = SOUNDS[vowel][0]
    for formant in (sound.f1, sound.f2, sound.f3):
        near = power[np.abs(hertz - formant) < 60].max()
        beside = power[np.abs(np.abs(hertz - formant) - 220) < 30].min()
        assert near > 2 * beside


def test_words_are_separated_by_silence() -> None:
    samples = synthesize(["mola", "neru", "lumi"], PLAIN, "neutral", np.random.default_rng(0))
    frames = samples[: len(samples) // 160 * 160].reshape(-1, 160)
    silent = np.abs(frames).max(axis=1) < 0.002
    edges = np.flatnonzero(np.diff(silent.astype(int)) == 1)
    assert silent[0]
    assert silent[-1]
    assert len(edges) == 3


def test_hiss_is_high_and_vowels_are_low() -> None:
    hiss = synthesize(["ssss"], PLAIN, "neutral", np.random.default_rng(0))
    vowel = synthesize(["uuuu"], PLAIN, "neutral", np.random.default_rng(0))
    assert brightness(hiss[2000:-2000]) > 0 > brightness(vowel)


def test_every_word_can_be_synthesized_in_every_style() -> None:
    assert len(LEXICON) == len(set(LEXICON)) == 24
    for emotion in EMOTION_STYLES:
        samples = synthesize(LEXICON, PLAIN, emotion, np.random.default_rng(1))
        assert samples.dtype == np.float32
        assert np.isfinite(samples).all()
        assert 0.05 <= np.abs(samples).max() <= 0.99


def test_unknown_letters_and_emotions_are_errors() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UnknownName, match="unknown emotion 'angry'; did you mean 'anger'"):
        synthesize(["mola"], PLAIN, "angry", rng)
    for words in ([], ["Käse"], ["mola", ""]):
        with pytest.raises(ConfigError, match="cannot synthesize"):
            synthesize(words, PLAIN, "anger", rng)


def test_config_is_checked() -> None:
    with pytest.raises(ConfigError, match="speakers is 0; expected 1 or more"):
        SyntheticConfig(speakers=0)
    with pytest.raises(ConfigError, match="no emotions"):
        SyntheticConfig(emotions=())
    with pytest.raises(UnknownName, match="joy"):
        SyntheticConfig(emotions=("joy",))


def test_incomplete_folder_has_no_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = SyntheticConfig(speakers=1, emotions=("anger", "fear"), sentences=1)
    generate(tmp_path, settings)
    assert (tmp_path / "labels.csv").exists()

    def full(path: Path, *_: object, **__: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(StorageError, match=r"could not write .*anger-01-1\.wav: no space left"):
            generate(tmp_path, settings)
    assert not (tmp_path / "labels.csv").exists()


def test_other_table_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("file,emotion\n")
    with pytest.raises(StorageError, match="not from this generator"):
        generate(tmp_path, SyntheticConfig(speakers=1))
    assert (tmp_path / "labels.csv").read_text() == "file,emotion\n"


def bytes_of(folder: Path) -> dict[str, bytes]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


LAYOUTS: dict[str, Callable[..., None]] = {
    "emodb": partial(write_emodb, utterances=5, words=1),
    "ravdess": partial(write_ravdess, actors=1),
    "librispeech": partial(write_librispeech, words=1),
    "audformat": partial(write_audformat, speakers=2, words=1),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_layout_is_the_same_bytes_for_the_same_seed(tmp_path: Path, layout: str) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        LAYOUTS[layout](tmp_path / name, seed=seed)
    first, same, other = (bytes_of(tmp_path / name) for name in "abc")
    assert first == same
    assert first.keys() == other.keys()
    assert first != other


@pytest.mark.parametrize("utterances", [1, 37, 70])
def test_small_emodb_has_the_requested_number_of_utterances(
    tmp_path: Path, utterances: int
) -> None:
    write_emodb(tmp_path, utterances=utterances, words=1)
    assert len(list((tmp_path / "wav").glob("*.wav"))) == utterances
    if utterances == 70:
        speakers = [file.name[:2] for file in (tmp_path / "wav").iterdir()]
        assert all(speakers.count(speaker) == 7 for speaker in speakers)


SILENT: dict[str, tuple[Callable[..., None], dict[str, Any]]] = {
    "emodb": (write_emodb, {"utterances": 7}),
    "iemocap": (write_small_iemocap, {"utterances": 20, "dialogues": 2}),
    "savee": (write_savee, {"utterances": 8}),
    "savee, flat": (write_savee, {"utterances": 8, "flat": True}),
    "cremad": (write_cremad, {"speakers": 2, "takes": 1}),
}


@pytest.mark.parametrize("name", SILENT)
def test_every_recording_depends_on_the_seed(tmp_path: Path, name: str) -> None:
    write, settings = SILENT[name]
    for folder, seed in (("a", 3), ("b", 3), ("c", 4)):
        write(tmp_path / folder, words=1, seed=seed, **settings)
    first, second, other = (bytes_of(tmp_path / folder) for folder in "abc")
    assert first == second
    assert list(first) == list(other)
    heard = [file for file in first if file.endswith(".wav") and "._" not in file]
    assert all(first[file] != other[file] for file in heard)
    assert len({first[file] for file in heard}) == len(heard)


@pytest.mark.parametrize("name", SILENT)
def test_a_layout_without_words_is_silent(tmp_path: Path, name: str) -> None:
    write, settings = SILENT[name]
    write(tmp_path, words=0, **settings)
    heard = [file for file in tmp_path.rglob("*.wav") if not file.name.startswith(".")]
    assert heard
    for file in heard:
        samples, rate = soundfile.read(file)
        assert (len(samples), rate) == (160, RATE)
        assert not samples.any()


@pytest.mark.parametrize("name", SILENT)
def test_a_layout_that_cannot_be_written_is_an_error(tmp_path: Path, name: str) -> None:
    write, settings = SILENT[name]
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="could not write"):
        write(tmp_path / "file", words=0, **settings)
