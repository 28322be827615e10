"""Training from the weights of a saved model, by command."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from builders.small_systems import SIZES, small_system

from serein import bundle
from serein.bundle import Bundle, Card, ConfidenceCalibration
from serein.evaluation.descent import describe_cost, inherit_texts
from serein.protocols import count_card
from serein.synthetic import SyntheticConfig, generate

Run = Callable[..., tuple[int, str, str]]
DISCRIMINANT = """
[features]
name = "logmel"

[normalise]
statistics = "none"

[model]
name = "lda"

[tasks.emotion]
scheme = "harmonised"

[training]
epochs = 1

[protocol]
name = "leave-one-speaker-out"
validation = "none"
"""
SMALL = [word for setting in SIZES for word in ("--set", setting)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = tmp_path_factory.mktemp("mine") / "made"
    generate(root, SyntheticConfig(speakers=4, emotions=("anger", "boredom"), sentences=2))
    return f"mine={root / 'labels.csv'}"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "small = one.safetensors"
    card = Card(name="small", data="parents' corpus, CC BY-NC", licence="non-commercial use only")
    confidence = {"emotion": ConfidenceCalibration(temperature=1.5)}
    bundle.save(Bundle(small_system().eval(), card, confidence), path)
    return path


def test_model_with_new_classes_keeps_the_old_weights(
    run: Run, corpus: str, saved: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mine.safetensors"
    options = ["--init", saved, "-o", output, "--set", "training.rate=1e-9"]
    status, _, err = run("train", "li2019", "--corpus", corpus, *options, *SMALL)
    assert (status, err.count("serein:")) == (0, 2)  # the licence, and what was lost
    old, new = bundle.load(saved).system, bundle.load(output).system
    assert old.classes["emotion"] != new.classes["emotion"] == ("anger", "boredom")
    theirs = old.state_dict()
    for name, weight in new.state_dict().items():
        if name.startswith(("heads.", "normalise")):
            continue
        torch.testing.assert_close(weight, theirs[name], rtol=0, atol=1e-5)
    heads = [x.state_dict()["heads.emotion.head.weight"] for x in (old, new)]
    row = old.classes["emotion"].index("anger")
    torch.testing.assert_close(heads[1][0], heads[0][row], rtol=0, atol=1e-5)
    card = bundle.load(output).card
    assert card.licence.endswith("inherited from small: non-commercial use only")
    assert card.data.startswith("mine, 16 utterances; inherited from small: parents' corpus")
    assert "it no longer has neutral, sadness of emotion, which small has" in card.limits
    assert "the calibration of emotion by small is not kept" in card.limits
    assert "gender 16 utterances" in card.limits
    assert "licence: inherited from small: non-commercial use only" in err
    assert "is not kept" in err


def test_card_includes_the_training_data_of_the_initial_model(
    run: Run, corpus: str, tmp_path: Path
) -> None:
    made = SyntheticConfig(speakers=4, emotions=("anger", "boredom"), sentences=2, seed=1)
    generate(tmp_path / "other", made)
    other = f"other={tmp_path / 'other' / 'labels.csv'}"
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    assert run("train", "li2019", "--corpus", corpus, "-o", first, *SMALL)[0] == 0
    trained = ["train", "li2019", "--corpus", other, "--init", first, "-o", second]
    assert run(*trained, *SMALL, "--set", "training.epochs=1")[0] == 0
    old, new = bundle.load(first).card, bundle.load(second).card
    assert {*old.file_hashes} < {*new.file_hashes}
    assert {*old.audio_hashes} <= {*new.audio_hashes}
    assert {one.partition("/")[0] for one in new.speakers} == {"mine", "other"}
    assert count_card(old.fingerprints) == len(old.file_hashes)
    assert count_card(new.fingerprints) == len(new.file_hashes)
    status, _, err = run("evaluate", "li2019", "--corpus", corpus, "--init", second, *SMALL)
    assert (status, "was trained on 16 utterances" in err) == (1, True)


def test_discriminant_keeps_its_statistics_and_learns_a_new_class(
    run: Run, corpus: str, tmp_path: Path
) -> None:
    (tmp_path / "small.toml").write_text(DISCRIMINANT)
    made = SyntheticConfig(speakers=4, emotions=("anger", "neutral"), sentences=2, seed=1)
    generate(tmp_path / "other", made)
    other = f"other={tmp_path / 'other' / 'labels.csv'}"
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    recipe = str(tmp_path / "small.toml")
    train = ["train", recipe, "--corpus", other, "-o", first, "--set", "model.priors.neutral=4"]
    assert run(*train)[0] == 0
    train = ["train", recipe, "--corpus", corpus, "-o", second, "--init", first]
    kept = ("--set", "model.adaptation_penalty=1e12", "--set", "model.adaptation_share=0")
    assert run(*train, *kept)[0] == 0
    old, new = (bundle.load(path).system for path in (first, second))
    statistics = [system.state_dict()["model.mean_d"] for system in (old, new)]
    torch.testing.assert_close(*statistics)
    assert new.classes["emotion"] == ("anger", "boredom")
    rows = new.heads["emotion"].state_dict()["head.weight"]
    wanted_d = old.heads["emotion"].state_dict()["head.weight"][0]
    torch.testing.assert_close(rows, wanted_d.expand(2, -1), rtol=0, atol=1e-6)
    assert run(*train)[0] == 0
    learnt = bundle.load(second).system.heads["emotion"].state_dict()["head.weight"]
    assert float((learnt[0] - learnt[1]).norm()) > 1e-3
    svm = ["train", "egemaps-svm", "--corpus", corpus, "-o", second, "--init", first]
    status, _, err = run(*svm)
    assert (status, "would lose the weights" in err) == (2, True)


def test_init_given_twice_is_an_error(run: Run, corpus: str, saved: Path, tmp_path: Path) -> None:
    options = ["--init", saved, "--set", f"training.init={saved}", "-o", tmp_path / "x.safetensors"]
    status, _, err = run("train", "li2019", "--corpus", corpus, *options, *SMALL)
    assert (status, "mean the same" in err) == (2, True)


def test_learning_curve_starts_from_the_initial_model(
    run: Run, corpus: str, saved: Path, tmp_path: Path
) -> None:
    options = [
        "--init",
        saved,
        "--setting",
        "protocol.train_size=2,6",
        "--runs",
        tmp_path,
        "--jobs",
        "1",
    ]
    split = ["--set", "protocol.folds=2", "--set", "protocol.name=speaker-k-fold"]
    split += ["--set", "protocol.validation=none"]
    status, out, err = run("sweep", "li2019", "--corpus", corpus, *options, *SMALL, *split)
    assert (status, err.count("serein:")) == (0, 0)
    assert "protocol.train_size" in out
    for file in tmp_path.glob("*/results.json"):
        found = json.loads(file.read_text())
        assert found["recipe"]["training"]["init"] == str(saved)
        assert "each fold trains on" in found["protocol"]["caution"]


@pytest.mark.parametrize(
    ("init", "status", "told"),
    [
        ("li2020", 2, "unknown model 'li2020'"),
        ("gone.safetensors", 1, "gone.safetensors"),
        ("li2019-emodb", 1, "has the front end"),
    ],
)
def test_unsuitable_initial_model_is_an_error(
    init: str, status: int, told: str, run: Run, corpus: str, tmp_path: Path
) -> None:
    options = ["--init", init, "-o", tmp_path / "x.safetensors"]
    found, _, err = run("train", "li2019", "--corpus", corpus, *options, *SMALL)
    assert (found, told in err) == (status, True)


def test_init_with_a_saved_model_is_an_error(run: Run, corpus: str, saved: Path) -> None:
    status, _, err = run("evaluate", "--model", saved, "--corpus", corpus, "--init", saved)
    assert status == 2
    assert "--init: a saved model is scored without training" in err


def test_licence_and_data_are_inherited_through_generations() -> None:
    parent = Bundle(small_system().eval(), Card(name="a", data="A", licence="CC BY-NC"))
    own = inherit_texts({"licence": "CC0", "data": "B"}, parent)
    assert own == {
        "licence": "CC0; inherited from a: CC BY-NC",
        "data": "B; inherited from a: A",
    }
    child = Bundle(parent.system, Card(name="b", licence=own["licence"], data=own["data"]))
    grandchild = inherit_texts({"licence": "", "data": "C"}, child)
    assert grandchild["licence"] == "inherited from b: CC0; inherited from a: CC BY-NC"
    assert grandchild["data"].endswith("inherited from b: B; inherited from a: A")
    unstated = inherit_texts({"licence": "", "data": "C"}, Bundle(parent.system, Card()))
    assert unstated["licence"] == "inherited from the initial model: not stated"
    assert inherit_texts({"licence": "CC0", "data": "C"}, None)["licence"] == "CC0"


def test_adapted_model_says_what_it_lost() -> None:
    parent = Bundle(small_system().eval(), Card(name="a"))
    classes = {"emotion": ("anger", "neutral", "sadness")}
    (dropped,) = describe_cost(parent, classes, {}, 4, {})
    assert dropped == "adapted from a: it no longer answers gender, which a does"
    (kept,) = describe_cost(
        parent, parent.system.classes, {"gender": {"female": 9, "male": 3}}, 4, {}
    )
    assert "on the labels of 4 known speakers (gender 12 utterances)" in kept
    assert describe_cost(None, classes, {}, 4, {}) == []
