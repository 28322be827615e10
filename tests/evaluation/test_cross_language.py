"""Two languages: one trains beside the other, or one is trained and the other tested."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.cross_language import CROSSED, ONCE, crossed

from serein import bundle, recipes
from serein.errors import ConfigError, ProtocolError
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import Plan, build_plan
from serein.evaluation.repeats import optimistic_variants
from serein.evaluation.train import train
from serein.records import Corpus
from serein.report import checks, markdown, tables
from serein.results import io

SHARED = {"anger", "disgust", "fear", "happiness", "neutral", "sadness"}


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return crossed(tmp_path_factory.mktemp("joint"))


@pytest.fixture(scope="module")
def run(joint: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs")
    return evaluate(
        "li2019", joint, settings=[*CROSSED, "protocol.auxiliary_share=0.5"], runs=folder
    )


def planned(corpus: Corpus, folder: Path, *settings: str) -> Plan:
    recipe = recipes.load("li2019", settings or CROSSED)
    return build_plan(recipe, corpus, seed=0, device="cpu", runs=folder)


def saying(corpus: Corpus, words: dict[tuple[str, str], str]) -> Corpus:
    """The corpus with other labels of emotion, by corpus and word."""
    changed = []
    for one in corpus.utterances:
        word = str(one.labels["emotion"])
        label = words.get((str(one.corpus), word), word)
        changed.append(replace(one, labels={**one.labels, "emotion": label}))
    return replace(corpus, utterances=tuple(changed))


def test_the_main_corpus_keeps_its_classes_and_the_other_one_gives_those(
    joint: Corpus, tmp_path: Path
) -> None:
    todo = planned(joint, tmp_path)
    assert set(todo.classes["emotion"]) == {*SHARED, "surprise"}
    mood = Counter((one.corpus, one.labels["emotion"]) for one in todo.corpus.utterances)
    assert ("emodb", "boredom") not in mood
    assert {name for corpus, name in mood if corpus == "savee"} == {*SHARED, "surprise"}
    mapping = todo.mapping["emotion"]
    assert mapping.foreign == {"emodb": {"boredom": 7}}
    assert "boredom" not in mapping.mapped
    assert mapping.dropped == {}
    turned = planned(joint, tmp_path, *ONCE, "protocol.main=emodb")
    assert set(turned.classes["emotion"]) == {*SHARED, "boredom"}
    assert turned.mapping["emotion"].foreign == {"savee": {"surprise": 4}}


def test_without_a_main_corpus_nobody_loses_a_class(joint: Corpus, tmp_path: Path) -> None:
    todo = planned(joint, tmp_path, *ONCE)
    assert set(todo.classes["emotion"]) == {*SHARED, "surprise", "boredom"}
    assert todo.mapping["emotion"].foreign == {}
    assert len(todo.protocol.folds) == 14


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


def test_what_was_left_out_is_counted(run: Run) -> None:
    kept = io.load_results(run.folder)
    assert kept.mapping["emotion"].foreign == {"emodb": {"boredom": 7}}
    words = "7 utterances of emodb left out: boredom (7) is no emotion of the main corpus"
    assert words in kept.warnings
    (shown,) = (
        table for table in checks.build_label_tables(kept) if table.title == "emotion: labels"
    )
    assert shown.rows[-1].cells == ("(not in the main corpus: emodb)", "boredom (7)", "7")


def test_frames_are_standardised_by_all_that_trains(joint: Corpus, tmp_path: Path) -> None:
    none, all_ = (
        evaluate(
            "li2019", joint, settings=[*CROSSED, f"protocol.auxiliary_share={x}"], runs=tmp_path
        )
        for x in (0, 1)
    )
    few, many = (one.results.predictions[0].selections["last"] for one in (none, all_))
    assert few != many
    states = [next((one.folder / "folds").glob("*.pt")) for one in (none, all_)]
    assert states[0].read_bytes() != states[1].read_bytes()


def test_a_share_of_nothing_is_the_main_corpus_alone(joint: Corpus, tmp_path: Path) -> None:
    utterances = [one for one in joint.utterances if one.corpus == "savee"]
    alone = Corpus(name="savee", utterances=tuple(utterances))
    drop = (*ONCE, "tasks.gender=remove")
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
    settings = [*ONCE, "protocol.name=by-label", *own]
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
    both = [*ONCE, "protocol.name=leave-one-corpus-out", "tasks.emotion.map.boredom="]
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


def test_one_language_is_no_table_of_its_own(run: Run) -> None:
    assert tables.build_group_table(run.results, "emotion", "language") is None
    assert tables.build_group_table(run.results, "emotion", "speaker") is not None


GERMAN = {
    ("emodb", word): f"{word}-de"
    for word in ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
}


def test_corpora_without_a_common_label_are_refused(joint: Corpus, tmp_path: Path) -> None:
    strange = saying(joint, GERMAN)
    words = (
        "emodb has no emotion class of savee, the main corpus: anger-de, boredom-de, disgust-de, "
        ".* and anger, disgust, fear, happiness, neutral, sadness, surprise. Give them common"
    )
    with pytest.raises(ConfigError, match=words):
        planned(strange, tmp_path)
    found = "fold emodb trains anger, .*, surprise and tests anger-de, .*, sadness-de; fold savee"
    with pytest.raises(ProtocolError, match=found):
        planned(strange, tmp_path, *ONCE, "protocol.name=leave-one-corpus-out")


def test_words_of_another_spelling_want_a_scheme(joint: Corpus, tmp_path: Path) -> None:
    spelled = saying(joint, {("emodb", "anger"): "angry"})
    with pytest.raises(ConfigError, match="anger and angry are two classes of emotion"):
        planned(spelled, tmp_path)
    todo = planned(spelled, tmp_path, *CROSSED, "tasks.emotion.scheme=harmonised")
    assert todo.mapping["emotion"].mapped["anger"] == {"anger": 8, "angry": 9}


def test_what_the_scheme_drops_is_not_counted_twice(joint: Corpus, tmp_path: Path) -> None:
    todo = planned(joint, tmp_path, *CROSSED, "tasks.emotion.scheme=four")
    assert todo.mapping["emotion"].foreign == {}
    assert todo.mapping["emotion"].dropped["boredom"] == 7


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
def test_what_cannot_be_is_told(
    joint: Corpus, tmp_path: Path, setting: str, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        planned(joint, tmp_path, *CROSSED, setting)
    assert list(tmp_path.iterdir()) == []


def documented() -> list[list[str]]:
    """The settings that docs/protocols.md has for several corpora, each with what it stands on."""
    page = (Path(__file__).parents[2] / "docs/protocols.md").read_text(encoding="utf-8")
    section = page.split("## Several corpora")[1].split("\n## ")[0]
    typed = [" ".join(re.findall(r"--set (\S+)", line)) for line in section.splitlines()]
    shown = re.findall(r"`((?:protocol|tasks)\.[^`]*=[^`]*)`", section)
    found = [words.split() for words in [*typed, *shown] if words]
    return [one if "name=" in str(one) else ["protocol.main=savee", *one] for one in found]


@pytest.mark.parametrize("settings", documented(), ids=" ".join)
def test_documented_settings_split(joint: Corpus, tmp_path: Path, settings: list[str]) -> None:
    todo = planned(joint, tmp_path, *ONCE, *settings)
    folds = {"leave-one-speaker-out": 4, "by-label": 1, "leave-one-corpus-out": 2}
    assert len(todo.protocol.folds) == folds[todo.protocol.name]


def test_flatteries_keep_the_main_corpus() -> None:
    recipe = recipes.load("li2019", [*CROSSED, "protocol.auxiliary_share=0.5"])
    found = optimistic_variants(recipe, 4)["random-split"].protocol
    assert (found["name"], found["main"], found["auxiliary_share"]) == ("random", "savee", 0.5)


def test_a_model_of_the_whole_trains_on_its_share(joint: Corpus, tmp_path: Path) -> None:
    settings = [*CROSSED, "protocol.auxiliary_share=0.5"]
    saved = train("li2019", joint, tmp_path / "a.safetensors", settings=settings)
    assert sum(saved.card.class_counts["emotion"].values()) == 32 + 16
    assert "boredom" not in saved.card.class_counts["emotion"]
    assert len(saved.card.file_hashes) == 32 + 16
    again = bundle.load(tmp_path / "a.safetensors")
    assert again.system.classes["emotion"][-1] == "surprise"
