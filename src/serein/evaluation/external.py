"""Evaluate a model that serein did not build, by the same folds, checks and scores.

A model is a function of a waveform that answers with a label or probabilities; an estimator with
``fit`` and ``predict``, as scikit-learn has, which each fold trains on features; an audio
classifier of transformers; or a table of predictions. One classification task is scored.

n = utterances, K = classes, D = features, T = frames, S = samples.
"""

import copy
import math
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from serein import config, corpora, protocols
from serein.errors import ConfigError
from serein.evaluation import answers
from serein.evaluation.answers import Answers, FixedModel, StepCallback
from serein.evaluation.evaluate import Run, assemble_results
from serein.evaluation.labels import corpus_classes, order_classes
from serein.evaluation.plan import ExternalModel, Plan, check_leakage, lock_folder
from serein.evaluation.pooled_features import (
    FeatureFunction,
    Features,
    compute_features,
    standardize_by_speaker,
)
from serein.evaluation.prediction_table import TableModel, is_prediction_table, read_predictions
from serein.evaluation.provenance import hash_dependencies, package_versions
from serein.evaluation.scores import true_labels
from serein.evaluation.utterance_filter import (
    build_split_config,
    select_utterances,
    split_filtered_corpus,
)
from serein.labels import targets
from serein.records import Corpus, Finding, Fold, Protocol, Recipe
from serein.results import io
from serein.results.evaluation import EXTERNAL, MODEL, Epoch
from serein.tasks.heads import ClassificationConfig
from serein.training.checkpoint import TrainingRun, compute_scores
from serein.training.config import TrainingConfig

TABLES = ("protocol", "tasks")
"""Tables of settings that apply to a model that serein did not build."""
NOT_SPLIT = "not split"
"""Protocol of a model that needs no training, on a corpus whose speakers are unknown."""
UNKNOWN_TRAINING = (
    "this model was not trained here: whether it was trained on the tested utterances or speakers "
    "is not known"
)
ESTIMATOR_METHODS = ("fit", "predict")


def is_estimator(model: object) -> bool:
    """Return whether an object can be trained and predict, as estimators of scikit-learn."""
    return all(callable(getattr(model, key, None)) for key in ESTIMATOR_METHODS)


