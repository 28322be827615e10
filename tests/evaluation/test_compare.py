"""Tests of comparing runs: against SciPy and statsmodels, and of incomparable runs."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.example_results import example_results, rescore
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score
from statsmodels.stats.proportion import proportions_ztest

from serein.errors import ConfigError
from serein.evaluation.compare import compare
from serein.evaluation.repeats import combine_seeds
from serein.records import Finding
from serein.report.comparison import build_tables
from serein.results import io
from serein.results.evaluation import Prediction, Results
from serein.results.studies import PairedTest


def with_errors(results: Results, seed: int, name: str, wrong: float = 0.2) -> Results:
    """Return the run with some of its predictions replaced by random ones."""
    rng = np.random.default_rng(seed)

    def with_error(one: Prediction) -> Prediction:
        if rng.random() >= wrong:
            return one
        drawn = {
            task: rng.dirichlet(np.ones(len(names))).tolist()
            for task, names in results.classes.items()
        }
        return replace(one, selections=dict.fromkeys(one.selections, drawn))

    recipe = {**results.recipe, "name": name}
    changed = replace(
        results,
        name=f"{name}-seed{seed}",
        recipe=recipe,
        environment={**results.environment, "seed": seed},
        predictions=[with_error(one) for one in results.predictions],
    )
    return rescore(changed)


@pytest.fixture(scope="module")
def base() -> Results:
    return replace(example_results(utterances=200, epochs=2), repeats=[])


def save(results: Results, folder: Path) -> Path:
    io.save_record(results, folder / results.name)
    return folder / results.name


def predicted_labels(results: Results, task: str = "emotion") -> np.ndarray[Any, Any]:
    names = np.array(results.classes[task])
    rows = [one.selections[results.headline][task] for one in results.predictions]
    return names[np.argmax(rows, axis=1)]


def true_labels(results: Results, task: str = "emotion") -> np.ndarray[Any, Any]:
    return np.array([one.truth[task] for one in results.predictions])


def emotion_test(contests: list[PairedTest]) -> PairedTest:
    return next(one for one in contests if one.task == "emotion")


def with_several_corpora(results: Results, name: str) -> Results:
    """Return the run as if its corpus had been read with another one."""
    own = results.corpus["name"]

    def placed(one: Prediction) -> Prediction:
        speaker = f"{own}/{one.speaker}"
        return replace(one, id=f"{own}/{one.id}", speaker=speaker, corpus=own)

    changed = replace(
        results,
        name=name,
        corpus={**results.corpus, "name": f"{own}+other", "hash": name},
        predictions=[placed(one) for one in results.predictions],
    )
    return rescore(changed)


def test_run_of_several_corpora_against_run_of_main_corpus(base: Results, tmp_path: Path) -> None:
    worse = with_errors(base, 1, "worse")
    wanted = emotion_test(
        compare([save(base, tmp_path / "a"), save(worse, tmp_path / "a")]).paired_tests
    )
    together = with_several_corpora(worse, "worse-joined")
    found = compare([save(base, tmp_path / "b"), save(together, tmp_path / "b")])
    assert emotion_test(found.paired_tests) == wanted
    assert any("do not have the same corpus" in one for one in found.warnings)


def test_paired_tests_equal_scipy_and_statsmodels(base: Results, tmp_path: Path) -> None:
    worse = with_errors(base, 1, "worse")
    found = compare([save(base, tmp_path), save(worse, tmp_path)])
    assert [one.task for one in found.paired_tests] == ["emotion", "gender"]
    one = emotion_test(found.paired_tests)
    gold, a, b = true_labels(base), predicted_labels(base), predicted_labels(worse)
    assert (one.first, one.second) == (base.recipe["name"], "worse")
    assert one.utterances == 200
    assert one.scores["wa"] == pytest.approx([(gold == a).mean(), (gold == b).mean()])
    ua = [balanced_accuracy_score(gold, a), balanced_accuracy_score(gold, b)]
    assert one.scores["ua"] == pytest.approx(ua)
    assert one.difference == pytest.approx(ua[0] - ua[1])
    only_a = int(((gold == a) & (gold != b)).sum())
    only_b = int(((gold != a) & (gold == b)).sum())
    assert one.mcnemar == pytest.approx(binomtest(only_a, only_a + only_b).pvalue)
    counts = np.array(ua) * 200
    _, z = proportions_ztest(counts, [200, 200], alternative="larger")
    assert one.z == pytest.approx(z)
    assert one.difference_interval is not None
    assert one.difference_interval[0] < one.difference < one.difference_interval[1]


def test_the_permutation_test_swaps_speakers(base: Results, tmp_path: Path) -> None:
    worse = with_errors(base, 1, "worse")
    one = emotion_test(compare([save(base, tmp_path), save(worse, tmp_path)]).paired_tests)
    gold, a, b = true_labels(base), predicted_labels(base), predicted_labels(worse)
    speakers = np.array([record.speaker for record in base.predictions])
    observed = balanced_accuracy_score(gold, a) - balanced_accuracy_score(gold, b)
    reached = 0
    names = sorted(set(speakers))
    for swap in product([False, True], repeat=len(names)):
        turned = np.isin(speakers, np.array(names)[list(swap)])
        first, second = np.where(turned, b, a), np.where(turned, a, b)
        apart = balanced_accuracy_score(gold, first) - balanced_accuracy_score(gold, second)
        reached += abs(apart) >= abs(observed) - 1e-12
    assert one.permutation == pytest.approx(reached / 2 ** len(names))


def test_permutation_test_with_few_speakers(base: Results, tmp_path: Path) -> None:
    few = [replace(one, speaker=f"s{n % 4}") for n, one in enumerate(base.predictions)]
    small = rescore(replace(base, predictions=few))
    one = emotion_test(
        compare([save(small, tmp_path), save(with_errors(small, 1, "b"), tmp_path)]).paired_tests
    )
    assert one.permutation_unit == "whole speakers (4, which give no p under 0.12)"
    assert one.permutation is not None
    assert (one.permutation * 16).is_integer()
    assert "4 speakers" in one.interval
    nobody = rescore(replace(small, predictions=[replace(item, speaker=None) for item in few]))
    place = tmp_path / "nobody"
    one = emotion_test(
        compare([save(nobody, place), save(with_errors(nobody, 1, "b"), place)]).paired_tests
    )
    assert one.permutation_unit == "utterances, as not every speaker is known"


def test_z_test_is_one_tailed_for_the_first_run(base: Results, tmp_path: Path) -> None:
    worse = save(with_errors(base, 1, "worse", 0.6), tmp_path)
    claims = [[save(base, tmp_path), worse], [worse, save(base, tmp_path)]]
    right, wrong = (emotion_test(compare(places).paired_tests).z for places in claims)
    assert right is not None
    assert wrong == pytest.approx(1 - right)
    assert right < 0.05


def test_warnings_name_leaks_and_saved_models(base: Results, tmp_path: Path) -> None:
    leak = Finding(kind="normalisation", verdict="warning", count=1, description="by speaker")
    clean = replace(leak, kind="speaker", verdict="clean", description="no speaker is")
    protocol = {**base.protocol, "hash": "", "folds": []}
    judged = replace(with_errors(base, 1, "judged"), leakage=[leak, clean], protocol=protocol)
    words = "\n".join(compare([save(base, tmp_path), save(judged, tmp_path)]).warnings)
    assert "judged: by speaker" in words
    assert "one of the runs scores a saved model" in words
    assert "no speaker is" not in words


def test_names_of_changed_recipes(base: Results, tmp_path: Path) -> None:
    about = {"changed": "model.heads=2"}
    twin = replace(base, name="twin", recipe={**base.recipe, "about": about})
    found = compare([save(base, tmp_path), save(twin, tmp_path)])
    assert [run["name"] for run in found.runs] == ["li2019-emodb", "li2019-emodb (model.heads=2)"]
    assert [run["changed"] for run in found.runs] == ["", "model.heads=2"]


def test_p_is_adjusted_over_all_pairs(base: Results, tmp_path: Path) -> None:
    runs = [base, *(with_errors(base, n, f"r{n}", 0.1 * n) for n in (1, 2))]
    found = compare([save(one, tmp_path) for one in runs])
    assert len(found.paired_tests) == 6
    for test in ("mcnemar", "permutation", "z"):
        raw = [getattr(one, test) for one in found.paired_tests]
        adjusted = [one.adjusted[test] for one in found.paired_tests]
        assert all(p <= q for p, q in zip(raw, adjusted, strict=True))
        assert min(adjusted) == pytest.approx(min(1, 6 * min(raw)))


def test_seeds_are_compared_together(base: Results, tmp_path: Path) -> None:
    def seeds(name: str, wrong: float, count: int) -> Path:
        runs = [with_errors(base, seed, name, wrong) for seed in range(count)]
        for one in runs:
            save(one, tmp_path)
        return save(combine_seeds(runs), tmp_path)

    found = compare([seeds("a", 0.1, 3), seeds("b", 0.3, 2)])
    one = emotion_test(found.paired_tests)
    gold = true_labels(base)
    uas = [
        np.mean(
            [
                balanced_accuracy_score(gold, predicted_labels(with_errors(base, s, n, w)))
                for s in range(c)
            ]
        )
        for n, w, c in (("a", 0.1, 3), ("b", 0.3, 2))
    ]
    assert one.scores["ua"] == pytest.approx(uas)
    assert [run["seeds"] for run in found.runs] == [[0, 1, 2], [0, 1]]
    assert not any("one training seed" in words for words in found.warnings)


def test_seeds_in_files_next_to_each_other(base: Results, tmp_path: Path) -> None:
    runs = [with_errors(base, seed, "a") for seed in range(2)]
    for one in runs:
        io.save_record(one, tmp_path / f"{one.name}.json")
    io.save_record(combine_seeds(runs), tmp_path / "a.json")
    io.save_record(base, tmp_path / "base.json")
    found = compare([tmp_path / "a.json", tmp_path / "base.json"])
    assert found.runs[0]["seeds"] == [0, 1]


def test_missing_seed_is_an_error(base: Results, tmp_path: Path) -> None:
    runs = [with_errors(base, seed, "a") for seed in range(2)]
    place = save(combine_seeds(runs), tmp_path)
    with pytest.raises(ConfigError, match=r"run a-seed0 of one seed is not next to the others"):
        compare([place, save(base, tmp_path)])


def test_run_against_itself(base: Results, tmp_path: Path) -> None:
    twin = replace(base, name="twin", recipe={**base.recipe, "name": "twin"})
    one = emotion_test(compare([save(base, tmp_path), save(twin, tmp_path)]).paired_tests)
    assert one.difference == 0
    assert one.difference_interval == (0, 0)
    assert (one.mcnemar, one.permutation, one.z, one.effect) == (1, 1, 0.5, 0)


def with_change(results: Results, change: str) -> Results:
    records = results.predictions
    if change == "ids":
        records = [replace(one, id=f"x{one.id}") for one in records]
    if change == "labels":
        records = [replace(records[0], truth={**records[0].truth, "emotion": "fear"}), *records[1:]]
        turned = results.predictions[0].truth["emotion"] == "fear"
        records[0] = replace(
            records[0], truth={**records[0].truth, "emotion": "anger" if turned else "fear"}
        )
    changed = replace(results, name="b", recipe={"name": "b"}, predictions=records)
    if change == "classes":
        classes = {"mood": ["good", "bad"]}
        return replace(changed, classes=classes, scores={}, calibration={}, baselines={})
    return rescore(changed)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("ids", "tested no utterance in common; compare runs on one corpus"),
        ("labels", r"different emotion labels for 1 utterances, such as"),
        ("classes", "have no task in common: .* are not compared on emotion: b has no such task"),
    ],
)
def test_incomparable_runs_are_errors(
    base: Results, tmp_path: Path, change: str, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        compare([save(base, tmp_path), save(with_change(base, change), tmp_path)])


def test_one_run_is_an_error(base: Results, tmp_path: Path) -> None:
    place = save(base, tmp_path)
    with pytest.raises(ConfigError, match="takes two runs or more; got 1"):
        compare([place])
    with pytest.raises(ConfigError, match="a run is given twice"):
        compare([place, place])


def test_warnings_of_a_comparison(base: Results, tmp_path: Path) -> None:
    protocol = {**base.protocol, "hash": "f" * 16, "caution": "speaker-dependent", "folds": []}
    corpus = {**base.corpus, "hash": "other"}
    strange = replace(with_errors(base, 1, "b"), protocol=protocol, corpus=corpus, headline="last")
    found = compare([save(base, tmp_path), save(strange, tmp_path)])
    words = "\n".join(found.warnings)
    for part in (
        "same split",
        "same corpus",
        "select their epochs in the same way",
        "one training seed",
        "b: speaker-",
    ):
        assert part in words
    assert emotion_test(found.paired_tests).selection == "validation / last"


def with_fewer_classes(results: Results, name: str, *dropped: str) -> Results:
    """Return the run as of a system without some emotions, whose utterances were left out."""
    kept = [item for item in results.classes["emotion"] if item not in dropped]
    columns = [results.classes["emotion"].index(item) for item in kept]

    def restrict(one: Prediction) -> Prediction:
        selections = {
            selection: {**rows, "emotion": [rows["emotion"][column] for column in columns]}
            for selection, rows in one.selections.items()
        }
        return replace(one, selections=selections)

    predictions = [restrict(p) for p in results.predictions if p.truth["emotion"] not in dropped]
    classes = {**results.classes, "emotion": kept}
    recipe = {**results.recipe, "name": name}
    return rescore(
        replace(results, name=name, recipe=recipe, classes=classes, predictions=predictions)
    )


def test_runs_with_other_classes_are_compared_on_those_of_both(
    base: Results, tmp_path: Path
) -> None:
    """The same probabilities, masked: no difference, and 7 classes against 5 are said."""
    fewer = with_fewer_classes(base, "fewer", "boredom", "fear")
    found = compare([save(base, tmp_path), save(fewer, tmp_path)])
    test = emotion_test(found.paired_tests)
    shared = ["anger", "disgust", "happiness", "neutral", "sadness"]
    assert test.classes == shared
    count = sum(p.truth["emotion"] in shared for p in base.predictions)
    assert (test.utterances, test.difference, test.mcnemar) == (count, 0.0, 1.0)
    gold = true_labels(fewer)
    assert test.scores["ua"][0] == pytest.approx(
        balanced_accuracy_score(gold, predicted_labels(fewer))
    )
    text = (
        f"li2019-emodb and fewer have 7 and 5 classes of emotion: compared on {count} of the "
        f"{count} utterances that both tested, whose class both have, with answers among these 5 "
        "classes only: anger, disgust, happiness, neutral, sadness"
    )
    assert text in found.warnings
    gender = next(test for test in found.paired_tests if test.task == "gender")
    assert gender.classes == []
    assert "Among the classes that both have: li2019-emodb and fewer (anger," in "".join(
        table.note for table in build_tables(found)
    )


def test_pairs_that_cannot_be_compared_are_said(base: Results, tmp_path: Path) -> None:
    emotions = base.classes["emotion"]
    two = with_fewer_classes(base, "two", *emotions[2:])
    others = with_fewer_classes(base, "others", *emotions[:2])
    classes = {"gender": base.classes["gender"]}
    recipe = {**base.recipe, "name": "without"}
    without = rescore(replace(base, name="without", recipe=recipe, classes=classes))
    runs = [base, two, without]
    found = compare([save(one, tmp_path) for one in runs])
    assert "without are not compared on emotion: without has no such task" in "\n".join(
        found.warnings
    )
    pairs = [(test.first, test.second) for test in found.paired_tests if test.task == "emotion"]
    assert pairs == [("li2019-emodb", "two")]
    with pytest.raises(ConfigError, match="tested no utterance in common"):
        compare([save(two, tmp_path), save(others, tmp_path)])
    renamed = replace(
        base,
        name="renamed",
        recipe={**base.recipe, "name": "renamed"},
        classes={**base.classes, "emotion": [f"my {name}" for name in emotions]},
        predictions=[
            replace(p, truth={**p.truth, "emotion": f"my {p.truth['emotion']}"})
            for p in base.predictions
        ],
    )
    found = compare([save(one, tmp_path) for one in (base, rescore(renamed))])
    assert [test.task for test in found.paired_tests] == ["gender"]
    assert any("they share 0 of its classes: anger, boredom," in one for one in found.warnings)


def test_a_corpus_at_another_place_is_the_same_corpus(base: Results, tmp_path: Path) -> None:
    corpora = [{**base.corpus, "hash": name, "identity": "1" * 16} for name in ("a", "b")]
    runs = [
        replace(base, name=corpus["hash"], recipe={"name": corpus["hash"]}, corpus=corpus)
        for corpus in corpora
    ]
    assert not any("same corpus" in text for text in compare_runs(runs, tmp_path))
    other = replace(runs[1], corpus={**runs[1].corpus, "identity": "2" * 16})
    assert any("same corpus" in text for text in compare_runs([runs[0], other], tmp_path))


def compare_runs(runs: list[Results], folder: Path) -> list[str]:
    """Return the warnings of a comparison."""
    return compare([save(one, folder) for one in runs]).warnings
