"""Networks apart are trainings apart; and trainings that validation ends."""

from pathlib import Path

import pytest
import torch
from builders.small_systems import QUICK, random_side, small_recipe, small_system

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

APART = "model.separate=true"


def test_networks_apart_share_nothing() -> None:
    made = small_system(APART)
    side = random_side([9, 12, 7, 10])
    batch = next(side.iter_batches(4, range(4)))
    output = made(batch.inputs)
    output.logits["gender"].sum().backward()
    moved = {name for name, x in made.named_parameters() if x.grad is not None and x.grad.any()}
    assert moved
    assert all(name.startswith(("model.models.1.", "heads.gender.")) for name in moved)
    sizes = [sum(x.numel() for x in model.parameters()) for model in made.model.models]  # type: ignore[attr-defined]
    assert sizes[0] == sizes[1] == sum(x.numel() for x in small_system().model.parameters())  # type: ignore[attr-defined]


def test_training_them_together_is_training_each_by_itself() -> None:
    """One batch an epoch and no dropout: order and chance are the same for all."""
    side = random_side([9, 12, 7, 10])
    settings = TrainingConfig(epochs=3, batch=4, clip=0.01, weight_decay=1e-3, decay=0.1)
    together = small_system(APART, "model.dropout=0")
    start = {name: x.clone() for name, x in together.state_dict().items()}
    fit(together, side, {}, settings)
    for place, (task, other) in enumerate((("emotion", "gender"), ("gender", "emotion"))):
        alone = small_system(f"tasks.{other}=remove", "model.dropout=0")
        alone.load_state_dict({n: start[_its_name(n, place)] for n in alone.state_dict()})
        fit(alone, Subset(side.ids, side.frames, {task: side.targets[task]}), {}, settings)
        for name, x in alone.state_dict().items():
            torch.testing.assert_close(x, together.state_dict()[_its_name(name, place)])


def _its_name(name: str, place: int) -> str:
    return name.replace("model.", f"model.models.{place}.", 1) if name[:6] == "model." else name


def test_maps_are_told_apart_by_their_task() -> None:
    side = random_side([9, 12])
    batch = next(side.iter_batches(2, range(2)))
    assert set(small_system()(batch.inputs).attention) == {"heads"}
    assert set(small_system(APART)(batch.inputs).attention) == {"emotion: heads", "gender: heads"}


def test_a_model_of_networks_apart_is_saved_as_it_was(tmp_path: Path) -> None:
    made = small_system(APART)
    bundle.save(Bundle(made, Card(name="apart")), tmp_path / "m.safetensors")
    read = bundle.load(tmp_path / "m.safetensors").system
    batch = next(random_side([9, 12]).iter_batches(2, range(2)))
    found, wanted = read(batch.inputs).logits, made.eval()(batch.inputs).logits
    assert all(torch.equal(found[task], wanted[task]) for task in wanted)


def test_apart_is_yes_or_no() -> None:
    with pytest.raises(ConfigError, match=r"model\.apart = 'often'; expected true or false"):
        system.check_recipe(small_recipe("model.separate=often"))


def watched(*scores: tuple[float | None, float | None]) -> TrainingRun:
    sides = [{"validation": {"a": {"ua": a}, "b": {"ua": b}}} for a, b in scores]
    return TrainingRun(
        [Epoch(epoch=n, loss=1, seconds=1, scores=s) for n, s in enumerate(sides, 1)]
    )


def test_several_tasks_choose_by_their_mean() -> None:
    course = watched((0.9, 0.1), (0.6, 0.6), (0.5, None), (None, None))
    assert course.best_epoch("validation", ["a"]) == 1
    assert course.best_epoch("validation", ["b"]) == 2
    assert course.best_epoch("validation", ["a", "b"]) == 2
    assert watched((None, None), (0.1, None)).best_epoch("validation", ["a", "b"]) == 2


def test_a_training_that_had_enough_does_not_go_on(tmp_path: Path) -> None:
    side, told = random_side([9, 12, 7, 10]), list[int]()
    settings, state = TrainingConfig(epochs=9, batch=2), tmp_path / "state.pt"

    def once(enough: int) -> TrainingRun:
        return fit(
            small_system(),
            side,
            {"test": side},
            settings,
            checkpoint=state,
            on_epoch_end=lambda epoch: told.append(epoch.epoch),
            should_stop=lambda course: len(course.epochs) >= enough,
        )

    assert len(once(2).epochs) == 2
    assert len(once(2).epochs) == 2
    assert len(once(3).epochs) == 3
    assert told == [1, 2, 2, 2, 3]


def test_validation_ends_a_fold_and_the_report_says_so(corpus: Corpus, tmp_path: Path) -> None:
    settings = [*QUICK, "training.epochs=5", "training.patience=1", "training.select_by=mean"]
    results = evaluate("li2019", corpus, settings=settings, runs=tmp_path).results
    assert results.selections["validation"].startswith("the epoch with the best mean UA of emotion")
    assert results.selections["last"] == (
        "the last epoch; a fold ends when 1 have brought no better one"
    )
    for fold in results.folds:
        means = [
            sum(x["ua"] or 0 for x in e.scores["validation"].values()) / 2 for e in fold.history
        ]
        grew = [later > max(means[: n + 1]) for n, later in enumerate(means[1:])]
        assert all(grew[:-1])
        assert len(fold.history) == 5 or not grew[-1]
    assert min(len(fold.history) for fold in results.folds) < 5
