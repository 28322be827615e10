import re
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from serein import corpora
from serein.corpora import iemocap
from serein.errors import CorpusError
from serein.records import Utterance
from serein.synthetic.iemocap import write_small_iemocap

TURN = "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 3.0000, 3.5000]"
EVALUATION = Path("Session1/dialog/EmoEvaluation/Ses01F_impro01.txt")
TRANSCRIPT = Path("Session1/dialog/transcriptions/Ses01F_impro01.txt")
RECORDINGS = Path("Session1/sentences/wav/Ses01F_impro01")


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("spoken")
    write_small_iemocap(root, utterances=200, words=1)
    return root


@pytest.fixture
def copy(spoken: Path, tmp_path: Path) -> Path:
    root = tmp_path / "IEMOCAP"
    shutil.copytree(spoken, root)
    return root


@pytest.fixture
def lone(tmp_path: Path) -> Path:
    """A corpus of one dialogue with one utterance."""
    for file, content in (
        (EVALUATION, f"% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n{TURN}\n"),
        (TRANSCRIPT, "Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.\n"),
        (RECORDINGS / "Ses01F_impro01_F000.wav", ""),
    ):
        (tmp_path / file).parent.mkdir(parents=True)
        (tmp_path / file).write_text(content)
    return tmp_path


def only(root: Path) -> Utterance:
    (one,) = iemocap.read(root, partial=True)
    return one


def judged(root: Path, *lines: str) -> None:
    """Write these lines into the single dialogue, from line 3 on."""
    (root / EVALUATION).write_text("\n".join(["% Head", "", *lines, ""]), encoding="latin-1")


# The layout


def test_small_layout_is_read_completely(spoken: Path) -> None:
    utterances = iemocap.read(spoken, partial=True)
    assert len(utterances) == 200
    assert [one.id for one in utterances] == sorted({one.id for one in utterances})
    assert {one.session for one in utterances} == set("12345")
    assert {one.language for one in utterances} == {"en"}
    for one in utterances:
        assert one.path.name == f"{one.id}.wav"
        assert one.dialogue == one.path.parent.name
        assert one.text
        assert np.abs(soundfile.read(one.path)[0]).max() > 0.05


def test_the_speaker_is_the_last_letter_not_the_first(spoken: Path) -> None:
    utterances = iemocap.read(spoken, partial=True)
    assert {one.speaker for one in utterances} == {f"{n}{x}" for n in range(1, 6) for x in "FM"}
    for one in utterances:
        letter = one.id.rpartition("_")[2][0]
        assert one.speaker == f"{one.id[4]}{letter}"
        assert one.gender == {"F": "female", "M": "male"}[letter]
    differing = [one for one in utterances if one.id[5] != str(one.speaker)[1]]
    assert 0.45 < len(differing) / len(utterances) < 0.55, "the first letter would often be wrong"
    assert any("_MX" in one.id or "_FX" in one.id for one in utterances)


def test_a_known_utterance_has_every_label(lone: Path) -> None:
    judged(
        lone,
        TURN,
        "C-E2:\tNeutral;\t()",
        "C-E3:\tAnger; Excited;\t(hm (really))",
        "C-E4:\tNeutral state;\t(mild, \xe9)",
        "C-F1:\t;\t()",
        "A-E3:\tval 3; act 2; dom  1;\t()",
        "A-E4:\tval 2; act 4; dom  ;\t()",
        "A-F1:\tval 5; act 1;\t()",
        "A-M1:\tval ; act ; dom ;",
    )
    assert only(lone) == Utterance(
        id="Ses01F_impro01_F000",
        path=lone / RECORDINGS / "Ses01F_impro01_F000.wav",
        speaker="1F",
        session="1",
        dialogue="Ses01F_impro01",
        gender="female",
        language="en",
        text="Excuse me.",
        labels={
            "emotion": "neutral",
            "valence": 2.5,
            "arousal": 3.0,
            "dominance": 3.5,
            "emotion:E2": "neutral",
            "emotion:E3": "anger, excitement",
            "emotion:E4": "neutral",
            "valence:E3": 3.0,
            "arousal:E3": 2.0,
            "dominance:E3": 1.0,
            "valence:E4": 2.0,
            "arousal:E4": 4.0,
            "valence:F1": 5.0,
            "arousal:F1": 1.0,
            "emotion_votes": "anger=0.5, excitement=0.5, neutral=2",
            "style": "improvised",
            "script": "impro01",
        },
    )


