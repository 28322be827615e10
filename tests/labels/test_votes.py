"""Votes of raters: forms in a corpus, distributions over classes, and dirty data."""

from pathlib import Path

import pytest
from builders.small_systems import small_recipe

from serein.corpora import cremad, table
from serein.errors import ConfigError, CorpusError
from serein.labels.votes import (
    collect_votes,
    describe_votes,
    get_votes_label,
    list_vote_classes,
    read_votes,
)
from serein.records import Label, Recipe, Utterance

CLASSES = ("anger", "neutral", "sadness")
VOTES = "tasks.emotion.targets=votes"


def heard(**labels: Label) -> Utterance:
    """Return an utterance with these labels; a double underscore stands for a colon."""
    own = {name.replace("__", ":"): value for name, value in labels.items()}
    return Utterance(id="one", path=Path("one.wav"), labels=own)


@pytest.mark.parametrize(
    ("labels", "name", "expected"),
    [
        ({"mood_votes": "anger=5, neutral=3"}, "mood_votes", {"anger": 5, "neutral": 3}),
        ({"mood_votes": " anger ;anger| neutral ,"}, "mood_votes", {"anger": 2, "neutral": 1}),
        ({"mood_votes": "N:S"}, "mood_votes", {"N": 1, "S": 1}),
        ({"mood_votes": "not sure=1.5,calm=0"}, "mood_votes", {"not sure": 1.5}),
        ({"mood_votes": "  "}, "mood_votes", {}),
        ({"mood_votes": 3.0}, "mood_votes", {"3.0": 1}),
        ({"mood_votes__a": "5", "mood_votes__b": 0.0}, "mood_votes", {"a": 5}),
        ({"mood__E1": "a, b", "mood__F1": "a", "mood": "a"}, "mood:E*", {"a": 0.5, "b": 0.5}),
        ({"mood__1": "a", "mood__2": "a", "mood__3": ""}, "mood:*", {"a": 2}),
        ({"mood": "a"}, "mood_votes", {}),
    ],
)
def test_forms_of_votes(labels: dict[str, Label], name: str, expected: dict[str, float]) -> None:
    assert read_votes(heard(**labels), name) == expected


@pytest.mark.parametrize("count", ["-1", "nan", "inf", "many", ""])
def test_a_count_that_is_none_is_an_error_only_where_votes_train(count: str) -> None:
    utterances = [heard(emotion_votes=f"anger={count}"), heard(emotion_votes="anger=1")]
    with pytest.raises(ConfigError, match="utterance one: emotion_votes gives 'anger'"):
        collect_votes(utterances, "emotion", small_recipe(VOTES), CLASSES)
    votes = collect_votes(utterances, "emotion", small_recipe(), CLASSES)
    assert votes.distributions == [None, (1.0, 0.0, 0.0)]


DIRTY = [
    heard(emotion_votes="anger=6, neutral=2"),
    heard(emotion_votes="anger=1, sadness=1"),
    heard(emotion_votes="anger=1, envy=3"),
    heard(emotion_votes="envy=4, anger=0"),
    heard(emotion_votes=""),
    heard(),
]


def test_other_classes_ties_zeros_and_missing_votes() -> None:
    recipe = small_recipe(VOTES)
    votes = collect_votes(DIRTY, "emotion", recipe, CLASSES)
    assert votes.distributions == [
        (0.75, 0.25, 0.0),
        (0.5, 0.0, 0.5),
        (1.0, 0.0, 0.0),
        None,
        None,
        None,
    ]
    assert (votes.votes, votes.left_out, votes.unmatched) == (11, {"envy": 7}, 1)
    trained, unmatched, left_out = describe_votes(votes, "emotion", recipe, CLASSES)
    assert "3 of 6 utterances; the others are trained on their label" in trained
    assert unmatched.startswith("1 utterances have votes, and none for a class of emotion")
    assert left_out == "38.9% of the votes are for no class of emotion: envy (7)"


def test_without_votes_nothing_is_said_unless_they_train() -> None:
    silent = [heard(emotion="anger")]
    for recipe, said in ((small_recipe(), []), (small_recipe(VOTES), ["0 of 1 utterances"])):
        votes = collect_votes(silent, "emotion", recipe, CLASSES)
        sentences = describe_votes(votes, "emotion", recipe, CLASSES)
        assert len(sentences) == len(said)
        assert all(one in sentence for one, sentence in zip(said, sentences, strict=True))


def map_recipe() -> Recipe:
    return small_recipe(VOTES, "tasks.emotion.votes=crowd", "tasks.emotion.scheme=four")