def evaluate_external(
    model: FixedModel | Any,
    corpus: str | Sequence[str] | Corpus,
    *,
    features: str | Mapping[str, Any] | FeatureFunction | None = None,
    labels: Mapping[str, str] | None = None,
    task: str = "emotion",
    name: str | None = None,
    rate: int = 16_000,
    settings: Sequence[str] = (),
    seed: int = 0,
    runs: Path = Path("runs"),
    on_step: StepCallback = answers.ignore_step,
    by_speaker: bool = False,
    needs_audit: bool = False,
) -> Run:
    """Evaluate a model that serein did not build, and save results as for a recipe.

    Nothing is read from an earlier run: the results replace those of a run with the same name,
    corpus and settings. Utterances without an answer count as errors and are listed.

    Args:
        model: a fixed model; an estimator with ``fit`` and ``predict``; or a table of predictions,
            its path or a data frame.
        corpus: ``NAME``, ``NAME=PATH``, several of them to read as one corpus, or a corpus.
        features: for an estimator; see `compute_features`.
        labels: the corpus's class for each label of the model that is spelled in another way.
        task: name of the corpus's label that the model predicts.
        name: of the model, in reports and in the name of the run.
        rate: sampling rate for a function of features, in Hz.
        settings: of the split and of labels: ``"protocol.name=speaker-k-fold"``,
            ``"tasks.emotion.map.joy=happiness"``.
        seed: of NumPy's, Python's and torch's random numbers while an estimator is trained.
        runs: the folder in which the run folder is created.
        on_step: called with a description, and how much of it is done.
        by_speaker: standardise the features of an estimator by each speaker's own statistics,
            which is optimistic: those of the tested speakers are among them.
        needs_audit: raise an error if nothing of this model can be optimistic.

    Raises:
        SereinError: a setting, the corpus, its split, an answer or a file has a fault.
    """
    is_trained = is_estimator(model)
    if name is None and is_prediction_table(model):
        name = model.stem if isinstance(model, Path) else "predictions"
    name = name or (answers.get_name(model) if is_trained else model.name)
    _check_features(features, name, is_trained=is_trained)
    recipe = _build_recipe(name, task, settings, is_trained=is_trained)
    if by_speaker:
        recipe = replace(recipe, normalise={"statistics": "speaker"})
    corpus = corpora.as_corpus(corpus)
    if is_prediction_table(model):
        known = {*targets.get_task_labels(corpus.utterances, task, recipe)} - {None}
        classes = sorted(map(str, known))
        model = read_predictions(
            model, corpus, task=task, classes=classes, renames=labels, name=name
        )
    if needs_audit:
        _check_audit(model, name, is_trained=is_trained)
    if not is_trained and model.labels:
        recipe = _drop_unknown_classes(recipe, corpus, model.labels, labels or {}, name)
    plan = _build_plan(recipe, corpus, is_trained=is_trained, seed=seed)
    key: list[object] = [
        features if not callable(features) else answers.get_name(features),
        rate,
        labels,
    ]
    key.append(_describe_estimator(model) if is_trained else list(model.key))
    plan = replace(plan, folder=runs / _name_run(plan, key))
    start = time.perf_counter()
    with lock_folder(plan.folder):
        scorer = _Scorer(plan, task, name, labels or {}, on_step)
        if is_trained:
            plan, training_runs = scorer.train_folds(model, features, rate)
        elif isinstance(model, TableModel) and model.epochs:
            plan, training_runs = scorer.score_epochs(model)
        else:
            plan, training_runs = scorer.score_fixed(model)
        elapsed = {"elapsed_seconds": round(time.perf_counter() - start, 1)}
        results = assemble_results(plan, training_runs, elapsed)
        io.save_record(results, plan.folder)
    return Run(results, plan.folder, is_new=True)


def _check_features(features: object, name: str, *, is_trained: bool) -> None:
    if is_trained and features is None:
        raise ConfigError(
            f"{name} is trained on features, and none are given: set features to a front end such "
            "as 'egemaps' or 'logmel', or to a function of a waveform and its rate"
        )
    if not is_trained and features is not None:
        raise ConfigError(
            f"features are for an estimator with fit and predict, and {name} has none of these"
        )


def _check_audit(model: Any, name: str, *, is_trained: bool) -> None:
    """Check that an evaluation of a model can be optimistic.

    Raises:
        ConfigError: nothing is trained or selected.
    """
    if is_trained or (isinstance(model, TableModel) and model.epochs):
        return
    if isinstance(model, TableModel):
        raise ConfigError(
            f"{model.place} has one prediction for each utterance, and an audit (--audit, in "
            "Python audit=True) compares those of several epochs: add a row for each utterance and "
            "epoch, with its number in a column 'epoch'. Or leave the audit out"
        )
    raise ConfigError(
        f"{name} is used as it is: no fold trains it and no epoch is selected, so that an audit "
        "(--audit, in Python audit=True) has nothing to measure; leave it out"
    )


def _describe_estimator(model: Any) -> str:
    parameters = getattr(model, "get_params", None)
    return repr(parameters()) if callable(parameters) else type(model).__name__


def _name_run(plan: Plan, key: Sequence[Any]) -> str:
    dependencies = [
        {**asdict(plan.recipe), "about": {}},
        plan.protocol.listing_hash,
        corpora.fingerprint(plan.corpus, plan.content_hashes),
        plan.seed,
        repr(key),
    ]
    digest = hash_dependencies(dependencies)[:8]
    return quote(f"{plan.recipe.name}-{plan.corpus.name}-seed{plan.seed}-{digest}", safe="")


