"""Linear support vector machines: fit, selection of C, and errors."""

import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import random_frames
from sklearn.multiclass import OneVsRestClassifier
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC
from torch import Tensor

from serein import config, recipes, system
from serein.errors import ConfigError, UnknownName
from serein.layers.outputs import Examples
from serein.metrics.classification import unweighted_accuracy_score
from serein.models.svm import ABSENT_CLASS_LOGIT, Config, Model, fit_one_vs_rest
from serein.tasks.heads import ClassificationConfig, ClassificationTask
from serein.training.dataset import Subset

NAMES = ("anger", "joy", "sadness")


def build_model(width: int = 5, tasks: tuple[str, ...] = ("emotion",), **settings: Any) -> Model:
    return Model(config.build_config(Config, settings, "model"), width, tasks)


def task(width: int = 5, classes: tuple[str, ...] = NAMES, **settings: Any) -> ClassificationTask:
    return ClassificationTask(
        config.build_config(ClassificationConfig, settings, "tasks.emotion"), width, classes
    )


def random_vectors(
    count: int = 60, seed: int = 0, *, spread: float = 1.5, width: int = 5
) -> Examples:
    """Three clusters in different units; one label in ten is missing."""
    generator = np.random.default_rng(seed)
    target_n = generator.integers(0, 3, count)
    x_nd = generator.normal(0, spread, (count, width))
    x_nd[np.arange(count), target_n] += 2
    x_nd = x_nd * 10.0 ** np.arange(width) + 7
    unknown_n = generator.random(count) < 0.1
    target_n[unknown_n] = -1
    return examples(x_nd, target_n)


def examples(x_nd: Any, target_n: Any) -> Examples:
    vectors = {"emotion": torch.tensor(np.array(x_nd), dtype=torch.float32)}
    return Examples(vectors, {"emotion": torch.tensor(np.array(target_n))})


def predict_classes(model: Model, head: ClassificationTask, side: Examples) -> Tensor:
    x_btd = side.vectors["emotion"][:, None]
    with torch.no_grad():
        encoded = model((x_btd, torch.ones(x_btd.shape[:2], dtype=torch.bool)))
        return head(encoded.vectors["emotion"])


def known_targets(side: Examples) -> tuple[np.ndarray, np.ndarray]:
    target_n = side.targets["emotion"].numpy()
    return side.vectors["emotion"].double().numpy()[target_n >= 0], target_n[target_n >= 0]


def fit_scikit_learn(train: Examples, side: Examples, c: float) -> np.ndarray:
    """Distances by scikit-learn, standardized over the whole training subset."""
    scaler = StandardScaler().fit(train.vectors["emotion"].double().numpy())
    x_nd, target_n = known_targets(train)
    machine = OneVsRestClassifier(LinearSVC(C=c, dual=False, max_iter=10_000))
    machine.fit(scaler.transform(x_nd), target_n)
    return machine.decision_function(scaler.transform(side.vectors["emotion"].double().numpy()))


@pytest.mark.parametrize("c", [2.0**-8, 0.1, 1.0])
def test_svm_logits_match_scikit_learn(c: float) -> None:
    train, test = random_vectors(), random_vectors(20, seed=1)
    model, head = build_model(c={"emotion": c}), task()
    assert model.fit(train, None, {"emotion": head}) == {"emotion": c}
    found = predict_classes(model, head, test).numpy()
    np.testing.assert_allclose(found, fit_scikit_learn(train, test, c), atol=1e-4)


def test_svm_selects_the_best_and_lowest_c_on_validation() -> None:
    train, judge = random_vectors(spread=2), random_vectors(80, seed=3, spread=2)
    x_nd, target_n = known_targets(judge)
    costs = [2.0**n for n in range(-12, 3)]
    labelled = examples(x_nd, target_n)
    scores = [
        unweighted_accuracy_score(target_n, fit_scikit_learn(train, labelled, c).argmax(axis=1))
        for c in costs
    ]
    wanted = costs[int(np.argmax(scores))]
    model = build_model(min_exponent=-12, max_exponent=2)
    assert model.fit(train, judge, {"emotion": task()}) == {"emotion": wanted}
    assert scores.index(max(scores)) > 0
    assert scores.count(max(scores)) > 1


