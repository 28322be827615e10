import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch
from builders.progress import EpochLog, load_reproducible_part, log_epochs
from builders.small_systems import QUICK, small_recipe
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix, recall_score

from serein import corpora
from serein.errors import ConfigError, CorpusError, ProtocolError, StorageError, UnknownName
from serein.evaluation import scores
from serein.evaluation.evaluate import Run, evaluate
from serein.evaluation.plan import build_plan, resolve_recipe
from serein.records import Corpus
from serein.results import io
from serein.results.evaluation import Epoch, Results
from serein.training.checkpoint import TrainingRun


def evaluated(corpus: Corpus, runs: Path, *settings: str, **options: Any) -> Run:
    return evaluate("li2019", corpus, settings=[*QUICK, *settings], runs=runs, **options)


@pytest.fixture(scope="module")
def run(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluated(corpus, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def results(run: Run) -> Results:
    return run.results


def test_validation_is_the_headline_of_three_selections(results: Results) -> None:
    assert list(results.selections) == ["validation", "last", "test"]
    assert results.headline == "validation"
    assert "optimistic" in results.selections["test"]
    assert "optimistic" not in results.selections["validation"] + results.selections["last"]
    assert set(results.scores) == set(results.fold_means) == set(results.selections)


def test_every_utterance_is_tested_once_by_a_fold_without_its_speaker(
    results: Results, corpus: Corpus
) -> None:
    assert sorted(one.id for one in results.predictions) == [u.id for u in corpus.utterances]
    speaker = {u.id: u.speaker for u in corpus.utterances}
    sides = {fold["name"]: fold for fold in results.protocol["folds"]}
    for one in results.predictions:
        fold = sides[one.fold]
        assert one.id in fold["test"]
        assert one.speaker not in {speaker[id_] for id_ in (*fold["train"], *fold["validation"])}
        assert one.truth == {"emotion": one.id.split("-")[1], "gender": one.gender}


def score_speakers(results: Results, selection: str, task: str) -> list[float]:
    """Return the accuracy of each speaker."""
    classes, correct = results.classes[task], dict[str | None, list[bool]]()
    for one in results.predictions:
        answer = classes[int(np.argmax(one.selections[selection][task]))]
        correct.setdefault(one.speaker, []).append(answer == one.truth[task])
    return [float(np.mean(own)) for own in correct.values()]


def test_scores_are_of_pooled_predictions(results: Results) -> None:
    for selection in results.selections:
        for task, classes in results.classes.items():
            found = results.scores[selection][task]
            truth = [one.truth[task] for one in results.predictions]
            rows = np.array([one.selections[selection][task] for one in results.predictions])
            np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-5)
            answers = [classes[place] for place in rows.argmax(axis=1)]
            assert found.utterances == len(truth) == 24
            wa = accuracy_score(truth, answers)
            assert found.wa == pytest.approx(wa)
            assert found.ua == pytest.approx(balanced_accuracy_score(truth, answers))
            wanted = confusion_matrix(truth, answers, labels=classes)
            assert found.confusion == wanted.tolist()
            recalls = recall_score(truth, answers, labels=classes, average=None, zero_division=0)
            assert list(found.recalls) == classes
            assert list(found.recalls.values()) == pytest.approx(recalls.tolist())
            if found.wa_interval is None:  # no variance over speakers
                assert len(set(score_speakers(results, selection, task))) == 1
            else:
                assert found.wa_interval[0] <= wa <= found.wa_interval[1]


def test_fold_scores_are_of_its_test_subset(results: Results) -> None:
    for fold in results.folds:
        tested = [one for one in results.predictions if one.fold == fold.name]
        for selection, epoch in fold.epochs.items():
            for task, classes in results.classes.items():
                rows = np.array([one.selections[selection][task] for one in tested])
                answers = [classes[place] for place in rows.argmax(axis=1)]
                truth = [one.truth[task] for one in tested]
                assert fold.scores[selection][task]["wa"] == accuracy_score(truth, answers)
                assert fold.scores[selection][task] == fold.history[epoch - 1].scores["test"][task]


def test_epochs_of_selections(results: Results) -> None:
    for fold in results.folds:
        assert fold.epochs["last"] == 2
        for side in ("validation", "test"):
            uas = [epoch.scores[side]["emotion"]["ua"] for epoch in fold.history]
            assert uas[fold.epochs[side] - 1] == max(x for x in uas if x is not None)


def test_selection_uses_its_own_subset(corpus: Corpus, tmp_path: Path) -> None:
    uas = {"validation": [0.1, 0.2, 0.9, 0.9, 0.3], "test": [0.1, 0.8, 0.2, 0.3, 0.4]}
    history = [
        Epoch(
            epoch=n + 1,
            loss=1.0,
            seconds=1.0,
            scores={
                side: {"emotion": {"wa": 1 - ua[n], "ua": ua[n]}, "gender": {"ua": n / 9}}
                for side, ua in uas.items()
            },
        )
        for n in range(5)
    ]
    for settings, wanted in [
        ("protocol.validation=1", {"validation": 3, "last": 5, "test": 2}),
        ("protocol.validation=none", {"last": 5, "test": 2}),
    ]:
        plan = build_plan(small_recipe(settings), corpus, seed=0, device="cpu", runs=tmp_path)
        found = scores.select_epochs(plan, plan.protocol.folds[0], TrainingRun(history, []))
        assert found == wanted
        assert next(iter(found)) == next(iter(wanted))


def test_fold_means_are_means_over_folds(results: Results) -> None:
    for selection, tasks in results.fold_means.items():
        for task, pair in tasks.items():
            for name, mean in pair.items():
                found = [fold.scores[selection][task][name] for fold in results.folds]
                assert mean == pytest.approx(fmean(x for x in found if x is not None))


def test_baselines(results: Results) -> None:
    assert results.baselines["chance"]["emotion"] == {
        "wa": pytest.approx(1 / 3),
        "ua": pytest.approx(1 / 3),
    }
    assert results.baselines["majority"]["emotion"]["wa"] == pytest.approx(1 / 3)
    # The two training speakers of a fold are of both genders or of one.
    assert results.baselines["majority"]["gender"]["wa"] is not None


def test_results_have_their_provenance(results: Results, run: Run, corpus: Corpus) -> None:
    assert results.recipe["model"]["filters"] == 8
    assert results.corpus == {
        "name": "spoken",
        "utterances": 24,
        "speakers": 4,
        "hash": corpora.fingerprint(corpus),
        "identity": corpora.identify(corpus),
    }
    assert results.environment["seed"] == 0
    assert results.environment["threads"] == 1
    assert results.environment["versions"]["torch"] == torch.__version__
    assert len(results.protocol["hash"]) == 16
    assert results.warnings == []
    assert results.name == run.folder.name
    assert results.name.startswith("li2019-spoken-seed0-")


def test_results_round_trip(results: Results, run: Run) -> None:
    assert io.to_builtin(io.load_results(run.folder)) == io.to_builtin(results)


def test_finished_run_is_read_from_disk(corpus: Corpus, run: Run) -> None:
    told: EpochLog = []
    again = evaluated(corpus, run.folder.parent, open_progress=log_epochs(told))
    assert told == []
    assert again.folder == run.folder
    assert again.results == io.load_results(run.folder)


def test_fresh_run_has_the_same_numbers(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    first = evaluated(corpus, tmp_path, "training.epochs=1")
    told: EpochLog = []
    before = load_reproducible_part(first.folder)
    evaluated(corpus, tmp_path, "training.epochs=1", fresh=True, open_progress=log_epochs(told))
    assert told == [(f"s{n:02}", 1) for n in range(1, 5)]
    assert load_reproducible_part(first.folder) == before


def test_run_folder_depends_on_settings(corpus: Corpus, tmp_path: Path) -> None:
    recipe = small_recipe()
    folders = {
        build_plan(chosen, read, seed=seed, device="cpu", runs=tmp_path).folder
        for chosen, read, seed in [
            (recipe, corpus, 0),
            (recipe, corpus, 1),
            (small_recipe("training.epochs=3"), corpus, 0),
            (small_recipe("protocol.validation=2"), corpus, 0),
            (recipe, replace(corpus, utterances=corpus.utterances[:-1]), 0),
            (recipe, replace(corpus, name="other"), 0),
        ]
    }
    assert len(folders) == 6
    assert build_plan(recipe, corpus, seed=0, device="cpu", runs=tmp_path).folder in folders
    assert list(tmp_path.iterdir()) == []


def test_last_epoch_is_the_headline_without_validation(corpus: Corpus, tmp_path: Path) -> None:
    results, *_ = evaluated(corpus, tmp_path, "protocol.validation=none", "training.epochs=1")
    assert list(results.selections) == ["last", "test"]
    assert results.headline == "last"
    assert all(len(fold["validation"]) == 0 for fold in results.protocol["folds"])
    assert all(len(fold["train"]) == 18 for fold in results.protocol["folds"])
    assert all(set(epoch.scores) == {"test"} for f in results.folds for epoch in f.history)
    io.load_results(tmp_path / results.name)


def test_parallel_folds_give_the_same_numbers(corpus: Corpus, run: Run, tmp_path: Path) -> None:
    told: EpochLog = []
    other = evaluated(corpus, tmp_path, jobs=2, open_progress=log_epochs(told))
    assert load_reproducible_part(other.folder) == load_reproducible_part(run.folder)
    assert sorted(told) == [(f"s{n:02}", epoch) for n in range(1, 5) for epoch in (1, 2)]


KILLED = """
import os, signal, sys
from contextlib import nullcontext
from pathlib import Path
from serein.corpora import synthetic
from serein.evaluation import scores
from serein.evaluation.evaluate import evaluate
from serein.records import Corpus

def progress(fold, epoch):
    if (fold, epoch.epoch) == ("s02", 1):
        os.kill(os.getpid(), signal.SIGKILL)

root, runs, *settings = sys.argv[1:]
corpus = Corpus(name="spoken", utterances=tuple(synthetic.read(Path(root))))
open_progress = lambda plan: nullcontext(progress)
evaluate("li2019", corpus, settings=settings, runs=Path(runs), open_progress=open_progress)
"""


def test_killed_run_is_resumed(corpus: Corpus, root: Path, run: Run, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(root), str(tmp_path), *QUICK]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=120)
    assert ended.returncode == -9, ended.stderr.decode()
    (folder,) = tmp_path.iterdir()
    assert folder.name == run.folder.name
    assert not (folder / "results.json").exists()
    states = sorted((folder / "folds").glob("*.pt"))
    assert [state.name for state in states] == ["s01.pt", "s02.pt"]
    finished = states[0].stat().st_mtime_ns
    told: EpochLog = []
    evaluated(corpus, tmp_path, open_progress=log_epochs(told))
    rest = [("s02", 1), ("s02", 2), *((f"s{n:02}", epoch) for n in (3, 4) for epoch in (1, 2))]
    assert told == [("s01", 2), *rest]  # a resumed fold reports its last epoch
    assert states[0].stat().st_mtime_ns == finished
    assert load_reproducible_part(folder) == load_reproducible_part(run.folder)


class Stopped(Exception):
    pass


def test_run_folder_is_locked_until_the_run_ends(corpus: Corpus, tmp_path: Path) -> None:
    def act(fold: str, epoch: Epoch) -> None:
        with pytest.raises(StorageError, match="in use by another evaluation"):
            evaluated(corpus, tmp_path, "training.epochs=1")
        raise Stopped

    with pytest.raises(Stopped):
        evaluated(corpus, tmp_path, "training.epochs=1", open_progress=log_epochs([], act))
    told: EpochLog = []
    assert evaluated(
        corpus, tmp_path, "training.epochs=1", open_progress=log_epochs(told)
    ).folder.is_dir()
    assert told == [(f"s{n:02}", 1) for n in range(1, 5)]


def test_folder_without_write_access_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(StorageError, match="cannot write in"):
        evaluated(corpus, tmp_path / "runs")


@pytest.mark.parametrize(
    ("setting", "error", "message"),
    [
        ("model.filter=8", UnknownName, "did you mean 'filters'"),
        ("training.epoch=8", UnknownName, "did you mean 'epochs'"),
        ("training.epochs=0", ConfigError, r"training\.epochs = 0"),
        ("protocol.name=leave-one-out", UnknownName, "leave-one-speaker-out"),
        ("protocol.validation=3", ProtocolError, "5 speakers"),
        ("tasks.emotion.label=mood", ConfigError, "task emotion needs two classes"),
        ("normalise.statistics=all", ConfigError, r"normalise\.statistics"),
    ],
)
def test_wrong_settings_are_errors_before_training(
    corpus: Corpus, tmp_path: Path, setting: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        evaluated(corpus, tmp_path, setting)
    assert list(tmp_path.iterdir()) == []


def test_corpus_without_ratings_names_proxy_recipe(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"arousal needs two classes.*zhang2019-proxy-mtl takes"):
        evaluate("zhang2019-mtl", corpus, runs=tmp_path)


def test_duplicate_recording_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    first, *rest = corpus.utterances
    copied = replace(rest[-1], path=first.path)
    with pytest.raises(
        ProtocolError, match=r"the split leaks\. duplicate: .*protocol\.allow=duplicate"
    ):
        evaluated(replace(corpus, utterances=(first, *rest[:-1], copied)), tmp_path)


def test_missing_recording_is_an_error(corpus: Corpus, tmp_path: Path) -> None:
    first, *rest = corpus.utterances
    gone = replace(first, path=tmp_path / "gone.wav")
    with pytest.raises(CorpusError, match=r"gone\.wav cannot be read"):
        evaluated(replace(corpus, utterances=(gone, *rest)), tmp_path)


def test_missing_labels_are_predicted_and_not_scored(corpus: Corpus, tmp_path: Path) -> None:
    utterances = [
        replace(one, gender=None) if one.id.endswith("02-1") else one for one in corpus.utterances
    ]
    results, *_ = evaluated(
        replace(corpus, utterances=tuple(utterances)), tmp_path, "training.epochs=1", seed=3
    )
    assert results.scores["last"]["gender"].utterances == 12
    assert results.scores["last"]["emotion"].utterances == 24
    assert results.warnings == ["12 of 24 utterances have no gender label: predicted, not scored"]
    assert all(len(one.selections["last"]["gender"]) == 2 for one in results.predictions)


@pytest.mark.parametrize("speaker", ["../../out", "/tmp/serein-out", "a/b", "ä ö:*?"])
def test_checkpoint_of_a_fold_stays_in_its_run_folder(
    corpus: Corpus, tmp_path: Path, speaker: str
) -> None:
    named = tuple(
        replace(one, speaker=speaker) if one.speaker == "s01" else one for one in corpus.utterances
    )
    plan = build_plan(
        small_recipe(), replace(corpus, utterances=named), seed=0, device="cpu", runs=tmp_path
    )
    states = [plan.checkpoint_path(fold) for fold in plan.protocol.folds]
    assert {state.resolve().parent for state in states} == {(plan.folder / "folds").resolve()}
    assert len(set(states)) == 4


def test_settings_change_a_recipe_that_is_loaded_already() -> None:
    recipe = small_recipe()
    assert resolve_recipe(recipe) is recipe
    assert resolve_recipe(recipe, ["training.epochs=7"]).training["epochs"] == 7
