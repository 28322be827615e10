"""Linear discriminant analysis against nuisances, beside its formulas and scikit-learn."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from serein import recipes
from serein.errors import ConfigError, UnknownName
from serein.evaluation.plan import build_training_config
from serein.layers.outputs import Examples
from serein.models.lda import (
    CLIP,
    MIN_DEVIATION,
    PENALTIES,
    SHARE_COUNT,
    SHARES,
    ClassMoments,
    Config,
    Model,
    compute_vote_weights,
    interpolate_weights,
)
from serein.system import check_recipe
from serein.tasks.heads import ClassificationConfig, ClassificationTask, RegressionTask

Array = np.ndarray[Any, np.dtype[np.float64]]
CLASSES = ("anger", "neutral", "sadness")


class Shrunk:
    """A covariance that is shrunk as in the module, for scikit-learn."""

    def fit(self, x_nd: Array) -> "Shrunk":
        covariance_dd = np.cov(x_nd.T, bias=True)
        size = len(covariance_dd)
        average = np.trace(covariance_dd) / size
        self.covariance_ = 0.7 * covariance_dd + 0.3 * average * np.eye(size)
        return self


def make_data(seed: int = 0) -> tuple[Tensor, Tensor, list[Hashable]]:
    """Two corpora of three classes with an offset between them, a third of neutral speech."""
    rng = np.random.default_rng(seed)
    sizes = {"lab": 60, "crowd": 200, "read": 40}
    x: list[Array] = []
    targets: list[int] = []
    groups: list[Hashable] = []
    for number, (group, size) in enumerate(sizes.items()):
        c_n = rng.integers(3, size=size) if group != "read" else np.ones(size, int)
        means = np.array([[2, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 2, 0, 0, -1]])
        offset = np.array([0.0, 0, 3, 0, 2]) * number
        noise = rng.normal(size=(size, 5)) * [1, 1, 1, 4, 1]
        x.append(means[c_n] + offset + noise)
        targets += c_n.tolist()
        groups += [(group,)] * size
    targets[3] = -1
    return torch.tensor(np.concatenate(x)).float(), torch.tensor(targets), groups


def build(config: Config, width: int = 5) -> tuple[Model, ClassificationTask]:
    model = Model(config, width, ("emotion",))
    return model, ClassificationTask(ClassificationConfig(), width, CLASSES)


def fit(
    config: Config,
    x_nd: Tensor,
    target_n: Tensor,
    *,
    copies: Sequence[Tensor] = (),
    groups: Sequence[Hashable] = (),
    votes: Tensor | None = None,
) -> tuple[Model, ClassificationTask]:
    model, task = build(config, x_nd.shape[1])
    examples = Examples(
        {"emotion": x_nd},
        {"emotion": target_n},
        [{"emotion": copy_nd} for copy_nd in copies],
        groups,
        {} if votes is None else {"emotion": votes},
    )
    assert model.fit(examples, None, {"emotion": task}) == {}
    return model, task


def standardize(x_nd: Array, every: Array) -> Array:
    return ((x_nd - every.mean(axis=0)) / (every.std(axis=0) + MIN_DEVIATION)).clip(-CLIP, CLIP)


def literal_discriminant(
    views: list[Array], target_n: Array, groups: Sequence[Hashable], config: Config
) -> tuple[Array, Array]:
    """The formulas of the module, utterance by utterance."""
    every = np.concatenate(views)
    views = [standardize(x_nd, every) for x_nd in views]
    size = every.shape[1]
    cells = sorted({(g, int(c)) for g, c in zip(groups, target_n, strict=True) if c >= 0}, key=repr)
    within, changed = np.zeros((size, size)), np.zeros((size, size))
    means: dict[tuple[Hashable, int], Array] = {}
    for cell in cells:
        rows = [n for n, own in enumerate(zip(groups, target_n, strict=True)) if own == cell]
        means[cell] = np.mean([view[n] for view in views for n in rows], axis=0)
        for view in views:
            for n in rows:
                difference = view[n] - means[cell]
                within += np.outer(difference, difference) / (len(rows) * len(views) * len(cells))
        for view in views[1:]:
            for n in rows:
                difference = view[n] - views[0][n]
                changed += np.outer(difference, difference) / (
                    len(rows) * (len(views) - 1) * len(cells)
                )
    several = {g for g, _ in cells if len({c for h, c in cells if h == g}) > 1}
    centre = {
        c: np.mean([means[g, k] for g, k in cells if k == c and g in several], axis=0)
        for c in range(3)
    }
    between, count = np.zeros((size, size)), sum(g in several for g, _ in cells)
    for (g, c), mean in means.items():
        weight = config.corpus_weight if g in several else config.single_class_weight
        between += weight / count * np.outer(mean - centre[c], mean - centre[c])
    total = within + between + config.augmentation_weight * changed
    shrunk = (1 - config.shrinkage) * total
    shrunk += config.shrinkage * np.trace(total) / size * np.eye(size)
    weights = np.stack([np.linalg.inv(shrunk) @ centre[c] for c in range(3)])
    return weights, np.array([-weights[c] @ centre[c] / 2 for c in range(3)])


def test_heads_are_those_of_the_formulas() -> None:
    x_nd, target_n, groups = make_data()
    copy_nd = x_nd + torch.randn(x_nd.shape, generator=torch.Generator().manual_seed(0))
    config = Config(corpus_weight=7, single_class_weight=0.4, augmentation_weight=2, shrinkage=0.2)
    _, task = fit(config, x_nd, target_n, copies=[copy_nd], groups=groups)
    views = [x_nd.double().numpy(), copy_nd.double().numpy()]
    weight_kd, bias_k = literal_discriminant(views, target_n.numpy(), groups, config)
    np.testing.assert_allclose(task.head.weight.detach().numpy(), weight_kd, atol=1e-5)
    np.testing.assert_allclose(task.head.bias.detach().numpy(), bias_k, atol=1e-5)


def test_without_nuisances_it_is_scikit_learns_discriminant() -> None:
    discriminant = pytest.importorskip("sklearn.discriminant_analysis")
    x_nd, target_n, _ = make_data()
    x_nd, target_n = x_nd[target_n >= 0], target_n[target_n >= 0]
    # Equal numbers in each class, so that the covariance of both has the same weights.
    rows = torch.cat([(target_n == c).nonzero()[:40, 0] for c in range(3)])
    x_nd, target_n = x_nd[rows], target_n[rows]
    model, task = fit(Config(shrinkage=0.3), x_nd, target_n)
    vector_nd = model.standardize(x_nd)
    theirs = discriminant.LinearDiscriminantAnalysis(
        solver="lsqr",
        priors=[1 / 3] * 3,
        covariance_estimator=Shrunk(),
    ).fit(vector_nd.numpy(), target_n.numpy())
    found = task(vector_nd).softmax(dim=1).detach().numpy()
    # scikit-learn shrinks the covariance of each class, which has the same sum.
    np.testing.assert_allclose(found, theirs.predict_proba(vector_nd.numpy()), atol=1e-4)


def test_a_direction_in_which_corpora_differ_is_read_less() -> None:
    x_nd, target_n, groups = make_data()
    blind = fit(Config(corpus_weight=0.0), x_nd, target_n, groups=groups)[1]
    aware = fit(Config(corpus_weight=100.0), x_nd, target_n, groups=groups)[1]
    size = [float(task.head.weight[:, 4].detach().norm()) for task in (blind, aware)]
    assert size[1] < 0.5 * size[0]


def test_a_corpus_of_one_class_does_not_move_the_means() -> None:
    x_nd, target_n, groups = make_data()
    moments = ClassMoments([x_nd], target_n, torch.ones(len(x_nd)).double(), groups)
    contrasting = moments._list_contrasting()
    assert contrasting == {("lab",), ("crowd",)}
    neutral = [
        x_nd[[t == 1 and g == (group,) for t, g in zip(target_n.tolist(), groups, strict=True)]]
        for group in ("lab", "crowd")
    ]
    expected = torch.stack([x.double().mean(dim=0) for x in neutral]).mean(dim=0)
    torch.testing.assert_close(moments._average_class(1, contrasting), expected)


def test_votes_weight_utterances_by_the_share_for_their_label() -> None:
    nan = float("nan")
    votes_nk = torch.tensor([[0.8, 0.2, 0.0], [0.0, 0.0, 1.0], [nan] * 3, [0.5, 0.5, 0.0]])
    weight_n = compute_vote_weights(torch.tensor([0, 0, 1, -1]), votes_nk)
    torch.testing.assert_close(weight_n.float(), torch.tensor([0.8, 0.0, 1.0, 1.0]))
    assert compute_vote_weights(torch.tensor([0, 2]), None).tolist() == [1.0, 1.0]


def test_an_utterance_that_no_rater_confirms_has_no_effect() -> None:
    x_nd, target_n, _ = make_data()
    doubted_n = torch.arange(len(x_nd)) % 7 == 0
    votes_nk = torch.nn.functional.one_hot(target_n.clamp(min=0), 3).float()
    votes_nk[doubted_n] = votes_nk[doubted_n].roll(1, dims=1)
    model, task = fit(Config(), x_nd, target_n, votes=votes_nk)
    kept, fitted = ~doubted_n, build(Config())
    every = Examples({"emotion": x_nd[kept]}, {"emotion": target_n[kept]})
    fitted[0].fit(every, None, {"emotion": fitted[1]})
    # Only the standardization of the vectors, over all utterances, differs.
    ours = task(model.standardize(x_nd)).argmax(dim=1)
    theirs = fitted[1](fitted[0].standardize(x_nd)).argmax(dim=1)
    assert (ours == theirs).float().mean() > 0.97


def test_a_class_without_utterances_is_never_predicted() -> None:
    x_nd, target_n, _ = make_data()
    target_n[target_n == 2] = -1
    model, task = fit(Config(), x_nd, target_n)
    assert int((task(model.standardize(x_nd)).argmax(dim=1) == 2).sum()) == 0


def test_constant_values_and_single_utterances_have_finite_heads() -> None:
    model, task = fit(Config(), torch.ones(3, 4), torch.tensor([0, 1, 2]))
    assert torch.isfinite(task(model.standardize(torch.randn(2, 4)))).all()


def test_priors_shift_the_logits() -> None:
    x_nd, target_n, _ = make_data()
    equal, shifted = (fit(Config(priors=p), x_nd, target_n)[1] for p in ({}, {"anger": 0.25}))
    torch.testing.assert_close(shifted.head.weight, equal.head.weight)
    difference_k = (shifted.head.bias - equal.head.bias).detach()
    torch.testing.assert_close(difference_k, torch.tensor([np.log(0.25), 0.0, 0.0]).float())
    with pytest.raises(UnknownName, match=r"class of model\.priors"):
        fit(Config(priors={"boredom": 0.5}), x_nd, target_n)


def test_values_are_refused() -> None:
    model = Model(Config(), 4, ("valence",))
    examples = Examples({"valence": torch.randn(3, 4)}, {"valence": torch.randn(3)})
    with pytest.raises(ConfigError, match="task valence has no classes"):
        model.fit(examples, None, {"valence": RegressionTask(None, 4)})


def test_recipes_may_have_what_the_model_uses() -> None:
    settings = ["model.name=lda", "augment.speed=[0.9, 1.1]", "training.balance=corpus"]
    recipe = recipes.load("egemaps-svm", [*settings, "tasks.emotion.targets=votes"])
    check_recipe(recipe)
    assert build_training_config(recipe).epochs == 1
    for wrong in ("training.balance=class", "training.balance=['corpus', 'class']"):
        with pytest.raises(ConfigError, match="samples epochs"):
            build_training_config(recipes.load("egemaps-svm", ["model.name=lda", wrong]))
    with pytest.raises(ConfigError, match="would lose the weights of serein-light"):
        build_training_config(recipes.load("egemaps-svm", ["training.init=serein-light"]))
    with pytest.raises(ConfigError, match="remove \\[augment\\]"):
        check_recipe(recipes.load("egemaps-svm", ["augment.speed=[0.9, 1.1]"]))


def adapted(
    config: Config,
    saved: Model,
    head: ClassificationTask,
    x_nd: Tensor,
    target_n: Tensor,
    **more: Any,
) -> tuple[Model, ClassificationTask, dict[str, float]]:
    model, task = build(config)
    model.start_from(saved)
    task.load_state_dict(head.state_dict())
    validation = more.get("validation")
    examples = Examples({"emotion": model.standardize(x_nd)}, {"emotion": target_n})
    if validation is not None:
        x_vd, target_v = validation
        validation = Examples({"emotion": model.standardize(x_vd)}, {"emotion": target_v})
    return model, task, model.fit(examples, validation, {"emotion": task})


def test_adaptation_keeps_the_statistics_and_moves_less_with_a_larger_penalty() -> None:
    x_nd, target_n, groups = make_data()
    saved, head = fit(Config(), x_nd, target_n, groups=groups)
    new_nd, new_n, _ = make_data(1)
    new_nd[:, 0] = -new_nd[:, 0]
    distances = []
    for penalty in (1e-2, 1.0, 100.0, 1e9):
        model, task, chosen = adapted(
            Config(adaptation_penalty=penalty, adaptation_share=0.0),
            saved,
            head,
            new_nd[:30],
            new_n[:30],
        )
        assert chosen == {"emotion": penalty}
        torch.testing.assert_close(model.mean_d, saved.mean_d)
        distances.append(float((task.head.weight - head.head.weight).detach().norm()))
    assert distances == sorted(distances, reverse=True)
    assert distances[-1] < 1e-5 < 0.1 < distances[0]


def test_adapted_weights_are_the_minimum_of_the_penalized_cross_entropy() -> None:
    x_nd, target_n, groups = make_data()
    saved, head = fit(Config(), x_nd, target_n, groups=groups)
    new_nd, new_n, _ = make_data(1)
    new_n[:5] = -1
    config = Config(adaptation_penalty=3.0, adaptation_share=0.0)
    model, task, _ = adapted(config, saved, head, new_nd[:40], new_n[:40])
    weight_kd = task.head.weight.detach().clone().requires_grad_()
    vector_nd, kept = model.standardize(new_nd[:40]), new_n[:40] >= 0
    logit_nk = vector_nd[kept] @ weight_kd.T + task.head.bias.detach()
    loss = torch.nn.functional.cross_entropy(logit_nk, new_n[:40][kept], reduction="sum")
    loss += 3.0 * (weight_kd - head.head.weight.detach()).square().sum()
    (gradient_kd,) = torch.autograd.grad(loss, weight_kd)
    assert float(gradient_kd.abs().max()) < 1e-2


def test_validation_selects_the_penalty_and_priors_are_those_of_the_new_recipe() -> None:
    x_nd, target_n, groups = make_data()
    saved, head = fit(Config(priors={"neutral": 4.0}), x_nd, target_n, groups=groups)
    bias_k = head.head.bias.detach().clone()
    same = adapted(Config(adaptation_penalty=1e9), saved, head, x_nd[:0], target_n[:0])[1]
    expected_k = bias_k - torch.tensor([0.0, np.log(4.0), 0.0])
    torch.testing.assert_close(same.head.bias.detach(), expected_k.float())
    swapped_n = torch.where(target_n >= 0, 2 - target_n, target_n)  # anger and sadness change names
    config = Config(adaptation_share=0.0)
    learnt = adapted(config, saved, head, x_nd, swapped_n, validation=(x_nd[::2], swapped_n[::2]))
    kept = adapted(config, saved, head, x_nd, swapped_n, validation=(x_nd[::2], target_n[::2]))
    assert learnt[2]["emotion"] == min(PENALTIES)
    assert kept[2]["emotion"] in PENALTIES[-2:]
    unchosen = adapted(Config(), saved, head, x_nd, target_n)
    assert unchosen[2]["emotion"] == PENALTIES[len(PENALTIES) // 2]


def test_adaptation_starts_between_the_saved_discriminant_and_that_of_the_new_utterances() -> None:
    """With a penalty that forbids any change, the weights are those of the start."""
    x_nd, target_n, groups = make_data()
    saved, head = fit(Config(), x_nd, target_n, groups=groups)
    new_nd, new_n, _ = make_data(1)
    new_nd[:, 0] = -new_nd[:, 0]
    kept = new_n != 2
    new_nd, new_n = new_nd[kept], new_n[kept]
    weights = {}
    for share in (0.0, 0.25, 1.0):
        config = Config(adaptation_penalty=1e12, adaptation_share=share)
        task = adapted(config, saved, head, new_nd, new_n)[1]
        weights[share] = task.head.weight.detach(), task.head.bias.detach()
    saved_kd = head.head.weight.detach()
    torch.testing.assert_close(weights[0.0][0], saved_kd)
    moments = ClassMoments(
        [saved.standardize(new_nd)], new_n, (new_n >= 0).double(), [""] * len(new_n)
    )
    own_kd = moments.fit_discriminant(3, Config())[0]
    scale = saved_kd[:2].norm() / own_kd[:2].norm()
    torch.testing.assert_close(weights[1.0][0][:2], (scale * own_kd[:2]).float())
    for mixed, first, last in zip(*(weights[share] for share in (0.25, 0.0, 1.0)), strict=True):
        torch.testing.assert_close(mixed, 0.75 * first + 0.25 * last)
        torch.testing.assert_close(mixed[2], first[2])  # the new utterances lack this class


def test_a_class_is_absent_by_its_weights_not_by_its_bias() -> None:
    """A discriminant of few utterances has long weights and biases far below an absent class's."""
    saved = torch.tensor([[1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([0.5, -0.5]).double()
    new = torch.tensor([[10.0, 0.0], [0.0, 0.0]]).double(), torch.tensor([-50.0, -30.0]).double()
    weight_kd, bias_k = interpolate_weights(saved, new, 0.5)
    torch.testing.assert_close(weight_kd, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(bias_k, torch.tensor([0.25 - 2.5, -0.5]))


def test_more_utterances_have_a_larger_share_and_validation_selects_it() -> None:
    model, _ = build(Config())
    few, many = torch.tensor([0, 1, -1]), torch.arange(300) % 3
    assert model._list_shares(few, False) == (2 / (2 + SHARE_COUNT),)
    assert model._list_shares(many, False) == (300 / (300 + SHARE_COUNT),)
    assert tuple(model._list_shares(few, True)) == SHARES
    x_nd, target_n, groups = make_data()
    saved, head = fit(Config(), x_nd, target_n, groups=groups)
    swapped_n = torch.where(target_n >= 0, 2 - target_n, target_n)
    task = adapted(Config(), saved, head, x_nd, swapped_n, validation=(x_nd, swapped_n))[1]
    same_kd, weight_kd = head.head.weight.detach(), task.head.weight.detach()
    assert float(torch.cosine_similarity(weight_kd[0], same_kd[0], dim=0)) < 0
    assert float(torch.cosine_similarity(weight_kd[0], same_kd[2], dim=0)) > 0.5


def test_adaptation_needs_a_model_of_the_same_kind() -> None:
    model, _ = build(Config())
    with pytest.raises(ConfigError, match="same kind and size"):
        model.start_from(Model(Config(), 6, ("emotion",)))