def test_svm_is_not_fitted_to_validation() -> None:
    train, judge = random_vectors(), random_vectors(40, seed=2)
    alone, judged = (
        (build_model(c={"emotion": 0.1}), task()),
        (build_model(c={"emotion": 0.1}), task()),
    )
    alone[0].fit(train, None, {"emotion": alone[1]})
    judged[0].fit(train, judge, {"emotion": judged[1]})
    assert torch.equal(alone[0].mean_d, judged[0].mean_d)
    assert torch.equal(alone[1].head.weight, judged[1].head.weight)


@pytest.mark.parametrize("judge", [None, examples(np.ones((3, 5)), [-1, -1, -1])])
def test_svm_uses_default_c_without_validation(judge: Examples | None) -> None:
    model = build_model(default_c=0.3)
    assert model.fit(random_vectors(), judge, {"emotion": task()}) == {"emotion": 0.3}


def test_svm_selects_c_for_each_task() -> None:
    one, other = random_vectors(spread=3), random_vectors(40, seed=2, spread=3)
    sides = []
    for side in (one, other):
        gender = torch.arange(len(side.targets["emotion"])) % 2
        vectors = dict.fromkeys(("emotion", "gender"), side.vectors["emotion"])
        sides.append(Examples(vectors, {**side.targets, "gender": gender}))
    heads = {"emotion": task(), "gender": task(classes=("female", "male"))}
    model = build_model(tasks=("emotion", "gender"), c={"gender": 0.25})
    chosen = model.fit(sides[0], sides[1], heads)
    assert chosen["gender"] == 0.25
    assert chosen["emotion"] == build_model().fit(one, other, {"emotion": task()})["emotion"]


def test_svm_weight_two_equals_a_repeated_utterance() -> None:
    x_nd, target_n = np.random.default_rng(0).normal(size=(30, 4)), np.arange(30) % 3
    weight_n = np.where(target_n == 0, 2.0, 1.0)
    twice = np.concatenate([np.arange(30), np.flatnonzero(target_n == 0)])
    found = fit_one_vs_rest(x_nd, target_n, weight_n, 3, 0.1)
    wanted = fit_one_vs_rest(x_nd[twice], target_n[twice], np.ones(len(twice)), 3, 0.1)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_svm_uses_class_weights_of_the_task() -> None:
    rare = random_vectors(200, spread=3)
    target_n = rare.targets["emotion"].clone()
    target_n[(target_n == 0).nonzero()[5:]] = 1
    rare = Examples(rare.vectors, {"emotion": target_n})
    shares = {}
    for kind in ("none", "balanced"):
        model, head = build_model(c={"emotion": 0.01}), task(class_weights=kind)
        head.fit_statistics(target_n)
        model.fit(rare, None, {"emotion": head})
        shares[kind] = float((predict_classes(model, head, rare).argmax(dim=1) == 0).float().mean())
    assert shares["balanced"] > shares["none"]


@pytest.mark.parametrize(
    ("labels", "answered"), [([0, 2], {0, 2}), ([1], {1}), ([-1], {0}), ([2, -1], {2})]
)
def test_svm_never_predicts_an_absent_class(labels: list[int], answered: set[int]) -> None:
    train = random_vectors()
    target_n = torch.tensor(labels).repeat(60)[:60]
    model, head = build_model(c={"emotion": 1.0}), task()
    model.fit(Examples(train.vectors, {"emotion": target_n}), None, {"emotion": head})
    logits = predict_classes(model, head, random_vectors(50, seed=3))
    assert set(logits.argmax(dim=1).tolist()) == answered
    absent = [k for k in range(3) if k not in labels]
    assert (logits[:, absent] == ABSENT_CLASS_LOGIT).all()
    assert torch.isfinite(logits).all()


def test_svm_vector_is_the_mean_of_unpadded_frames() -> None:
    x_btd = torch.randn(2, 4, 5)
    mask_bt = torch.tensor([[True] * 4, [True, False, False, False]])
    vectors = build_model()((x_btd, mask_bt)).vectors["emotion"]
    torch.testing.assert_close(vectors[0], x_btd[0].mean(dim=0))
    torch.testing.assert_close(vectors[1], x_btd[1, 0])


