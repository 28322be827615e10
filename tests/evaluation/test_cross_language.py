"""Tests of two languages: an auxiliary training corpus, and zero-shot evaluation."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.cross_language import CROSS_LANGUAGE, ONE_EPOCH, read_two_languages

from serein import bundle, recipes
from serein.errors import ConfigError, ProtocolError
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import Plan, build_plan
from serein.evaluation.repeats import TrainingAmount, optimistic_variants
from serein.evaluation.train import train
from serein.records import Corpus
from serein.report import checks, markdown, tables
from serein.results import io

SHARED = {"anger", "disgust", "fear", "happiness", "neutral", "sadness"}


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return read_two_languages(tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def run(joint: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return evaluate(
        "li2019", joint, settings=[*CROSS_LANGUAGE, "protocol.auxiliary_share=0.5"], runs=folder
    )


def build(corpus: Corpus, folder: Path, *settings: str) -> Plan:
    recipe = recipes.load("li2019", settings or CROSS_LANGUAGE)
    return build_plan(recipe, corpus, seed=0, device="cpu", runs=folder)


def with_labels(corpus: Corpus, words: dict[tuple[str, str], str]) -> Corpus:
    """Return the corpus with other emotion labels, by corpus and label."""
    changed = []
    for one in corpus.utterances:
        word = str(one.labels["emotion"])
        label = words.get((str(one.corpus), word), word)
        changed.append(replace(one, labels={**one.labels, "emotion": label}))
    return replace(corpus, utterances=tuple(changed))


def test_auxiliary_corpus_keeps_classes_of_main_corpus(joint: Corpus, tmp_path: Path) -> None:
    plan = build(joint, tmp_path)
    assert set(plan.classes["emotion"]) == {*SHARED, "surprise"}
    mood = Counter((one.corpus, one.labels["emotion"]) for one in plan.corpus.utterances)
    assert ("emodb", "boredom") not in mood
    assert {name for corpus, name in mood if corpus == "savee"} == {*SHARED, "surprise"}
    mapping = plan.mapping["emotion"]
    assert mapping.foreign == {"emodb": {"boredom": 7}}
    assert "boredom" not in mapping.mapped
    assert mapping.dropped == {}
    turned = build(joint, tmp_path, *ONE_EPOCH, "protocol.main=emodb")
    assert set(turned.classes["emotion"]) == {*SHARED, "boredom"}
    assert turned.mapping["emotion"].foreign == {"savee": {"surprise": 4}}


def test_all_classes_stay_without_main_corpus(joint: Corpus, tmp_path: Path) -> None:
    plan = build(joint, tmp_path, *ONE_EPOCH)
    assert set(plan.classes["emotion"]) == {*SHARED, "surprise", "boredom"}
    assert plan.mapping["emotion"].foreign == {}
    assert len(plan.protocol.folds) == 14


def test_only_the_main_corpus_is_tested(run: Run) -> None:
    results = run.results
    assert Counter(one.corpus for one in results.predictions) == {"savee": 32}
    assert {one.language for one in results.predictions} == {"en"}
    assert results.groups == {}
    for fold in results.protocol["folds"]:
        assert sum(id_.startswith("emodb/") for id_ in fold["train"]) == 16
        assert sum(id_.startswith("savee/") for id_ in fold["train"]) == 16
    assert "emodb (16 of 33 utterances)" in results.protocol["caution"]
    (classes,) = (one for one in results.leakage if one.kind == "classes")
    assert classes.examples[0] == "gender female"
    assert "1 time a class is trained that no fold tests: gender female" in classes.description


def test_dropped_utterances_are_counted(run: Run) -> None:
    kept = io.load_results(run.folder)
    assert kept.mapping["emotion"].foreign == {"emodb": {"boredom": 7}}
    words = (
        "7 utterances of emodb left out: emotion labels without a class in the main corpus: "
        "boredom (7)"
    )
    assert words in kept.warnings
    (shown,) = (
        table for table in checks.build_label_tables(kept) if table.title == "emotion: labels"
    )
    assert shown.rows[-1].cells == ("(not in the main corpus: emodb)", "boredom (7)", "7")


def test_frames_are_standardised_by_whole_training_subset(joint: Corpus, tmp_path: Path) -> None:
    none, all_ = (
        evaluate(
            "li2019",
            joint,
            settings=[*CROSS_LANGUAGE, f"protocol.auxiliary_share={x}"],
            runs=tmp_path,
        )
        for x in (0, 1)
    )
    few, many = (one.results.predictions[0].selections["last"] for one in (none, all_))
    assert few != many
    states = [next((one.folder / "folds").glob("*.pt")) for one in (none, all_)]
    assert states[0].read_bytes() != states[1].read_bytes()


def test_share_zero_equals_main_corpus_alone(joint: Corpus, tmp_path: Path) -> None:
    utterances = [one for one in joint.utterances if one.corpus == "savee"]
    alone = Corpus(name="savee", utterances=tuple(utterances))
    drop = (*ONE_EPOCH, "tasks.gender=remove")
    bare = evaluate("li2019", alone, settings=drop, runs=tmp_path).results
    none = ("protocol.main=savee", "protocol.auxiliary_share=0")
    joined = evaluate("li2019", joint, settings=[*drop, *none], runs=tmp_path).results
    assert [one.id for one in bare.predictions] == [one.id for one in joined.predictions]
    for one, two in zip(bare.predictions, joined.predictions, strict=True):
        assert one.selections == two.selections


@pytest.mark.parametrize(
    ("by", "train", "test"),
    [("corpus", "savee", "emodb"), ("corpus", "emodb", "savee"), ("language", "en", "de")],
)
def test_zero_shot_trains_one_language_and_tests_the_other(
    joint: Corpus, tmp_path: Path, by: str, train: str, test: str
) -> None:
    own = [f"protocol.by={by}", f"protocol.train={train}", f"protocol.test={test}"]
    settings = [*ONE_EPOCH, "protocol.name=by-label", *own]
    results = evaluate("li2019", joint, settings=settings, runs=tmp_path).results
    assert {getattr(one, by) for one in results.predictions} == {test}
    (fold,) = results.protocol["folds"]
    sides = {id_.split("/")[0] for id_ in (*fold["train"], *fold["validation"])}
    assert sides == {{"en": "savee"}.get(train, train)}
    classes = next(one for one in results.leakage if one.kind == "classes")
    lacked = "surprise" if test == "savee" else "boredom"
    assert classes.verdict == "warning"
    assert (
        f"a class is tested that the training subset of the fold lacks: emotion {lacked}"
        in classes.description
    )


def test_leaving_one_corpus_out_scores_each_language(joint: Corpus, tmp_path: Path) -> None:
    both = [*ONE_EPOCH, "protocol.name=leave-one-corpus-out", "tasks.emotion.map.boredom="]
    run = evaluate("li2019", joint, settings=both, runs=tmp_path)
    results = io.load_results(run.folder)
    assert {kind: list(own) for kind, own in results.groups.items()} == {
        "corpus": ["emodb", "savee"],
        "language": ["de", "en"],
    }
    whole = results.scores[results.headline]["emotion"]
    for kind, languages in results.groups.items():
        assert sum(own["emotion"].utterances for own in languages.values()) == whole.utterances
        confusion: Any = [own["emotion"].confusion for own in languages.values()]
        pairs = zip(*confusion, strict=True)
        summed = [[sum(cells) for cells in zip(*rows, strict=True)] for rows in pairs]
        assert summed == whole.confusion
        table = tables.build_group_table(results, "emotion", kind)
        assert table is not None
        assert [row.cells[0] for row in table.rows] == list(languages)
        for row, own in zip(table.rows, languages.values(), strict=True):
            assert row.cells[2] == f"{100 * (own['emotion'].wa or 0):.1f}"
    assert "emotion: each language, validation, %" in markdown.render_markdown(results)


def test_one_language_has_no_table(run: Run) -> None:
    assert tables.build_group_table(run.results, "emotion", "language") is None
    assert tables.build_group_table(run.results, "emotion", "speaker") is not None


GERMAN = {
    ("emodb", word): f"{word}-de"
    for word in ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
}


def test_corpora_without_common_class_are_an_error(joint: Corpus, tmp_path: Path) -> None:
    strange = with_labels(joint, GERMAN)
    words = (
        "emodb has no emotion class of savee, the main corpus: anger-de, boredom-de, disgust-de, "
        ".* and anger, disgust, fear, happiness, neutral, sadness, surprise. Give them common"
    )
    with pytest.raises(ConfigError, match=words):
        build(strange, tmp_path)
    found = "fold emodb trains anger, .*, surprise and tests anger-de, .*, sadness-de; fold savee"
    with pytest.raises(ProtocolError, match=found):
        build(strange, tmp_path, *ONE_EPOCH, "protocol.name=leave-one-corpus-out")


def test_other_spellings_need_a_scheme(joint: Corpus, tmp_path: Path) -> None:
    spelled = with_labels(joint, {("emodb", "anger"): "angry"})
    with pytest.raises(ConfigError, match="anger and angry are two classes of emotion"):
        build(spelled, tmp_path)
    plan = build(spelled, tmp_path, *CROSS_LANGUAGE, "tasks.emotion.scheme=harmonised")
    assert plan.mapping["emotion"].mapped["anger"] == {"anger": 8, "angry": 9}


def test_dropped_labels_are_counted_once(joint: Corpus, tmp_path: Path) -> None:
    plan = build(joint, tmp_path, *CROSS_LANGUAGE, "tasks.emotion.scheme=four")
    assert plan.mapping["emotion"].foreign == {}
    assert plan.mapping["emotion"].dropped["boredom"] == 7


@pytest.mark.parametrize(
    ("setting", "kind", "words"),
    [
        (
            "protocol.auxiliary_share=2",
            ConfigError,
            "auxiliary_share = 2 takes 66 utterances of emodb, which",
        ),
        (
            "protocol.auxiliary_share.de=1.1",
            ConfigError,
            "takes 36 utterances of de, which has 33",
        ),
        ("protocol.main=iemocap", ProtocolError, "main = 'iemocap': .* found emodb, savee"),
    ],
)
def test_impossible_protocols_are_errors(
    joint: Corpus, tmp_path: Path, setting: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        build(joint, tmp_path, *CROSS_LANGUAGE, setting)
    assert list(tmp_path.iterdir()) == []


def documented_settings() -> list[list[str]]:
    """Return the settings for several corpora in docs/protocols.md, with those that they need."""
    page = (Path(__file__).parents[2] / "docs/protocols.md").read_text(encoding="utf-8")
    section = page.split("## Several corpora")[1].split("\n## ")[0]
    typed = [" ".join(re.findall(r"--set (\S+)", line)) for line in section.splitlines()]
    shown = re.findall(r"`((?:protocol|tasks)\.[^`]*=[^`]*)`", section)
    found = [words.split() for words in [*typed, *shown] if words]
    return [one if "name=" in str(one) else ["protocol.main=savee", *one] for one in found]


@pytest.mark.parametrize("settings", documented_settings(), ids=" ".join)
def test_documented_settings_are_valid(joint: Corpus, tmp_path: Path, settings: list[str]) -> None:
    plan = build(joint, tmp_path, *ONE_EPOCH, *settings)
    folds = {"leave-one-speaker-out": 4, "by-label": 1, "leave-one-corpus-out": 2}
    assert len(plan.protocol.folds) == folds[plan.protocol.name]


def test_optimistic_variants_keep_the_main_corpus() -> None:
    recipe = recipes.load("li2019", [*CROSS_LANGUAGE, "protocol.auxiliary_share=0.5"])
    amount = TrainingAmount(folds=4, trained=240, total=480)
    found = optimistic_variants(recipe, amount)["random-split"].protocol
    assert (found["name"], found["main"], found["auxiliary_share"]) == ("random", "savee", 0.5)


def test_saved_model_trains_on_its_share(joint: Corpus, tmp_path: Path) -> None:
    settings = [*CROSS_LANGUAGE, "protocol.auxiliary_share=0.5"]
    saved = train("li2019", joint, tmp_path / "a.safetensors", settings=settings)
    assert sum(saved.card.class_counts["emotion"].values()) == 32 + 16
    assert "boredom" not in saved.card.class_counts["emotion"]
    assert len(saved.card.file_hashes) == 32 + 16
    again = bundle.load(tmp_path / "a.safetensors")
    assert again.system.classes["emotion"][-1] == "surprise"