@pytest.mark.parametrize(
    ("code", "emotion"),
    [
        *[("ang", "anger"), ("dis", "disgust"), ("exc", "excitement"), ("fea", "fear")],
        *[("fru", "frustration"), ("hap", "happiness"), ("neu", "neutral"), ("oth", "other")],
        *[("sad", "sadness"), ("sur", "surprise"), ("xxx", None)],
    ],
)
def test_every_code_has_an_emotion_except_xxx(lone: Path, code: str, emotion: str | None) -> None:
    judged(lone, TURN.replace("neu", code))
    assert only(lone).label("emotion") == emotion
    assert only(lone).labels["valence"] == 2.5


@pytest.mark.parametrize(
    ("means", "left"),
    [
        ("[4.0, 3.0]", {"valence": 4.0, "arousal": 3.0}),
        ("[4.0, 3.0, ]", {"valence": 4.0, "arousal": 3.0}),
        ("[4.0, nan, 2.5]", {"valence": 4.0, "dominance": 2.5}),
        ("[NaN, NaN, NaN]", {}),
    ],
)
def test_missing_mean_is_absent_and_counted(lone: Path, means: str, left: dict[str, float]) -> None:
    judged(lone, TURN.replace("[2.5000, 3.0000, 3.5000]", means))
    names = ("valence", "arousal", "dominance")
    one = only(lone)
    assert {name: one.labels[name] for name in names if name in one.labels} == left
    assert one.labels["emotion"] == "neutral"
    gaps = [f"utterances without a mean of {name}: 1" for name in names if name not in left]
    assert iemocap.notes(lone, [one]) == gaps


def test_utterances_without_a_majority_keep_individual_ratings(spoken: Path) -> None:
    utterances = iemocap.read(spoken, partial=True)
    undecided = [one for one in utterances if "emotion" not in one.labels]
    assert undecided
    for one in undecided:
        assert len({one.labels[f"emotion:{rater}"] for rater in ("E2", "E3", "E4")}) == 3
    emotions = {one.labels["emotion"] for one in utterances if "emotion" in one.labels}
    assert emotions == set(iemocap.EMOTIONS.values())


def test_means_are_of_the_evaluators_and_missing_ratings_stay_missing(spoken: Path) -> None:
    utterances = iemocap.read(spoken, partial=True)
    for one in utterances:
        for name in ("valence", "arousal", "dominance"):
            ratings = [one.labels[f"{name}:{rater}"] for rater in ("E3", "E4")]
            assert one.labels[name] == np.mean([float(rating) for rating in ratings])
    own = [{x.partition(":")[0] for x in one.labels if x.endswith("1")} for one in utterances]
    lacking = [names for names in own if "dominance" not in names]
    assert 0 < len(lacking) < len(own) / 3
    assert all({"emotion", "valence", "arousal"} <= names for names in own)


