"""Comparing runs: against SciPy and statsmodels, and whatever is wrong with a pair."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders.example_results import example
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score
from statsmodels.stats.proportion import proportions_ztest

from serein.errors import ConfigError
from serein.evaluation.compare import compare
from serein.evaluation.repeats import combine_seeds
from serein.records import Finding
from serein.results import io
from serein.results.evaluation import Prediction, Results
from serein.results.studies import PairedTest


def other(results: Results, seed: int, name: str, wrong: float = 0.2) -> Results:
    """The same run, with some of its answers turned to chance."""
    rng = np.random.default_rng(seed)

    def blurred(one: Prediction) -> Prediction:
        if rng.random() >= wrong:
            return one
        drawn = {
            task: rng.dirichlet(np.ones(len(names))).tolist()
            for task, names in results.classes.items()
        }
        return replace(one, selections=dict.fromkeys(one.selections, drawn))

    recipe = {**results.recipe, "name": name}
    return replace(
        results,
        name=f"{name}-seed{seed}",
        recipe=recipe,
        environment={**results.environment, "seed": seed},
        predictions=[blurred(one) for one in results.predictions],
    )


@pytest.fixture(scope="module")
def base() -> Results:
    return replace(example(utterances=200, epochs=2), repeats=[])


def saved(results: Results, folder: Path) -> Path:
    io.save_record(results, folder / results.name)
    return folder / results.name


def answers(results: Results, task: str = "emotion") -> np.ndarray[Any, Any]:
    names = np.array(results.classes[task])
    rows = [one.selections[results.headline][task] for one in results.predictions]
    return names[np.argmax(rows, axis=1)]


def truth(results: Results, task: str = "emotion") -> np.ndarray[Any, Any]:
    return np.array([one.truth[task] for one in results.predictions])


def emotion(contests: list[PairedTest]) -> PairedTest:
    return next(one for one in contests if one.task == "emotion")


def joined(results: Results, name: str) -> Results:
    """The same run, as though its corpus had been read together with another one."""
    own = results.corpus["name"]

    def placed(one: Prediction) -> Prediction:
        speaker = f"{own}/{one.speaker}"
        return replace(one, id=f"{own}/{one.id}", speaker=speaker, corpus=own)

    return replace(
        results,
        name=name,
        corpus={**results.corpus, "name": f"{own}+other", "hash": name},
        predictions=[placed(one) for one in results.predictions],
    )


def test_a_run_of_several_corpora_meets_one_of_its_main_corpus(
    base: Results, tmp_path: Path
) -> None:
    worse = other(base, 1, "worse")
    wanted = emotion(
        compare([saved(base, tmp_path / "a"), saved(worse, tmp_path / "a")]).paired_tests
    )
    together = joined(worse, "worse-joined")
    found = compare([saved(base, tmp_path / "b"), saved(together, tmp_path / "b")])
    assert emotion(found.paired_tests) == wanted
    assert any("do not have the same corpus" in one for one in found.warnings)


def test_two_runs_are_compared_as_the_libraries_do(base: Results, tmp_path: Path) -> None:
    worse = other(base, 1, "worse")
    found = compare([saved(base, tmp_path), saved(worse, tmp_path)])
    assert [one.task for one in found.paired_tests] == ["emotion", "gender"]
    one = emotion(found.paired_tests)
    gold, a, b = truth(base), answers(base), answers(worse)
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
    worse = other(base, 1, "worse")
    one = emotion(compare([saved(base, tmp_path), saved(worse, tmp_path)]).paired_tests)
    gold, a, b = truth(base), answers(base), answers(worse)
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


def test_few_speakers_are_swapped_whole_too(base: Results, tmp_path: Path) -> None:
    few = [replace(one, speaker=f"s{n % 4}") for n, one in enumerate(base.predictions)]
    small = replace(base, predictions=few)
    one = emotion(
        compare([saved(small, tmp_path), saved(other(small, 1, "b"), tmp_path)]).paired_tests
    )
    assert one.permutation_unit == "whole speakers (4, which give no p under 0.12)"
    assert one.permutation is not None
    assert (one.permutation * 16).is_integer()
    assert "utterances" in one.interval
    nobody = replace(small, predictions=[replace(item, speaker=None) for item in few])
    place = tmp_path / "nobody"
    one = emotion(compare([saved(nobody, place), saved(other(nobody, 1, "b"), place)]).paired_tests)
    assert one.permutation_unit == "utterances, as not every speaker is known"


def test_the_claim_is_that_the_first_is_better(base: Results, tmp_path: Path) -> None:
    worse = saved(other(base, 1, "worse", 0.6), tmp_path)
    claims = [[saved(base, tmp_path), worse], [worse, saved(base, tmp_path)]]
    right, wrong = (emotion(compare(places).paired_tests).z for places in claims)
    assert right is not None
    assert wrong == pytest.approx(1 - right)
    assert right < 0.05


def test_leaks_and_saved_models_are_told_of(base: Results, tmp_path: Path) -> None:
    leak = Finding(kind="normalisation", verdict="warning", count=1, description="by speaker")
    clean = replace(leak, kind="speaker", verdict="clean", description="no speaker is")
    protocol = {**base.protocol, "hash": ""}
    judged = replace(other(base, 1, "judged"), leakage=[leak, clean], protocol=protocol)
    words = "\n".join(compare([saved(base, tmp_path), saved(judged, tmp_path)]).warnings)
    assert "judged: by speaker" in words
    assert "one of the runs scores a saved model" in words
    assert "no speaker is" not in words


def test_changed_recipes_are_named_by_what_was_changed(base: Results, tmp_path: Path) -> None:
    about = {"changed": "model.heads=2"}
    twin = replace(base, name="twin", recipe={**base.recipe, "about": about})
    found = compare([saved(base, tmp_path), saved(twin, tmp_path)])
    assert [run["name"] for run in found.runs] == ["li2019-emodb", "li2019-emodb (model.heads=2)"]
    assert [run["changed"] for run in found.runs] == ["", "model.heads=2"]


def test_p_is_adjusted_over_all_contests(base: Results, tmp_path: Path) -> None:
    runs = [base, *(other(base, n, f"r{n}", 0.1 * n) for n in (1, 2))]
    found = compare([saved(one, tmp_path) for one in runs])
    assert len(found.paired_tests) == 6
    for test in ("mcnemar", "permutation", "z"):
        raw = [getattr(one, test) for one in found.paired_tests]
        adjusted = [one.adjusted[test] for one in found.paired_tests]
        assert all(p <= q for p, q in zip(raw, adjusted, strict=True))
        assert min(adjusted) == pytest.approx(min(1, 6 * min(raw)))


def test_seeds_are_judged_together(base: Results, tmp_path: Path) -> None:
    def seeds(name: str, wrong: float, count: int) -> Path:
        runs = [other(base, seed, name, wrong) for seed in range(count)]
        for one in runs:
            saved(one, tmp_path)
        return saved(combine_seeds(runs), tmp_path)

    found = compare([seeds("a", 0.1, 3), seeds("b", 0.3, 2)])
    one = emotion(found.paired_tests)
    gold = truth(base)
    uas = [
        np.mean([balanced_accuracy_score(gold, answers(other(base, s, n, w))) for s in range(c)])
        for n, w, c in (("a", 0.1, 3), ("b", 0.3, 2))
    ]
    assert one.scores["ua"] == pytest.approx(uas)
    assert [run["seeds"] for run in found.runs] == [[0, 1, 2], [0, 1]]
    assert not any("one training seed" in words for words in found.warnings)


def test_results_files_side_by_side_are_found_too(base: Results, tmp_path: Path) -> None:
    runs = [other(base, seed, "a") for seed in range(2)]
    for one in runs:
        io.save_record(one, tmp_path / f"{one.name}.json")
    io.save_record(combine_seeds(runs), tmp_path / "a.json")
    io.save_record(base, tmp_path / "base.json")
    found = compare([tmp_path / "a.json", tmp_path / "base.json"])
    assert found.runs[0]["seeds"] == [0, 1]


def test_a_missing_seed_is_told_of(base: Results, tmp_path: Path) -> None:
    runs = [other(base, seed, "a") for seed in range(2)]
    place = saved(combine_seeds(runs), tmp_path)
    with pytest.raises(ConfigError, match=r"run a-seed0 of one seed is not next to the others"):
        compare([place, saved(base, tmp_path)])


def test_a_run_equals_itself(base: Results, tmp_path: Path) -> None:
    twin = replace(base, name="twin", recipe={**base.recipe, "name": "twin"})
    one = emotion(compare([saved(base, tmp_path), saved(twin, tmp_path)]).paired_tests)
    assert one.difference == 0
    assert one.difference_interval == (0, 0)
    assert (one.mcnemar, one.permutation, one.z, one.effect) == (1, 1, 0.5, 0)


def changed(results: Results, change: str) -> Results:
    records = results.predictions
    if change == "ids":
        records = [replace(one, id=f"x{one.id}") for one in records]
    if change == "labels":
        records = [replace(records[0], truth={**records[0].truth, "emotion": "fear"}), *records[1:]]
        turned = results.predictions[0].truth["emotion"] == "fear"
        records[0] = replace(
            records[0], truth={**records[0].truth, "emotion": "anger" if turned else "fear"}
        )
    classes = results.classes if change != "classes" else {"mood": ["good", "bad"]}
    return replace(results, name="b", recipe={"name": "b"}, predictions=records, classes=classes)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ("ids", "tested no utterance in common; compare runs on one corpus"),
        ("labels", r"different emotion labels for 1 utterances, such as"),
        ("classes", "have no task with the same classes"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(
    base: Results, tmp_path: Path, change: str, fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault):
        compare([saved(base, tmp_path), saved(changed(base, change), tmp_path)])


def test_one_run_is_no_comparison(base: Results, tmp_path: Path) -> None:
    place = saved(base, tmp_path)
    with pytest.raises(ConfigError, match="takes two runs or more; got 1"):
        compare([place])
    with pytest.raises(ConfigError, match="a run is given twice"):
        compare([place, place])


def test_what_a_reader_must_know_is_said(base: Results, tmp_path: Path) -> None:
    protocol = {**base.protocol, "hash": "f" * 16, "caution": "speaker-dependent"}
    corpus = {**base.corpus, "hash": "other"}
    strange = replace(other(base, 1, "b"), protocol=protocol, corpus=corpus, headline="last")
    found = compare([saved(base, tmp_path), saved(strange, tmp_path)])
    words = "\n".join(found.warnings)
    for part in (
        "same split",
        "same corpus",
        "select their epochs in the same way",
        "one training seed",
        "b: speaker-",
    ):
        assert part in words
    assert emotion(found.paired_tests).selection == "validation / last"