def test_svm_accepts_constant_bins() -> None:
    train = random_vectors()
    train.vectors["emotion"][:, 2] = 3.0
    model, head = build_model(), task()
    model.fit(train, None, {"emotion": head})
    assert float(model.deviation_d[2]) == 1
    assert torch.isfinite(predict_classes(model, head, train)).all()


def states_of(side: Examples, informative: int, count: int = 3) -> Examples:
    """Side by side ``count`` states of which one is informative; the others are noise."""
    x_nd = side.vectors["emotion"]
    noise_nd = torch.from_numpy(np.random.default_rng(len(x_nd)).normal(size=x_nd.shape)).float()
    states = [x_nd if state == informative else noise_nd for state in range(count)]
    return Examples({"emotion": torch.cat(states, dim=1)}, side.targets)


@pytest.mark.parametrize("informative", [0, 2])
def test_svm_selects_a_state_and_its_c_on_validation(informative: int) -> None:
    train, judge, test = (random_vectors(80, seed=seed, spread=2) for seed in (0, 3, 4))
    model, head = build_model(width=15, states=3, select_state=True), task(width=15)
    chosen = model.fit(
        states_of(train, informative), states_of(judge, informative), {"emotion": head}
    )
    alone, other = build_model(), task()
    assert alone.fit(train, judge, {"emotion": other}) == chosen
    found = predict_classes(model, head, states_of(test, informative))
    torch.testing.assert_close(found, predict_classes(alone, other, test), atol=1e-5, rtol=0)
    used_d = head.head.weight.abs().sum(dim=0) > 0
    assert used_d.tolist() == [state == informative for state in range(3) for _ in range(5)]


def test_svm_reads_all_states_unless_one_is_to_be_selected() -> None:
    train, judge = states_of(random_vectors(), 1), states_of(random_vectors(40, seed=2), 1)
    model, head = build_model(width=15, states=3), task(width=15)
    plain, other = build_model(width=15), task(width=15)
    assert model.fit(train, judge, {"emotion": head}) == plain.fit(train, judge, {"emotion": other})
    assert torch.equal(head.head.weight, other.head.weight)


@pytest.mark.parametrize("judge", [None, examples(np.ones((3, 10)), [-1, -1, -1])])
def test_svm_cannot_select_a_state_without_validation(judge: Examples | None) -> None:
    model = build_model(width=10, states=2, select_state=True, c={"emotion": 0.1})
    with pytest.raises(ConfigError, match=r"select_state = true, and task emotion has no valid"):
        model.fit(states_of(random_vectors(), 0, 2), judge, {"emotion": task(width=10)})
    with pytest.raises(ConfigError, match="frames of 10 bins are not 3 states"):
        build_model(width=10, states=3)


# Errors


def test_svm_settings_are_checked() -> None:
    with pytest.raises(UnknownName, match=r"unknown task of model.c 'gendre'"):
        build_model(c={"gendre": 1.0})
    with pytest.raises(
        ConfigError, match=r"model.min_exponent = 3 is above model.max_exponent = 0"
    ):
        build_model(min_exponent=3)
    with pytest.raises(ConfigError, match=r"model.c.emotion = -1"):
        build_model(c={"emotion": -1})
    with pytest.raises(
        ConfigError, match=r"svm fits each task separately in any case; remove separate"
    ):
        system.check_recipe(recipes.load("egemaps-svm", ["model.separate=true"]))


def test_svm_refuses_tasks_without_classes() -> None:
    with pytest.raises(ConfigError, match="the model svm is a classifier; task emotion has"):
        build_model().fit(random_vectors(), None, {"emotion": torch.nn.Linear(5, 1)})


def test_missing_scikit_learn_error_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.svm", None)
    with pytest.raises(ConfigError, match=r"pip install 'serein\[svm\]'"):
        build_model().fit(random_vectors(), None, {"emotion": task()})


def test_svm_works_with_other_front_ends() -> None:
    """The vector can be the mean of a spectrogram, without openSMILE."""
    recipe = recipes.load("li2019", ["model.name=svm", "features.bands=16"])
    judge = system.System(recipe, {"emotion": NAMES, "gender": ("f", "m")})
    frames = random_frames([5, 9, 3, 7])
    side = Subset(tuple(frames.index), frames, {})
    (batch,) = side.iter_batches(4)
    assert judge(replace(batch).inputs).logits["emotion"].shape == (4, 3)