@pytest.mark.parametrize(
    ("name", "style", "script", "speaker"),
    [
        ("Ses03M_impro05a_M023", "improvised", "impro05", "3M"),
        ("Ses03M_impro05b_F001", "improvised", "impro05", "3F"),
        ("Ses02F_script01_1_M010", "scripted", "script01_1", "2M"),
        ("Ses05M_script01_1b_FX01", "scripted", "script01_1", "5F"),
        ("Ses04F_script03_2_F044", "scripted", "script03_2", "4F"),
    ],
)
def test_scripts_and_their_parts(
    tmp_path: Path, name: str, style: str, script: str, speaker: str
) -> None:
    dialogue, session = name.rpartition("_")[0], tmp_path / f"Session{name[4]}"
    evaluation = session / f"dialog/EmoEvaluation/{dialogue}.txt"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text(TURN.replace("Ses01F_impro01_F000", name))
    folder = session / "sentences/wav" / dialogue
    folder.mkdir(parents=True)
    (folder / f"{name}.wav").touch()
    one = only(tmp_path)
    assert (one.labels["style"], one.labels["script"]) == (style, script)
    assert (one.speaker, one.session, one.dialogue) == (speaker, name[4], dialogue)
    assert one.text is None


def test_scripts_recur_in_every_session_and_improvisations_do_not(spoken: Path) -> None:
    said: dict[str, dict[str, set[str]]] = {"scripted": {}, "improvised": {}}
    for one in iemocap.read(spoken, partial=True):
        place = f"{one.dialogue}_{one.id.rpartition('_')[2]}"[7:]
        said[str(one.labels["style"])].setdefault(place, set()).add(one.text or "")
    assert all(len(texts) == 1 for texts in said["scripted"].values())
    assert any(len(texts) > 1 for texts in said["improvised"].values())


# Traps


def test_hidden_files_and_second_copies_are_skipped(copy: Path) -> None:
    assert list(copy.rglob("._*.wav"))
    assert list(copy.rglob("._*.txt"))
    before = iemocap.read(copy, partial=True)
    shutil.copytree(copy / RECORDINGS, copy / RECORDINGS / RECORDINGS.name)
    shutil.copytree(copy / "Session1", copy / "Session1/Session1")
    assert iemocap.read(copy, partial=True) == before


def test_upper_case_extensions_are_accepted(lone: Path) -> None:
    file = lone / RECORDINGS / "Ses01F_impro01_F000.wav"
    file.rename(file.with_suffix(".WAV"))
    assert only(lone).path.name == "Ses01F_impro01_F000.WAV"


def test_transcribed_lines_without_an_utterance_are_skipped(spoken: Path, lone: Path) -> None:
    lines = (spoken / TRANSCRIPT).read_text().splitlines()
    assert "M: [LAUGHTER]" in lines
    assert any("XX" in line for line in lines)
    (lone / TRANSCRIPT).write_text(
        "M: [LAUGHTER]\n\nSes01F_impro01_MXX0 [1.0-2.0]: Hm.\nSes01F_impro01_F000 [6.2-8.2]:  So.\n"
    )
    assert only(lone).text == "So."


def test_windows_line_ends_change_nothing(lone: Path) -> None:
    before = only(lone)
    for file in (EVALUATION, TRANSCRIPT):
        (lone / file).write_bytes((lone / file).read_bytes().replace(b"\n", b"\r\n"))
    assert only(lone) == before


def test_without_transcriptions_there_is_no_text(lone: Path) -> None:
    shutil.rmtree(lone / TRANSCRIPT.parent)
    assert only(lone).text is None


# Errors


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([TURN.replace("neu", "joy")], "line 3: unknown emotion 'joy'; IEMOCAP has ang, dis, exc,"),
        ([TURN, "rubbish"], "line 4: 'rubbish' is neither an utterance such as"),
        ([TURN, "", "A-E3:\tval 3; act two; dom  2;\t()"], r"line 5: 'A-E3:.*restore the file"),
        ([TURN, "C-X9:\tNeutral;\t()"], r"line 4: 'C-X9:.*nor a rating such as"),
        (["C-E2:\tNeutral;\t()", TURN], r"line 3: 'C-E2:"),
        ([TURN.replace(", 3.0000, 3.5000", "")], r"line 3: '\[6\.2901"),
        ([TURN.replace("3.0000", "")], r"line 3: '\[6\.2901"),
        ([TURN.replace("F000", "M000")], r"line 3: .*Ses01F_impro01 has no recording .*_M000"),
    ],
)
def test_error_names_the_bad_line(copy: Path, lines: list[str], message: str) -> None:
    judged(copy, *lines)
    (copy / RECORDINGS / "Ses01F_impro01_M000.wav").unlink()
    with pytest.raises(CorpusError, match=rf"Ses01F_impro01\.txt, {message}"):
        iemocap.read(copy)