def test_classes_of_votes_are_mapped_like_labels() -> None:
    recipe = map_recipe()
    assert get_votes_label("emotion", recipe) == "crowd"
    utterances = [heard(crowd="Angry=1, excitement=1, happy=2, boredom=4")]
    votes = collect_votes(utterances, "emotion", recipe, ("anger", "happiness"))
    assert votes.distributions == [(0.25, 0.75)]
    assert votes.left_out == {"boredom": 4}
    assert list_vote_classes(utterances, "emotion", recipe) == {
        *("Angry", "excitement", "happy", "boredom")
    }


def test_levels_of_single_ratings_are_votes_and_values_have_none() -> None:
    levels = "tasks.arousal={name='dimensions', votes='arousal:*', targets='votes'}"
    utterances = [heard(arousal__E1=1.5, arousal__E2=5.0, arousal__E3=4.0, arousal__E4="unclear")]
    votes = collect_votes(utterances, "arousal", small_recipe(levels), ("high", "low", "middle"))
    assert votes.distributions == [(2 / 3, 1 / 3, 0.0)]
    assert votes.left_out == {"unclear": 1}
    values = small_recipe("tasks.arousal={name='dimensions', scheme='values'}")
    assert collect_votes(utterances, "arousal", values, ()).distributions == [None]
    assert list_vote_classes(utterances, "arousal", values) == set()


# Corpora


def test_a_table_may_have_a_column_for_each_class(folder: Path) -> None:
    path = folder / "labels.csv"
    path.write_text(
        "file,emotion,Emotion_votes:anger,emotion_votes:neutral\n"
        "a.wav,anger,6,2\nc.wav,neutral,,3\nsub/b.wav,anger,,\n"
    )
    utterances = table.read(path)
    votes = collect_votes(utterances, "emotion", small_recipe(VOTES), ("anger", "neutral"))
    assert votes.distributions == [(0.75, 0.25), (0.0, 1.0), None]


CLIPS = ("1001_DFA_ANG_XX", "1001_IEO_FEA_LO", "1002_IEO_HAP_MD")
TABULATED = """\
"","A","D","F","H","N","S","fileName","numResponses"
"100001",7,1,0,0,2,0,"1001_DFA_ANG_XX",10
"100002",0,0,0,0,0,0,"1001_IEO_FEA_LO",0
"100004",0,0,0,0,9,0,"1091_XXX_NEU_XX",9
"200001",0,0,0,9,0,0,"1001_DFA_ANG_XX",9
"300003",0,0,0,9,0,0,"1002_IEO_HAP_MD",9
"""
SUMMARY = """\
"","FileName","VoiceVote","VoiceLevel","FaceVote"
"1","1001_DFA_ANG_XX","A:N","50:60","H"
"2","1001_IEO_FEA_LO","",,"H"
"""


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    for part in ("AudioWAV", "processedResults"):
        (tmp_path / part).mkdir()
    for name in CLIPS:
        (tmp_path / "AudioWAV" / f"{name}.wav").touch()
    return tmp_path


def read_clips(root: Path) -> list[Label | None]:
    return [one.label("emotion_votes") for one in cremad.read(root, partial=True)]


def test_votes_of_cremad_are_those_for_the_voice_alone(clips: Path) -> None:
    assert read_clips(clips) == [None, None, None]
    (clips / "processedResults/summaryTable.csv").write_text(SUMMARY)
    assert read_clips(clips) == ["anger=1, neutral=1", None, None]
    (clips / "processedResults/tabulatedVotes.csv").write_text(TABULATED)
    assert read_clips(clips) == ["anger=7, disgust=1, neutral=2", None, None]
    utterances = cremad.read(clips, partial=True)
    assert cremad.notes(clips, utterances) == ["utterances without votes of listeners: 2"]
    assert utterances[0].labels["emotion"] == "anger"


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("tabulatedVotes.csv", '"100003",1,0,0,0,0,"1001_DFA_ANG_XX"'),
        ("tabulatedVotes.csv", '"100003",-1,0,0,0,0,0,"1001_DFA_ANG_XX",1'),
        ("tabulatedVotes.csv", '"x",1,0,0,0,0,0,"1001_DFA_ANG_XX",1'),
        ("summaryTable.csv", '"3","1001_DFA_ANG_XX","Q","50","H"'),
    ],
)
def test_a_damaged_table_of_votes_is_an_error_with_its_line(
    clips: Path, file: str, line: str
) -> None:
    content = TABULATED if file == "tabulatedVotes.csv" else SUMMARY
    (clips / "processedResults" / file).write_text(f"{content}{line}\n")
    number = content.count("\n") + 1
    with pytest.raises(CorpusError, match=rf"{file}, line {number}: no votes can be read"):
        cremad.read(clips, partial=True)
