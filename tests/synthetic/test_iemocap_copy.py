"""The generated copy of IEMOCAP at full size, against counts of the real labels."""

import re
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serein import audio, corpora, protocols
from serein.errors import AudioError, StorageError
from serein.synthetic.iemocap import (
    IemocapTurn,
    plan_iemocap,
    write_iemocap,
    write_small_iemocap,
)

Run = Callable[..., tuple[int, str, str]]

FOUR_CLASSES = ("ang", "hap", "exc", "neu", "sad")
CODES = (*FOUR_CLASSES, "fru", "fea", "sur", "dis", "oth", "xxx")
SESSIONS = {
    "1": (28, 229, 135, 143, 384, 194, 280, 12, 25, 1, 1, 415),
    "2": (30, 137, 117, 210, 362, 197, 325, 9, 17, 0, 1, 436),
    "3": (32, 240, 135, 151, 320, 305, 382, 2, 28, 1, 0, 572),
    "4": (30, 327, 65, 238, 258, 143, 481, 7, 19, 0, 1, 564),
    "5": (31, 170, 143, 299, 384, 245, 381, 10, 18, 0, 0, 520),
}
"""Dialogues, and utterances of each code, as counted in the labels of IEMOCAP."""
IMPROVISED = {"ang": 289, "hap": 284, "exc": 663, "neu": 1099, "sad": 608}
LEVELS = {"valence": (3223, 4869, 1947), "arousal": (1112, 7235, 1692)} | {
    "dominance": (1041, 6484, 2514)
}
OFF_SCALE = [
    *(("3", "impro07", turn, "valence", 5.5) for turn in ("M003", "M010", "M013", "M021")),
    ("1", "script03_1", "F026", "dominance", 0.5),
    ("2", "script02_2", "F046", "dominance", 0.5),
    ("4", "script03_2", "M009", "dominance", 0.5),
]
NAME_PATTERN = re.compile(
    r"Ses0[1-5][FM]_(impro|script)0\d[ab]?(_\d[ab]?)?_[FM][X0-9]\d\d"  # of the official ids
)


@pytest.fixture(scope="module", params=[0, 1])
def turns(request: pytest.FixtureRequest) -> list[IemocapTurn]:
    return plan_iemocap(request.param)


def seconds(turn: IemocapTurn) -> float:
    return round((turn.end - turn.start) * 16_000) / 16_000


def test_counts_of_sessions_and_codes_are_the_official_ones(turns: list[IemocapTurn]) -> None:
    assert len({turn.name for turn in turns}) == len(turns) == 10_039
    for session, (dialogues, *counts) in SESSIONS.items():
        members = [turn for turn in turns if turn.dialogue[4] == session]
        assert len({turn.dialogue for turn in members}) == dialogues
        found = Counter(turn.code for turn in members)
        assert [found[code] for code in CODES] == counts
    assert all(NAME_PATTERN.fullmatch(turn.name) for turn in turns)


def test_styles_and_speakers_have_the_official_counts(turns: list[IemocapTurn]) -> None:
    improvised = Counter(turn.code for turn in turns if "_impro" in turn.dialogue)
    assert improvised.total() == 4784
    assert {code: improvised[code] for code in FOUR_CLASSES} == IMPROVISED
    four = [turn for turn in turns if turn.code in FOUR_CLASSES]
    assert sum(turn.letter != turn.dialogue[5] for turn in four) == 2750


def test_durations_have_the_official_range_and_sums(turns: list[IemocapTurn]) -> None:
    four = [turn for turn in turns if turn.code in FOUR_CLASSES]
    durations = np.array([seconds(turn) for turn in turns])
    assert durations.min() == 0.585
    assert durations.max() == 34.14
    assert np.median(durations) == pytest.approx(3.52, abs=0.02)
    assert durations.sum() / 3600 == pytest.approx(12.44, abs=0.005)
    assert sum(map(seconds, four)) / 3600 == pytest.approx(6.99, abs=0.005)
    long = [turn for turn in four if seconds(turn) > 20]
    assert [sum(turn.dialogue[4] == n for turn in long) for n in "12345"] == [5, 2, 0, 3, 6]
    plain = [turn for turn in long if "_impro" in turn.dialogue and turn.code != "exc"]
    assert len(plain) == 6
    kept = Counter(turn.code for turn in four if seconds(turn) <= 20)
    assert (kept["hap"] + kept["exc"], kept["sad"], kept["neu"], kept["ang"]) == (
        *(1633, 1074, 1707, 1101),
    )
    assert (durations > 20).sum() == 21