@pytest.mark.parametrize(
    "name", ["Ses02F_impro01_F000", "Ses01F_impro02_F000", "Ses01F_impro01_X000", "Ses01F_impro01_"]
)
def test_utterance_must_belong_to_its_dialogue(lone: Path, name: str) -> None:
    judged(lone, TURN.replace("Ses01F_impro01_F000", name))
    (lone / RECORDINGS / f"{name}.wav").touch()
    message = f"line 3: '{name}' is not an utterance of Ses01F_impro01 in Session1, such as"
    with pytest.raises(CorpusError, match=message):
        iemocap.read(lone, partial=True)


def test_dialogue_must_belong_to_its_session(copy: Path) -> None:
    shutil.rmtree(copy / "Session2")
    (copy / "Session1").rename(copy / "Session2")
    with pytest.raises(CorpusError, match=r"is not an utterance of Ses01F_impro01 in Session2"):
        iemocap.read(copy, partial=True)


def test_error_names_the_bad_transcription(lone: Path) -> None:
    (lone / TRANSCRIPT).write_text("M: Hm.\nSes01F_impro01_F000 Excuse me.\n")
    with pytest.raises(CorpusError, match=r"Ses01F_impro01\.txt, line 2: .*Excuse me\.'; restore"):
        iemocap.read(lone, partial=True)


@pytest.mark.parametrize(
    ("gone", "message", "left"),
    [
        (RECORDINGS / "Ses01F_impro01_M001.wav", "has no recording Ses01F_impro01_M001", 199),
        (TRANSCRIPT, r"Ses01F_impro01\.txt is missing, but other transcriptions exist", 200),
        ("Session3", "lacks Session3 of IEMOCAP's sessions", 157),
        ("Session1/sentences/wav", "Session1 has no folder sentences/wav/", 164),
        ("Session1/dialog/EmoEvaluation", "Session1 has no folder dialog/EmoEvaluation/", 164),
    ],
)
def test_missing_files_are_errors_unless_partial(
    copy: Path, gone: str, message: str, left: int
) -> None:
    path = copy / gone
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    with pytest.raises(
        CorpusError, match=f"{message}.*Restore the rest from https://sail.*--partial"
    ):
        iemocap.read(copy)
    assert len(iemocap.read(copy, partial=True)) == left


def test_partial_copy_has_notes(copy: Path) -> None:
    assert corpora.load(f"iemocap={copy}", partial=True).notes == (
        "a partial copy: 200 of 10,039 utterances",
    )
    for number in (1, 2):
        (copy / RECORDINGS / f"Ses01F_impro01_M00{number}.wav").unlink()
    (copy / TRANSCRIPT).unlink()
    shutil.rmtree(copy / "Session3")
    corpus = corpora.load(f"iemocap={copy}", partial=True)
    words = sum(one.text is None for one in corpus.utterances)
    assert corpus.notes == (
        "a partial copy: 155 of 10,039 utterances",
        "evaluated turns without a recording, skipped: 2",
        f"utterances without a text: {words}",
    )
    assert words == sum(one.dialogue == TRANSCRIPT.stem for one in corpus.utterances) > 0