def _build_recipe(name: str, task: str, settings: Sequence[str], *, is_trained: bool) -> Recipe:
    """Build the recipe of a model that serein did not build: its task and its split.

    Raises:
        ConfigError: a setting is of another table.
    """
    for setting in settings:
        table = setting.strip().partition(".")[0]
        if table not in TABLES:
            raise ConfigError(
                f"{setting!r} cannot change a model that serein did not build; only its split "
                f"(protocol.NAME) and its labels (tasks.{task}.label, .scheme, .map) can be set"
            )
    tables = config.apply_settings({"tasks": {task: {}}, "protocol": {}}, settings)
    if list(tables["tasks"]) != [task]:
        raise ConfigError(
            f"one task of such a model is scored, {task}, and the settings name "
            f"{', '.join(tables['tasks'])}; give the name of the label with task"
        )
    about = {"changed": ", ".join(settings)} if settings else {}
    model = {"name": EXTERNAL, "trained": is_trained}
    recipe = _make_recipe(name, about=about, model=model, **tables)
    if targets.is_regression(task, recipe):
        raise ConfigError(
            f"tasks.{task}.scheme=values: models that serein did not build are scored by classes"
        )
    config.build_config(ClassificationConfig, recipe.tasks[task], f"tasks.{task}")
    return recipe


def _make_recipe(name: str, **tables: dict[str, Any]) -> Recipe:
    empty: dict[str, dict[str, Any]] = {
        table: {} for table in ("about", "features", "normalise", "model", "training", "protocol")
    }
    return Recipe(name=name, **{**empty, "tasks": {}, **tables})


def _drop_unknown_classes(
    recipe: Recipe, corpus: Corpus, labels: Sequence[str], renames: Mapping[str, str], name: str
) -> Recipe:
    """Leave out the utterances whose class a model does not have."""
    (task,) = recipe.tasks
    raw_labels = targets.get_raw_labels(corpus.utterances, task, recipe)
    classes = targets.get_task_labels(corpus.utterances, task, recipe)
    present = sorted({str(label) for label in classes if label is not None})
    if not present:
        return recipe  # the error about it is that of every evaluation
    known = {*answers.map_labels(labels, present, renames, name, corpus.name).values()}
    dropped = {
        str(raw): ""
        for raw, label in zip(raw_labels, classes, strict=True)
        if label is not None and label not in known
    }
    table = recipe.tasks[task]
    return replace(recipe, tasks={task: {**table, "map": {**table.get("map", {}), **dropped}}})


def _build_plan(recipe: Recipe, corpus: Corpus, *, is_trained: bool, seed: int) -> Plan:
    """Select the utterances, split them, and check the split for leaks."""
    filtered = select_utterances(corpus, recipe)
    (task,) = recipe.tasks
    classes = corpus_classes(filtered.corpus, recipe)
    labels = targets.get_task_labels(filtered.corpus.utterances, task, recipe)
    of_id = {
        utterance.id: None if label is None else str(label)
        for utterance, label in zip(filtered.corpus.utterances, labels, strict=True)
    }
    speakers = {utterance.speaker for utterance in filtered.corpus.utterances}
    if not is_trained and not recipe.protocol and (None in speakers or len(speakers) < 2):
        ids = tuple(utterance.id for utterance in filtered.corpus.utterances)
        fold = Fold(name="all", train=(), validation=(), test=ids)
        split = Protocol(name=NOT_SPLIT, validation="none", folds=(fold,))
    else:
        split = split_filtered_corpus(filtered, build_split_config(recipe), of_id)
    hashes = corpora.hash_contents(filtered.corpus.utterances)
    plan = Plan(
        recipe=recipe,
        corpus=filtered.corpus,
        content_hashes=hashes,
        classes=order_classes(filtered.corpus, recipe, split, classes),
        mapping=filtered.mapping,
        protocol=split,
        training=TrainingConfig(epochs=1, select_by="none"),
        seed=seed,
        device="cpu",
        folder=Path(),
        left_out=filtered.left_out,
    )
    leakage = check_leakage(plan, hashes, compare_audio=True)
    leakage = tuple(_adapt_finding(finding, is_trained=is_trained) for finding in leakage)
    protocols.raise_on_leaks(leakage)
    return replace(plan, leakage=leakage, protocol=protocols.add_cautions(split, leakage))