def test_seven_means_are_off_the_scale_and_levels_have_the_official_counts(
    turns: list[IemocapTurn],
) -> None:
    dimensions = ("valence", "arousal", "dominance")
    off = [
        (turn.dialogue[4], turn.dialogue[7:], turn.name[-4:], name, mean)
        for turn in turns
        for name, mean in zip(dimensions, turn.means, strict=True)
        if not 1 <= mean <= 5
    ]
    assert sorted(off) == sorted(OFF_SCALE)
    for index, name in enumerate(dimensions):
        means = np.array([turn.means[index] for turn in turns])
        low, high = (means <= 2).sum(), (means >= 4).sum()
        assert (low, len(means) - low - high, high) == LEVELS[name]
    missing = [rating for turn in turns for rating in turn.ratings if rating[2] is None]
    assert len(missing) == 36


def test_dialogues_have_gaps_and_recurring_script_sentences(turns: list[IemocapTurn]) -> None:
    texts: dict[str, set[str]] = {}
    for first, second in pairwise(turns):
        assert second.index == 0 or first.end < second.start
    for turn in turns:
        if "_script" in turn.dialogue:
            texts.setdefault(f"{turn.dialogue[7:]} {turn.index}", set()).add(turn.text)
    assert max(map(len, texts.values())) == 1
    improvised = [turn.text for turn in turns if "_impro" in turn.dialogue]
    assert 0.5 < len(set(improvised)) / len(improvised) < 1  # short answers recur, too


def test_a_copy_without_sound_is_read_with_its_labels_and_durations(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "copy", sound=False)
    corpus = corpora.load(f"iemocap={tmp_path / 'copy'}")
    planned = {turn.name: turn for turn in plan_iemocap()}
    assert corpus.notes == (
        "a generated copy: the recordings are noise, so that scores have no meaning",
        "means of valence outside 1 to 5, which became the nearest end: 4, such as "
        "Ses03M_impro07_M003 (5.5)",
        "means of dominance outside 1 to 5, which became the nearest end: 3, such as "
        "Ses01F_script03_1_F026 (0.5)",
    )
    for one in corpus.utterances:
        turn = planned[one.id]
        assert one.text == turn.text
        assert one.speaker == f"{one.id[4]}{turn.letter}"
        assert one.labels["arousal"] == pytest.approx(turn.means[1], abs=1e-4)
        assert ("emotion" in one.labels) == (turn.code != "xxx")
    first = corpus.utterances[0]
    assert audio.utterance_duration(first) == seconds(planned[first.id])
    with pytest.raises(AudioError, match="is truncated"):
        audio.load(first.path)
    with pytest.raises(StorageError, match="is not empty; give a new folder"):
        write_iemocap(tmp_path / "copy")


@pytest.mark.slow
def test_a_copy_with_sound_is_small(run: Run, tmp_path: Path) -> None:
    status, out, err = run("corpora", "make", "copy", "--layout", "iemocap")
    assert status == 0, err
    assert "copy: 10,039 utterances of noise; use it with --corpus iemocap=copy" in out
    files = [file for file in (tmp_path / "copy").rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) < 100e6
    utterances = corpora.load(f"iemocap={tmp_path / 'copy'}").utterances
    assert len(set(protocols.hash_audio_excerpts(utterances).values())) == 10_039
    durations = [soundfile.info(one.path).duration for one in utterances]
    assert sum(durations) / 3600 == pytest.approx(12.44, abs=0.005)
    samples = audio.load(max(utterances, key=lambda one: one.path.stat().st_size).path)
    assert 0.05 < np.abs(samples).max() < 1
    assert not samples[:1000].any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--layout", "iemocp"), "unknown layout 'iemocp'; did you mean 'iemocap'?"),
        (("--layout", "iemocap", "--words", "3"), "--words: --layout iemocap has the published"),
    ],
)
def test_options_of_the_synthetic_corpus_do_not_apply(
    run: Run, words: tuple[str, ...], message: str
) -> None:
    status, _, err = run("corpora", "make", "copy", *words)
    assert status == 2
    assert message in err


def test_small_copies_have_every_code(tmp_path: Path) -> None:
    write_small_iemocap(tmp_path, utterances=60, words=0)
    utterances = corpora.load(f"iemocap={tmp_path}", partial=True).utterances
    assert len({one.labels.get("emotion") for one in utterances}) == len(CODES)
