"""Separate networks for each task (model.separate), and early stopping on validation."""

from pathlib import Path

import pytest
import torch
from builders.small_systems import QUICK, random_subset, small_recipe, small_system

from serein import bundle, system
from serein.bundle import Bundle, Card
from serein.errors import ConfigError
from serein.evaluation.evaluate import evaluate
from serein.records import Corpus
from serein.results.evaluation import Epoch
from serein.training.checkpoint import TrainingRun
from serein.training.config import TrainingConfig
from serein.training.dataset import Subset
from serein.training.loop import fit

SEPARATE = "model.separate=true"


def test_separate_networks_share_no_parameters() -> None:
    made = small_system(SEPARATE)
    subset = random_subset([9, 12, 7, 10])
    batch = next(subset.iter_batches(4, range(4)))
    output = made(batch.inputs)
    output.logits["gender"].sum().backward()
    moved = {name for name, x in made.named_parameters() if x.grad is not None and x.grad.any()}
    assert moved
    assert all(name.startswith(("model.models.1.", "heads.gender.")) for name in moved)
    sizes = [sum(x.numel() for x in model.parameters()) for model in made.model.models]  # type: ignore[attr-defined]
    assert sizes[0] == sizes[1] == sum(x.numel() for x in small_system().model.parameters())  # type: ignore[attr-defined]


def test_training_separate_networks_together_equals_training_each_alone() -> None:
    """One batch an epoch and no dropout, so that order and random draws do not differ."""
    subset = random_subset([9, 12, 7, 10])
    settings = TrainingConfig(epochs=3, batch=4, clip=0.01, weight_decay=1e-3, decay=0.1)
    together = small_system(SEPARATE, "model.dropout=0")
    start = {name: x.clone() for name, x in together.state_dict().items()}
    fit(together, subset, {}, settings)
    for index, (task, other) in enumerate((("emotion", "gender"), ("gender", "emotion"))):
        alone = small_system(f"tasks.{other}=remove", "model.dropout=0")
        alone.load_state_dict({n: start[_ensemble_name(n, index)] for n in alone.state_dict()})
        fit(alone, Subset(subset.ids, subset.frames, {task: subset.targets[task]}), {}, settings)
        for name, x in alone.state_dict().items():
            torch.testing.assert_close(x, together.state_dict()[_ensemble_name(name, index)])


def _ensemble_name(name: str, index: int) -> str:
    return name.replace("model.", f"model.models.{index}.", 1) if name[:6] == "model." else name


def test_attention_maps_have_the_name_of_their_task() -> None:
    subset = random_subset([9, 12])
    batch = next(subset.iter_batches(2, range(2)))
    assert set(small_system()(batch.inputs).attention) == {"heads"}
    assert set(small_system(SEPARATE)(batch.inputs).attention) == {
        "emotion: heads",
        "gender: heads",
    }


def test_a_model_of_separate_networks_is_saved_and_loaded(tmp_path: Path) -> None:
    made = small_system(SEPARATE)
    bundle.save(Bundle(made, Card(name="separate")), tmp_path / "m.safetensors")
    read = bundle.load(tmp_path / "m.safetensors").system
    batch = next(random_subset([9, 12]).iter_batches(2, range(2)))
    found, wanted = read(batch.inputs).logits, made.eval()(batch.inputs).logits
    assert all(torch.equal(found[task], wanted[task]) for task in wanted)


def test_separate_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match=r"model\.separate = 'often'; expected true or false"):
        system.check_recipe(small_recipe("model.separate=often"))


def build_history(*scores: tuple[float | None, float | None]) -> TrainingRun:
    by_epoch = [{"validation": {"a": {"ua": a}, "b": {"ua": b}}} for a, b in scores]
    return TrainingRun(
        [Epoch(epoch=n, loss=1, seconds=1, scores=s) for n, s in enumerate(by_epoch, 1)]
    )


def test_best_epoch_of_several_tasks_compares_their_mean() -> None:
    run = build_history((0.9, 0.1), (0.6, 0.6), (0.5, None), (None, None))
    assert run.best_epoch("validation", ["a"]) == 1
    assert run.best_epoch("validation", ["b"]) == 2
    assert run.best_epoch("validation", ["a", "b"]) == 2
    assert build_history((None, None), (0.1, None)).best_epoch("validation", ["a", "b"]) == 2


def test_should_stop_ends_the_training(tmp_path: Path) -> None:
    subset, seen = random_subset([9, 12, 7, 10]), list[int]()
    config, path = TrainingConfig(epochs=9, batch=2), tmp_path / "state.pt"

    def fit_up_to(epochs: int) -> TrainingRun:
        return fit(
            small_system(),
            subset,
            {"test": subset},
            config,
            checkpoint=path,
            on_epoch_end=lambda epoch: seen.append(epoch.epoch),
            should_stop=lambda run: len(run.epochs) >= epochs,
        )

    assert len(fit_up_to(2).epochs) == 2
    assert len(fit_up_to(2).epochs) == 2
    assert len(fit_up_to(3).epochs) == 3
    assert seen == [1, 2, 2, 2, 3]


def test_patience_ends_a_fold_and_results_say_so(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "training.epochs=5", "training.patience=1", "training.select_by=mean"]
    results = evaluate("li2019", corpus, settings=settings, runs=tmp_path).results
    assert results.selections["validation"].startswith("the epoch with the best mean UA of emotion")
    assert results.selections["last"] == (
        "the last epoch; a fold ends after 1 epochs without a better one"
    )
    for fold in results.folds:
        means = [
            sum(x["ua"] or 0 for x in e.scores["validation"].values()) / 2 for e in fold.history
        ]
        grew = [later > max(means[: n + 1]) for n, later in enumerate(means[1:])]
        assert all(grew[:-1])
        assert len(fold.history) == 5 or not grew[-1]
    assert min(len(fold.history) for fold in results.folds) < 5
