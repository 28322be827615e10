"""The recipes of the papers select the papers' data, by their own plans on a full-size IEMOCAP.

The corpus is a generated copy with the counts of the real labels, and without sound.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from serein import corpora, recipes
from serein.evaluation.evaluate import describe_dropped, evaluate
from serein.evaluation.plan import (
    Plan,
    build_plan,
    check_leakage,
    describe_dropped_settings,
    describe_plan,
    draft_plan,
)
from serein.records import Corpus
from serein.synthetic.iemocap import write_iemocap, write_small_iemocap

NEW_VALIDATION = "the recipe has no validation subset, and the split by --set protocol.name has one"
FOUR = ("anger", "happiness", "neutral", "sadness")
BY_SESSION = (1085, 1023, 1151, 1031, 1241)
WITHOUT_LONG = (1080, 1021, 1151, 1028, 1235)
"""Utterances of the four classes, by session; of at most 20 s."""
LEVELS = {
    "valence": {"low": 3223, "middle": 4869, "high": 1947},
    "arousal": {"low": 1112, "middle": 7235, "high": 1692},
    "dominance": {"low": 1041, "middle": 6484, "high": 2514},
}
LI = ("li2019", "li2019-no-attention", "li2019-single-task")
FENG = tuple(
    f"feng2020{row}" for row in ("", "-audio", "-text", "-text-asr", "-combined", "-combined-asr")
)
FENG_SPEAKER_DEPENDENT = tuple(
    name.replace("feng2020", "feng2020-speaker-dependent") for name in FENG
)
ZHANG = tuple(
    f"zhang2019{row}"
    for row in ("", "-mtl", "-stl", "-stl-attention", "-lld-rnn", "-egemaps-svm", "-values")
)


@pytest.fixture(scope="module")
def iemocap(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    root = tmp_path_factory.mktemp("full") / "IEMOCAP"
    write_iemocap(root, sound=False)
    return corpora.load(f"iemocap={root}")


def draft(name: str, corpus: Corpus, *settings: str) -> Plan:
    return draft_plan(recipes.load(name, settings), corpus, seed=0, device="cpu")


def sizes(plan: Plan, subset: str) -> list[int]:
    return [len(getattr(fold, subset)) for fold in plan.protocol.folds]


def sessions(plan: Plan, ids: Sequence[str]) -> set[str | None]:
    return {utterance.session for utterance in plan.corpus.select(ids)}


@pytest.mark.parametrize(
    ("names", "by_session"), [(LI, BY_SESSION), (FENG, WITHOUT_LONG)], ids=["li2019", "feng2020"]
)
def test_li_and_feng_leave_out_one_session_of_four_classes(
    iemocap: Corpus, names: Sequence[str], by_session: Sequence[int]
) -> None:
    for name in names:
        plan = draft(name, iemocap)
        total = sum(by_session)
        assert plan.classes["emotion"] == FOUR
        assert len(plan.corpus.utterances) == total
        assert sizes(plan, "test") == list(by_session)
        assert sizes(plan, "train") == [total - tested for tested in by_session]
        assert sizes(plan, "validation") == [0] * 5  # the papers have no validation subset
        for number, fold in zip("12345", plan.protocol.folds, strict=True):
            assert sessions(plan, fold.test) == {number}


@pytest.mark.parametrize("name", ["li2019", "feng2020-audio", "feng2020-improvised"])
def test_validation_by_another_session_is_one_setting(iemocap: Corpus, name: str) -> None:
    plan = draft(name, iemocap, "protocol.validation=1")
    paper = draft(name, iemocap)
    assert sizes(plan, "test") == sizes(paper, "test")
    for fold in plan.protocol.folds:
        speakers = {utterance.speaker for utterance in plan.corpus.select(fold.validation)}
        assert len(speakers) == 2
        assert len(sessions(plan, fold.train)) == 3
    assert describe_dropped_settings(plan.recipe) == []


def test_feng_table_4_is_improvised_without_excitement(iemocap: Corpus) -> None:
    plan = draft("feng2020-improvised", iemocap)
    assert len(plan.corpus.utterances) == sum(sizes(plan, "test")) == 2274
    assert {utterance.labels["style"] for utterance in plan.corpus.utterances} == {"improvised"}
    found = Counter(utterance.labels["emotion"] for utterance in plan.corpus.utterances)
    assert set(found) == set(FOUR)
    assert "only style improvised: 2280 of 4490 utterances" in plan.protocol.caution
    assert "6 of 2280 utterances last longer than 20 s" in plan.protocol.caution
    long = draft("feng2020-improvised", iemocap, "protocol.max_duration=60")
    assert len(long.corpus.utterances) == 2280


def test_feng_table_5_shares_speakers_between_random_folds(iemocap: Corpus) -> None:
    for name in FENG_SPEAKER_DEPENDENT:
        plan = draft(name, iemocap)
        assert sizes(plan, "test") == [1103] * 5
        assert sizes(plan, "validation") == [0] * 5
        assert "speaker-dependent" in plan.protocol.caution
        assert sessions(plan, plan.protocol.folds[0].test) == set("12345")
        emotions = [
            Counter(u.labels["emotion"] for u in plan.corpus.select(fold.test))
            for fold in plan.protocol.folds
        ]
        for emotion in emotions[0]:
            counts = [found[emotion] for found in emotions]
            assert max(counts) - min(counts) <= 1


def test_zhang_uses_every_rated_utterance_in_three_levels(iemocap: Corpus) -> None:
    for name in ZHANG:
        plan = draft(name, iemocap)
        subsets = [sizes(plan, subset) for subset in ("train", "validation", "test")]
        assert subsets == [[5766], [2103], [2170]]
    plan = draft("zhang2019-sizes", iemocap)
    subsets = [sizes(plan, subset) for subset in ("train", "validation", "test")]
    assert subsets == [[6409], [1811], [1819]]
    assert not plan.left_out
    found = {
        task: {level: sum(counts.values()) for level, counts in mapping.mapped.items()}
        for task, mapping in plan.mapping.items()
    }
    assert found == LEVELS
    assert any("emotion" not in utterance.labels for utterance in plan.corpus.utterances)


def test_seven_means_off_the_scale_are_at_its_ends(iemocap: Corpus) -> None:
    labels = {utterance.id: utterance.labels for utterance in iemocap.utterances}
    for turn in ("M003", "M010", "M013", "M021"):
        assert labels[f"Ses03M_impro07_{turn}"]["valence"] == 5.0
    for name in ("Ses01F_script03_1_F026", "Ses02F_script02_2_F046", "Ses04M_script03_2_M009"):
        assert labels[name]["dominance"] == 1.0
    assert [note for note in iemocap.notes if "outside 1 to 5" in note] == [
        "means of valence outside 1 to 5, which became the nearest end: 4, such as "
        "Ses03M_impro07_M003 (5.5)",
        "means of dominance outside 1 to 5, which became the nearest end: 3, such as "
        "Ses01F_script03_1_F026 (0.5)",
    ]


def test_utterances_without_a_class_take_no_part_and_are_counted(iemocap: Corpus) -> None:
    plan = draft("feng2020", iemocap)
    kept = {utterance.id for utterance in plan.corpus.utterances}
    rest = [utterance for utterance in iemocap.utterances if utterance.id not in kept]
    assert Counter(u.labels.get("emotion") for u in rest)[None] == 2507
    assert [(reason.reason, reason.count) for reason in plan.left_out] == [
        ("class", 2507 + 2001),
        ("duration", 16),
    ]
    without, dropped = describe_dropped(plan.mapping, keeps_unlabelled=False)
    assert without.startswith("2507 utterances left out: they have no emotion label (protocol.un")
    assert dropped.startswith("2001 utterances left out: ")


def test_unlabelled_utterances_take_part_by_a_setting(iemocap: Corpus) -> None:
    plan = draft("li2019", iemocap, "protocol.unlabelled=keep")
    assert sum(sizes(plan, "test")) == 5531 + 2507
    assert [(reason.reason, reason.count) for reason in plan.left_out] == [("class", 2001)]
    (dropped,) = describe_dropped(plan.mapping, keeps_unlabelled=True)
    assert dropped.startswith("2001 utterances left out: ")


def test_the_plan_of_a_run_has_no_leak_but_recurring_sentences(
    iemocap: Corpus, tmp_path: Path
) -> None:
    plan = build_plan(recipes.load("li2019"), iemocap, seed=0, device="cpu", runs=tmp_path)
    assert sizes(plan, "test") == list(BY_SESSION)
    verdicts = {finding.kind: finding.verdict for finding in plan.leakage}
    assert verdicts.pop("sentence") == "warning"
    assert set(verdicts.values()) == {"clean"}
    assert plan.folder.parent == tmp_path


def test_leave_one_speaker_out_separates_partners(iemocap: Corpus) -> None:
    plan = draft("li2019", iemocap, "protocol.name=leave-one-speaker-out")
    verdicts = {
        finding.kind: finding.verdict for finding in check_leakage(plan, None, compare_audio=False)
    }
    assert verdicts["partner"] == "error"


# Settings that --set drops


@pytest.mark.parametrize(
    ("settings", "listed"),
    [
        (["protocol.name=random"], "protocol.validation=none, protocol.max_duration=20.0"),
        (["protocol.name=random", "protocol.validation=2"], "protocol.max_duration=20.0"),
        (["protocol.max_duration=20", "protocol.name=random", "protocol.validation=none"], ""),
        (["protocol.validation=1"], ""),
        (["protocol.name=leave-one-session-out"], ""),
        (["protocol.max_duration=remove"], ""),
        (["tasks.emotion=remove", "tasks.gender.weight=1"], ""),
    ],
)
def test_settings_that_a_new_name_drops_are_described(settings: list[str], listed: str) -> None:
    expected = (
        "protocol.name was changed by --set, which drops the recipe's other settings of protocol: "
    )
    found = describe_dropped_settings(recipes.load("feng2020-audio", settings))
    has_new_validation = "protocol.validation" in listed
    assert len(found) == bool(listed) + has_new_validation
    assert found[:1] == ([f"{expected}{listed}"] if listed else [])
    assert all(NEW_VALIDATION in sentence for sentence in found[1:])


def test_the_head_of_a_run_lists_dropped_settings(iemocap: Corpus) -> None:
    plan = draft("feng2020-audio", iemocap, "protocol.name=random")
    assert describe_plan(plan)[-2:] == describe_dropped_settings(plan.recipe)
    assert len(plan.corpus.utterances) == 5531  # the limit of 20 s is gone


def test_nested_settings_and_several_steps_are_described() -> None:
    improvised = recipes.load("feng2020-improvised", ["protocol.name=speaker-k-fold"])
    sentence, validated = describe_dropped_settings(improvised)
    assert NEW_VALIDATION in validated
    assert sentence.startswith("protocol.name was changed by --set, which drops the recipe's other")
    assert "protocol.only.style=improvised" in sentence
    assert "protocol.folds" not in sentence
    restored = recipes.with_settings(
        improvised, ["protocol.only.style=improvised", "protocol.max_duration=20"]
    )
    sentence, validated = describe_dropped_settings(restored)
    assert NEW_VALIDATION in validated
    assert sentence.endswith("of protocol: protocol.validation=none")
    other = recipes.load("li2019", ["model.name=rnn"])
    (sentence,) = describe_dropped_settings(other)
    assert sentence.startswith("model.name was changed by --set")


def test_defaults_of_a_protocol_are_not_described() -> None:
    proxy = recipes.load("li2019-emodb", ["protocol.name=speaker-k-fold"])
    assert proxy.about["dropped"] == {
        "protocol.validation": 1,
        "protocol.complete_validation": False,
    }
    (sentence,) = describe_dropped_settings(proxy)
    assert sentence.endswith("of protocol: protocol.complete_validation=false")


def test_a_run_warns_of_left_out_utterances_and_dropped_settings(tmp_path: Path) -> None:
    write_small_iemocap(tmp_path / "small", utterances=60, words=1)
    corpus = corpora.load(f"iemocap={tmp_path / 'small'}", partial=True)
    settings = [
        *("features.bands=16", "features.window=400", "features.pad=false", "model.filters=8"),
        *("model.hidden=4", "model.attention_hidden=8", "model.heads=2", "training.epochs=1"),
        *("protocol.name=leave-one-speaker-out", "protocol.allow=partner"),
    ]
    results = evaluate("li2019", corpus, settings=settings, runs=tmp_path).results
    labels = [utterance.labels.get("emotion") for utterance in corpus.utterances]
    missing = labels.count(None)
    assert missing > 0
    assert len(results.predictions) == len([x for x in labels if x in (*FOUR, "excitement")])
    assert (
        f"{missing} utterances left out: they have no emotion label (protocol.unlabelled=keep "
        "includes them)" in results.warnings
    )
    assert (
        "protocol.name was changed by --set, which drops the recipe's other settings of protocol: "
        "protocol.validation=none" in results.warnings
    )


# Twins for other corpora


def test_twins_for_emodb_keep_their_classes_and_protocols() -> None:
    paper, twin = recipes.load("li2019"), recipes.load("li2019-emodb-paper")
    for table in ("features", "normalise", "text", "augment"):
        assert getattr(twin, table) == getattr(paper, table)
    assert {**twin.model, "init": "keras"} == paper.model
    assert {**twin.training, "epsilon": 1e-7} == paper.training
    assert twin.tasks == {"emotion": {"weight": 1.0}, "gender": {"weight": 1.0}}
    assert twin.protocol == {
        "name": "leave-one-speaker-out",
        "validation": 1,
        "complete_validation": False,
    }
    assert recipes.load("li2019-emodb").tasks == twin.tasks
    assert recipes.load("li2019-emodb").protocol == twin.protocol
    for name in recipes.list_recipes():
        if name.startswith("feng2020-emodb"):
            recipe = recipes.load(name)
            assert set(recipe.tasks["emotion"]) == {"weight"}
            assert recipe.protocol == {"name": "speaker-k-fold", "folds": 5, "validation": 2}


@pytest.mark.slow
def test_the_plan_on_a_copy_with_sound_finds_no_copies(tmp_path: Path) -> None:
    write_iemocap(tmp_path / "IEMOCAP")
    corpus = corpora.load(f"iemocap={tmp_path / 'IEMOCAP'}")
    plan = build_plan(
        recipes.load("feng2020-audio"), corpus, seed=0, device="cpu", runs=tmp_path / "runs"
    )
    assert sum(sizes(plan, "test")) == 5515
    verdicts = {finding.kind: finding.verdict for finding in plan.leakage}
    assert verdicts["duplicate"] == "clean"