def _adapt_finding(finding: Finding, *, is_trained: bool) -> Finding:
    """Adapt a finding of the leakage check to a model of which serein knows only the answers."""
    if finding.kind == "normalisation":
        if finding.verdict != "clean":  # the optimistic variant of an audit
            text = finding.description.replace("frames", "vectors", 1)
            return replace(finding, description=text)
        text = "how the model standardises its input is not known"
        if is_trained:
            text = "the estimator is fitted on the training subset of each fold alone"
        return replace(finding, verdict="clean" if is_trained else "unknown", description=text)
    if finding.verdict == "error" and not is_trained:
        return replace(finding, verdict="warning")  # no fold trains anything
    return finding


@dataclass
class _Scorer:
    """Turns answers into the training runs that results are assembled from.

    Attributes:
        plan: the plan.
        task: the scored task.
        name: of the model.
        renames: class of each label that is spelled in another way.
        on_step: reports progress.
    """

    plan: Plan
    task: str
    name: str
    renames: Mapping[str, str]
    on_step: StepCallback

    def score_fixed(self, model: FixedModel) -> tuple[Plan, dict[str, TrainingRun]]:
        """Collect the answers of a model that is used as it is, and score each fold."""
        folds = self.plan.protocol.folds
        has_validation = not isinstance(model, TableModel)
        tested = {id_ for fold in folds for id_ in fold.test}
        validation = {id_ for fold in folds for id_ in fold.validation} if has_validation else set()
        utterances = [u for u in self.plan.corpus.utterances if u.id in tested | validation]
        started = time.perf_counter()
        collected = model.answer(utterances, self.on_step)
        seconds = time.perf_counter() - started
        if isinstance(model, TableModel):
            model.check_folds(self.plan.protocol)
        mapped = self._map_labels(collected.labels)
        plan = self._complete_plan(collected, model.meaning, model.environment, mapped)
        if not getattr(model, "has_folds", False):
            plan = _add_caution(plan, UNKNOWN_TRAINING)
        merged = {id_: answers.merge_labels(p, mapped) for id_, p in collected.of.items()}
        share = seconds / len(folds)
        runs = {
            fold.name: self._build_run(plan, fold, merged, share, validates=has_validation)
            for fold in folds
        }
        return plan, runs

    def score_epochs(self, model: TableModel) -> tuple[Plan, dict[str, TrainingRun]]:
        """Score the answers of every epoch in a table, so that an epoch is selected as in training.

        Raises:
            ConfigError: the folds of the table are others, or an epoch lacks utterances.
        """
        by_fold, has_validation = model.select_epochs(self.plan.protocol)
        mapped = self._map_labels(model.found.labels)
        most = max(map(len, by_fold.values()))
        plan = self._complete_plan(
            model.found,
            model.meaning,
            model.environment,
            mapped,
            notes=(_describe_epoch_numbers(by_fold),),
            selections=("validation",) * has_validation + ("last", "test"),
        )
        select_by: Any = "first" if has_validation else "none"
        plan = replace(plan, training=TrainingConfig(epochs=most, select_by=select_by))
        if not model.has_folds:
            plan = _add_caution(plan, UNKNOWN_TRAINING)
        runs = {}
        for number, fold in enumerate(plan.protocol.folds, 1):
            run = TrainingRun()
            for epoch, found in enumerate(by_fold[fold.name].values(), 1):
                merged = {id_: answers.merge_labels(p, mapped) for id_, p in found.of.items()}
                own = self._build_run(plan, fold, merged, 0.0, validates=has_validation)
                run.epochs.append(replace(own.epochs[0], epoch=epoch))
                run.predictions += own.predictions
            runs[fold.name] = run
            self.on_step(f"folds of {self.name}", number, len(plan.protocol.folds))
        return plan, runs

    def train_folds(
        self, model: Any, features: Any, rate: int
    ) -> tuple[Plan, dict[str, TrainingRun]]:
        """Train a copy of an estimator on each fold, and score it."""
        plan = self.plan
        computed = compute_features(
            features,
            plan.corpus.utterances,
            plan.content_hashes,
            rate=rate,
            on_step=self.on_step,
        )
        if plan.recipe.normalise.get("statistics") == "speaker":
            computed = standardize_by_speaker(computed, plan.corpus.utterances)
        tested = {id_ for fold in plan.protocol.folds for id_ in fold.test}
        collected = Answers(missed={i: why for i, why in computed.missed.items() if i in tested})
        outputs: dict[str, tuple[dict[str, dict[str, float]], float]] = {}
        for number, fold in enumerate(plan.protocol.folds, 1):
            started = time.perf_counter()
            own = self._train_fold(model, fold, computed)
            outputs[fold.name] = own.of, time.perf_counter() - started
            collected.of |= own.of
            collected.has_probabilities |= own.has_probabilities
            self.on_step(f"folds of {self.name}", number, len(plan.protocol.folds))
        meaning = f"{self.name} on {computed.description}, fitted on each fold's training subset"
        if any(fold.validation for fold in plan.protocol.folds):
            meaning += "; the validation speakers only calibrate the confidence"
        mapped = self._map_labels(collected.labels)
        environment = {
            "features": computed.description,
            "estimator": " ".join(repr(model).split()),
            "versions": package_versions() | _collect_versions(model),
        }
        untrained = sorted(computed.missed.keys() - collected.missed.keys())
        notes = answers.describe_missed(
            {id_: computed.missed[id_] for id_ in untrained}, "utterances are not trained on"
        )
        plan = self._complete_plan(
            collected, meaning, environment, mapped, is_trained=True, notes=(notes,)
        )
        merged = {
            name: ({id_: answers.merge_labels(p, mapped) for id_, p in of.items()}, seconds)
            for name, (of, seconds) in outputs.items()
        }
        runs = {
            fold.name: self._build_run(plan, fold, *merged[fold.name], validates=True)
            for fold in plan.protocol.folds
        }
        return plan, runs

    def _map_labels(self, labels: Sequence[str]) -> dict[str, str]:
        classes = self.plan.classes[self.task]
        return answers.map_labels(labels, classes, self.renames, self.name, self.plan.corpus.name)

    def _train_fold(self, model: Any, fold: Fold, computed: Features) -> Answers:
        """Train a copy of an estimator on a fold; return its answers for the other subsets."""
        plan = self.plan
        utterances = [u for u in plan.corpus.select(fold.train) if u.id in computed.of]
        labels = targets.get_task_labels(utterances, self.task, plan.recipe)
        pairs = [
            (computed.of[utterance.id], str(label))
            for utterance, label in zip(utterances, labels, strict=True)
            if label is not None
        ]
        ids = [id_ for id_ in (*fold.validation, *fold.test) if id_ in computed.of]
        if not pairs or not ids:
            raise ConfigError(
                f"fold {fold.name} has {len(pairs)} training utterances and {len(ids)} others with "
                "features; expected some of both"
            )
        x_nd, labels_n = np.stack([x_d for x_d, _ in pairs]), np.array([y for _, y in pairs])
        other_nd = np.stack([computed.of[id_] for id_ in ids])
        with _seed_generators(plan.seed):
            try:
                estimator = _copy_estimator(model)
                estimator.fit(x_nd, labels_n)
                has_probabilities = hasattr(estimator, "predict_proba")
                predict = estimator.predict_proba if has_probabilities else estimator.predict
                output_n = np.asarray(predict(other_nd))
            except Exception as error:  # a user's estimator may raise anything
                raise ConfigError(
                    f"{self.name} fails in fold {fold.name}, on {len(x_nd)} vectors of "
                    f"{x_nd.shape[1]} numbers and {len({*labels_n.tolist()})} classes: "
                    f"{type(error).__name__}: {' '.join(str(error).split())}"
                ) from error
        if len(output_n) != len(ids):
            raise ConfigError(
                f"{self.name} gave {len(output_n)} answers for {len(ids)} utterances in fold "
                f"{fold.name}; expected one for each"
            )
        order = getattr(estimator, "classes_", sorted({*labels_n.tolist()}))
        found = Answers()
        for id_, row in zip(ids, output_n, strict=True):
            answer = row if has_probabilities else str(row)
            found.add(id_, answer, [str(label) for label in order])
        return found

    def _complete_plan(
        self,
        collected: Answers,
        meaning: str,
        environment: Mapping[str, object],
        mapped: Mapping[str, str],
        *,
        is_trained: bool = False,
        notes: Sequence[str] = (),
        selections: tuple[str, ...] = (MODEL,),
    ) -> Plan:
        """Add the model's further classes and the description of its answers to the plan."""
        classes = self.plan.classes[self.task]
        others = sorted({*mapped.values()} - {*classes})
        texts = [*notes, answers.describe_missed(collected.missed, "utterances without an answer")]
        if collected.missed:
            texts[-1] += "; they count as errors"
        if others:
            texts.append(
                f"answers of {', '.join(others)} are always wrong: {self.plan.corpus.name} has no "
                "such class"
            )
        if not collected.has_probabilities:
            texts.append(
                f"{self.name} gives labels without probabilities: calibration and confident errors "
                "are not measured"
            )
        external = ExternalModel(
            meaning=meaning,
            is_trained=is_trained,
            has_probabilities=collected.has_probabilities,
            environment=environment,
            notes=tuple(filter(None, texts)),
            selections=selections,
        )
        return replace(
            self.plan,
            classes={self.task: (*classes, *others)},
            external=external,
        )

    def _build_run(
        self,
        plan: Plan,
        fold: Fold,
        shares_of: Mapping[str, Mapping[str, float]],
        seconds: float,
        *,
        validates: bool,
    ) -> TrainingRun:
        """Build the training run of a fold, of one epoch, from the answers for its utterances."""
        classes = plan.classes[self.task]
        ids_of = {"validation": fold.validation if validates else (), "test": fold.test}
        predictions, scores = {}, {}
        for subset, ids in ids_of.items():
            if not ids:
                continue
            labels = [
                true_labels(utterance, plan.recipe, plan.classes)[self.task]
                for utterance in plan.corpus.select(ids)
            ]
            rows = [
                shares_of.get(id_) or answers.wrong_answer(classes, str(label))
                for id_, label in zip(ids, labels, strict=True)
            ]
            p_nk = torch.tensor([[row.get(name, 0.0) for name in classes] for row in rows])
            numbers = [-1 if label is None else classes.index(str(label)) for label in labels]
            predictions[subset] = {self.task: p_nk}
            scores[subset] = {self.task: compute_scores(p_nk, torch.tensor(numbers))}
        epoch = Epoch(epoch=1, loss=math.nan, seconds=seconds, scores=scores)
        return TrainingRun(epochs=[epoch], predictions=[predictions])


