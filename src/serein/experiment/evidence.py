"""What evaluations say of a model that is then trained on everything: epochs, doubts, scores."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from statistics import median

from serein.bundle import ConfidenceCalibration
from serein.errors import ConfigError
from serein.metrics.scoring import get_scorer
from serein.records import Recipe
from serein.results.evaluation import Results


def apply_evaluation(recipe: Recipe, evaluation: Results) -> Recipe:
    """The recipe with the epochs that an evaluation's validation speakers chose, if it had any.

    Raises:
        ConfigError: the run leaks, is of another system, or has no folds.
    """
    _check_leak_free(evaluation)
    epochs = median_epoch(evaluation) or recipe.training["epochs"]
    chosen = replace(recipe, training={**recipe.training, "epochs": epochs})
    if cost := median_c(evaluation):
        chosen = replace(chosen, model={**recipe.model, "c": cost})
    _check_same_system(
        recipe, evaluation, ("features", "normalise", "model", "tasks", "augment", "text")
    )
    return chosen


def transfer_confidence(
    recipe: Recipe, classes: Mapping[str, Sequence[str]], evaluation: Results
) -> dict[str, ConfidenceCalibration]:
    """How far a system may be believed, by an evaluation of it on other corpora.

    Raises:
        ConfigError: it is of another system or of other classes, or had no validation speakers.
    """
    _check_leak_free(evaluation)
    _check_same_system(recipe, evaluation, ("features", "normalise", "model", "augment", "text"))
    found = extract_confidence(evaluation)
    if not found:
        raise ConfigError(
            f"{evaluation.name} had no validation speakers, and so nothing that says how sure its "
            "system may be; evaluate with some"
        )
    for task in found:
        if tuple(evaluation.classes[task]) != tuple(classes.get(task, ())):
            raise ConfigError(
                f"{evaluation.name} tells {', '.join(evaluation.classes[task])} of {task} apart, and this "
                f"model {', '.join(classes.get(task, ())) or 'none'}; evaluate on these classes"
            )
    return found


def _check_leak_free(evaluation: Results) -> None:
    leaks = [one for one in evaluation.leakage if one.verdict in ("allowed", "error")]
    if leaks:
        raise ConfigError(
            f"{evaluation.name} has leaks, its epochs and its confidence would flatter the model: "
            f"{leaks[0].words}. Evaluate with folds that no speaker and no recording crosses"
        )


def _check_same_system(recipe: Recipe, evaluation: Results, tables: Sequence[str]) -> None:
    """Refuse an evaluation of another system; how long and by what costs may be chosen anew."""
    asked, found = asdict(recipe), dict(evaluation.recipe)
    free = {
        "training": ("epochs", "smooth", "choose"),
        "model": ("c",) if median_c(evaluation) else (),
    }
    for run in (asked, found):
        for table, names in free.items():
            run[table] = {k: v for k, v in run[table].items() if k not in names}
    wanted = [*tables, "training"]
    if other := [table for table in wanted if asked[table] != found.get(table, {})]:
        raise ConfigError(
            f"{evaluation.name} judged {found['name']} with other settings of {', '.join(other)} than "
            f"{recipe.name}; evaluate this recipe first"
        )


def median_epoch(results: Results) -> int:
    """The median of the epochs that validation chose over the folds, rounded up; 0 without it.

    Raises:
        ConfigError: the run has no folds, or chose in some of them alone.
    """
    chose = ["validation" in fold.epochs for fold in results.folds]
    if chose and not any(chose):
        return 0
    if not chose or not all(chose):
        raise ConfigError(
            f"{results.name} chose no epochs by validation in some folds; evaluate anew"
        )
    return int(median(fold.epochs["validation"] for fold in results.folds) + 0.5)


def median_c(results: Results) -> dict[str, float]:
    """The median of the C that each task of an estimator had over the folds; else empty."""
    tasks = sorted({task for fold in results.folds for task in fold.chosen})
    return {task: median(fold.chosen[task] for fold in results.folds) for task in tasks}


def extract_confidence(results: Results) -> dict[str, ConfidenceCalibration]:
    """Each task's temperature, and the threshold that four answers in five of new speakers reach.

    Both come from speakers that were neither trained on nor tested, whose votes also chose the
    epochs.
    """
    words = (
        f"by the validation speakers of {len(results.folds)} folds of {results.corpus['name']}; "
        "four of five of their utterances reach the threshold"
    )
    return {
        task: ConfidenceCalibration(found.temperature, found.threshold or 0.0, words)
        for task, found in results.calibration.items()
        if found.temperature is not None
    }


def describe_scores(results: Results) -> str:
    """A run's headline, with its protocol and the other selections."""
    task = next(iter(results.classes))
    parts = []
    for selection, meaning in results.selections.items():
        found = results.scores_by_task(selection)[task]
        pairs = [(one, found.score(one.name)) for one in get_scorer(results.classes[task]).metrics]
        told = [one.format_score(score) for one, score in pairs if score is not None]
        if len(told) == len(pairs):
            parts.append(f"{' '.join(told)} ({meaning})")
    split = [results.protocol["name"], results.protocol.get("caution")]
    protocol = ", ".join(str(part) for part in split if part)
    return f"{results.corpus['name']}, {protocol}, {task}: " + "; ".join(parts)
