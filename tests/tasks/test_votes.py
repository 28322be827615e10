"""The contract of tasks that train on votes: targets, loss, and what is refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from builders.small_systems import CLASSES, random_subset, small_recipe, small_system
from builders.training import CONFIG, train_small
from torch.nn import functional as F

from serein import config, recipes, system
from serein.errors import ConfigError
from serein.labels.votes import vote_target_name
from serein.records import Utterance
from serein.tasks.heads import ClassificationConfig, ClassificationTask
from serein.training.dataset import Subset, trim_padding

VOTES = "tasks.emotion.targets=votes"
NAN = float("nan")
LENGTHS = [6, 9, 12, 15] * 3


def build_task(**settings: object) -> ClassificationTask:
    torch.manual_seed(0)
    own = config.build_config(ClassificationConfig, {"targets": "votes", **settings}, "tasks.mood")
    return ClassificationTask(own, 4, CLASSES["emotion"])


def draw_logits(count: int) -> torch.Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(1))


def test_targets_of_utterances_without_votes_are_nan() -> None:
    votes_bk = build_task().vote_targets([(0.75, 0.25, 0.0), None])
    assert votes_bk[0].tolist() == [0.75, 0.25, 0.0]
    assert votes_bk[1].isnan().all()
    assert build_task().vote_targets([]).shape == (0, 3)


def test_the_loss_is_the_cross_entropy_to_the_votes() -> None:
    task, logits_bk = build_task(), draw_logits(2)
    votes_bk = torch.tensor([[0.75, 0.25, 0.0], [0.5, 0.0, 0.5]])
    found = task.loss(logits_bk, torch.tensor([1, -1]), votes_bk)
    assert torch.isclose(found, F.cross_entropy(logits_bk, votes_bk))


@pytest.mark.parametrize("settings", [{}, {"smoothing": 0.2}, {"class_weights": "balanced"}])
def test_votes_for_one_class_give_the_loss_of_the_label(settings: dict[str, object]) -> None:
    task, logits_bk = build_task(**settings), draw_logits(5)
    target_b = torch.tensor([0, 2, 2, -1, 1])
    task.fit_statistics(target_b)
    plain = task.loss(logits_bk, target_b)
    missing = torch.full((5, 3), NAN)
    assert torch.isclose(task.loss(logits_bk, target_b, missing), plain)
    one_hot = F.one_hot(target_b.clamp(min=0), 3).float()
    one_hot[3] = NAN
    assert torch.isclose(task.loss(logits_bk, target_b, one_hot), plain)


def test_an_utterance_without_votes_and_label_has_no_gradient() -> None:
    task, logits_bk = build_task(), draw_logits(3).requires_grad_()
    votes_bk = task.vote_targets([None, (0.5, 0.5, 0.0), None])
    loss = task.loss(logits_bk, torch.tensor([0, -1, -1]), votes_bk)
    (gradient,) = torch.autograd.grad(loss, logits_bk)
    assert (gradient != 0).any(dim=1).tolist() == [True, True, False]
    nothing = task.loss(draw_logits(3), torch.tensor([-1, -1, -1]), task.vote_targets([None] * 3))
    assert nothing.item() == 0


def test_balanced_and_smoothed_loss_equals_that_of_torch() -> None:
    task, logits_bk = build_task(class_weights="balanced", smoothing=0.1), draw_logits(4)
    task.fit_statistics(torch.tensor([0, 0, 0, 1, 2]))
    votes_bk = torch.tensor([[0.6, 0.4, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.2, 0.3, 0.5]])
    found = task.loss(logits_bk, torch.tensor([0, 2, 0, -1]), votes_bk)
    total = F.cross_entropy(
        logits_bk, votes_bk, task.weights_k, label_smoothing=0.1, reduction="sum"
    )
    assert torch.isclose(found, total / (votes_bk * task.weights_k).sum())


def voted_subset() -> Subset:
    """Return a subset in which votes contradict most labels, and half have none."""
    subset = random_subset(LENGTHS)
    votes_nk = torch.full((12, 3), NAN)
    votes_nk[::2] = torch.tensor([0.0, 0.25, 0.75])
    return Subset(
        subset.ids,
        subset.frames,
        {**subset.targets, vote_target_name("emotion"): votes_nk},
    )


def test_votes_change_the_training_and_are_not_scored_as_labels() -> None:
    subset = voted_subset()
    plain_subset = replace(subset, targets=random_subset(LENGTHS).targets)
    short = replace(CONFIG, epochs=1)
    _, voted = train_small(short, train=subset, eval_subsets={"test": subset}, changes=(VOTES,))
    _, plain = train_small(short, train=plain_subset, eval_subsets={"test": subset})
    assert voted.epochs[-1].loss != plain.epochs[-1].loss
    assert set(voted.epochs[-1].scores["test"]) == {"emotion", "gender"}


def test_batches_keep_the_rows_of_votes() -> None:
    subset = voted_subset()
    name = vote_target_name("emotion")
    (batch,) = subset.iter_batches(12)
    assert batch.targets[name].shape == (12, 3)
    zeros = torch.zeros(2, 3)
    assert trim_padding(zeros).shape == (2, 3)


def test_a_system_has_the_votes_of_its_utterances() -> None:
    utterances = [
        Utterance(id="1", path=Path("1.wav"), labels={"emotion_votes": "anger=3, envy=1"}),
        Utterance(id="2", path=Path("2.wav"), labels={"emotion": "sadness"}),
    ]
    targets = small_system(VOTES).targets(utterances)
    assert targets[vote_target_name("emotion")][0].tolist() == [1, 0, 0]
    assert targets["emotion"].tolist() == [-1, 2]
    assert vote_target_name("emotion") not in small_system().targets(utterances)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["tasks.emotion.targets=crowd"], "tasks.emotion.targets = 'crowd'"),
        (
            ["tasks.arousal={name='dimensions', scheme='values', targets='votes'}"],
            "targets = 'votes' applies to classes",
        ),
    ],
)
def test_where_votes_cannot_train(settings: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        system.check_recipe(small_recipe(*settings))


def test_an_estimator_is_fitted_to_classes() -> None:
    with pytest.raises(ConfigError, match="svm is fitted to classes"):
        system.check_recipe(recipes.load("egemaps-svm", [VOTES]))