def _add_caution(plan: Plan, text: str) -> Plan:
    caution = protocols.join_cautions(plan.protocol.caution, text)
    return replace(plan, protocol=replace(plan.protocol, caution=caution))


def _describe_epoch_numbers(by_fold: Mapping[str, Mapping[int, Answers]]) -> str:
    """Return a note where epochs are counted differently in a table; empty if they are not."""
    for epochs in by_fold.values():
        numbers = list(epochs)
        if numbers != list(range(1, len(numbers) + 1)):
            listing = ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
            return f"the epochs {listing} of the table are counted from 1 to {len(numbers)} here"
    return ""


def _copy_estimator(model: Any) -> Any:
    """Return an unfitted copy of an estimator."""
    if hasattr(model, "get_params"):
        try:
            from sklearn.base import clone
        except ImportError:
            return copy.deepcopy(model)
        return clone(model)
    return copy.deepcopy(model)


def _collect_versions(model: Any) -> dict[str, str]:
    """Return the version of the package that a model comes from, if it has one."""
    package = type(model).__module__.partition(".")[0]
    try:
        return {package: str(import_module(package).__version__)}
    except (ImportError, AttributeError):
        return {}


@contextmanager
def _seed_generators(seed: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's random numbers within a block, and restore them."""
    python_state, numpy_state = random.getstate(), np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