def test_the_counts_are_checked(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert iemocap.COUNTS == {
        "Session1": 1819,
        "Session2": 1811,
        "Session3": 2136,
        "Session4": 2103,
        "Session5": 2170,
    }
    with pytest.raises(CorpusError, match=r"200 recordings; IEMOCAP has 10039 \(Session1 36 of 18"):
        iemocap.read(copy)
    found = Counter(f"Session{one.session}" for one in iemocap.read(copy, partial=True))
    monkeypatch.setattr(iemocap, "COUNTS", dict(sorted(found.items())))
    assert len(iemocap.read(copy)) == 200
    judged(copy, "")
    with pytest.raises(CorpusError, match=r"has 200 \(Session1 \d+ of 36\)\. Restore the"):
        iemocap.read(copy)


@pytest.mark.parametrize(("utterances", "dialogues"), [(5, 1), (60, 7)])
def test_small_layout_has_the_proportions_of_the_sessions(
    tmp_path: Path, utterances: int, dialogues: int
) -> None:
    write_small_iemocap(tmp_path, utterances=utterances, dialogues=dialogues, words=0)
    found = Counter(f"Session{one.session}" for one in iemocap.read(tmp_path, partial=True))
    for name, count in iemocap.COUNTS.items():
        assert abs(found[name] - count * utterances / 10039) < 1
    assert len(list((tmp_path / RECORDINGS.parent).iterdir())) == dialogues


def test_right_folder_is_suggested(spoken: Path, tmp_path: Path) -> None:
    (tmp_path / "IEMOCAP_full_release").symlink_to(spoken)
    with pytest.raises(CorpusError, match=r"Did you mean .*/IEMOCAP_full_release\?"):
        iemocap.read(tmp_path)
    with pytest.raises(CorpusError, match=f"give the folder above, {re.escape(str(spoken))}"):
        iemocap.read(spoken / "Session1")
    for partial in (False, True):
        with pytest.raises(CorpusError, match="Give the folder that holds Session1/, or get"):
            iemocap.read(tmp_path / "none", partial=partial)


def test_load_by_name(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = iemocap.read(copy, partial=True)
    found = Counter(f"Session{one.session}" for one in utterances)
    monkeypatch.setattr(iemocap, "COUNTS", dict(sorted(found.items())))
    assert corpora.load(f"iemocap={copy}").utterances == tuple(utterances)


# Ratings off the scale


def test_means_off_the_scale_become_the_nearest_end_and_are_counted(lone: Path) -> None:
    judged(
        lone,
        TURN.replace("[2.5000, 3.0000, 3.5000]", "[5.5000, 3.0000, 0.5000]"),
        "A-E3:\tval 6; act 3; dom  0;\t()",
        "A-E4:\tval 5; act 3; dom  1;\t()",
    )
    one = only(lone)
    assert [one.labels[name] for name in ("valence", "arousal", "dominance")] == [5.0, 3.0, 1.0]
    assert (one.labels["valence:E3"], one.labels["dominance:E3"]) == (5.0, 1.0)
    assert iemocap.notes(lone, [one]) == [
        "means of valence outside 1 to 5, which became the nearest end: 1, such as "
        "Ses01F_impro01_F000 (5.5)",
        "means of dominance outside 1 to 5, which became the nearest end: 1, such as "
        "Ses01F_impro01_F000 (0.5)",
    ]
    assert iemocap.notes(lone, []) == ["evaluated turns without a recording, skipped: 1"]


@pytest.mark.parametrize("mean", ["1.0000", "5.0000"])
def test_ends_of_the_scale_are_not_noted(lone: Path, mean: str) -> None:
    judged(lone, TURN.replace("2.5000", mean))
    assert only(lone).labels["valence"] == float(mean)
    assert iemocap.notes(lone, [only(lone)]) == []


def test_flac_recordings_are_read(lone: Path) -> None:
    file = lone / RECORDINGS / "Ses01F_impro01_F000.wav"
    file.rename(file.with_suffix(".flac"))
    assert only(lone).path.name == "Ses01F_impro01_F000.flac"
    file.touch()
    assert only(lone).path == file  # the original, if both are there
