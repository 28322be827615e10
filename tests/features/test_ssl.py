"""The front end of pretrained encoders, the models on it, and their saved files."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from builders.small_systems import CLASSES as KNOWN
from builders.tiny_encoders import DEFAULT_ENCODER, ENCODERS, write_encoder

from serein import audio, bundle, config, corpora, recipes, system
from serein.bundle import Bundle, Card
from serein.errors import BundleError, ConfigError, EncoderError
from serein.evaluation.evaluate import evaluate
from serein.evaluation.score_saved import score_model
from serein.evaluation.train import train
from serein.features.ssl import Config, FrontEnd
from serein.inference.recognizer import Recognizer
from serein.layers.ssl_encoder import SSLEncoder, load_frozen_encoder
from serein.records import Corpus
from serein.system import System
from serein.training.config import TrainingConfig
from serein.training.dataset import compute_frames, extract_frames
from serein.training.loop import _build_optimizer
from serein.utils.files import cache_folder

pytest.importorskip("transformers", reason="needs transformers: pip install 'serein[ssl]'")
Wave = npt.NDArray[np.float32]
CLASSES = {task: KNOWN[task] for task in ("emotion", "gender")}
QUICK = ("model.hidden=16", "training.epochs=2", "protocol.validation=1", "features.seconds=1.0")


def front_end(folder: Path, **settings: Any) -> FrontEnd:
    return FrontEnd(config.build_config(Config, {"encoder": str(folder), **settings}, "features"))


def noise(samples: int, seed: int = 0) -> Wave:
    return np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)


def build_model(name: str, folder: Path, *settings: str) -> System:
    torch.manual_seed(0)
    where = "features" if name == "ssl-probe" else "model"
    return System(recipes.load(name, [f"{where}.encoder={folder}", *QUICK, *settings]), CLASSES)


# The front end


@pytest.mark.parametrize("kind", ENCODERS)
def test_frames_are_all_states_concatenated(tmp_path: Path, kind: str) -> None:
    found = front_end(write_encoder(tmp_path / kind, kind))
    x_tf = compute_frames(noise(8000), found)
    whisper = kind == "whisper"
    assert (found.width, found.rate, found.hop) == (48, 16_000, 0.02)
    assert found.max_seconds == (1.0 if whisper else 30.0)
    assert x_tf.shape == (25 if whisper else 24, 48)
    assert np.isfinite(x_tf).all()
    assert list(found.parameters()) == []
    assert found.state_dict() == {}


@pytest.mark.parametrize("pool", [1, 5])
@pytest.mark.parametrize("kind", ENCODERS)
def test_ssl_batch_equals_single_waveforms(tmp_path: Path, kind: str, pool: int) -> None:
    found = front_end(write_encoder(tmp_path / kind, kind), pool=pool)
    waves = [noise(9000), noise(4200, 1), noise(20, 2)]
    wave_bs = torch.full((3, 9500), 0.7)  # not zero on padding
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    x_btf, mask_bt = found(wave_bs, torch.tensor([len(wave) for wave in waves]))
    for x_tf, mask_t, wave in zip(x_btf, mask_bt, waves, strict=True):
        alone = compute_frames(wave, found)
        assert int(mask_t.sum()) == len(alone)
        np.testing.assert_allclose(x_tf[mask_t].numpy(), alone, atol=1e-5)
        assert (x_tf[~mask_t] == 0).all()


def test_layers_selects_states(tmp_path: Path) -> None:
    folder, wave = write_encoder(tmp_path / "a"), noise(8000)
    every = compute_frames(wave, front_end(folder))
    some = front_end(folder, layers=[2, 0])
    assert some.given == {"states": 2}
    np.testing.assert_array_equal(
        compute_frames(wave, some), np.hstack([every[:, 32:], every[:, :16]])
    )
    with pytest.raises(ConfigError, match=r"layers = \[3\]; the encoder has states 0 to 2"):
        front_end(folder, layers=[3])


def test_pool_averages_frames(tmp_path: Path) -> None:
    folder, wave = write_encoder(tmp_path / "a"), noise(8000)
    every, pooled = compute_frames(wave, front_end(folder)), front_end(folder, pool=5)
    assert pooled.hop == 0.1
    wanted = [every[first : first + 5].mean(axis=0) for first in range(0, 24, 5)]
    np.testing.assert_allclose(compute_frames(wave, pooled), wanted, atol=1e-6)


@pytest.mark.parametrize("names", [["mean"], ["std", "mean"]])
@pytest.mark.parametrize("kind", [DEFAULT_ENCODER, "whisper"])
def test_statistics_are_one_row_of_each_utterance(
    tmp_path: Path, kind: str, names: list[str]
) -> None:
    folder = write_encoder(tmp_path / "a", kind)
    every, rows = (
        front_end(folder, layers=[0, 2]),
        front_end(folder, layers=[0, 2], statistics=names),
    )
    assert rows.given == {"states": 2}
    assert rows.width == 32 * len(names)
    waves = [noise(9000), 0.01 * noise(4200, 1) + 0.3, np.zeros(700, np.float32), noise(20, 2)]
    wave_bs = torch.full((4, 9500), 0.7)  # not zero on padding
    for row_s, wave in zip(wave_bs, waves, strict=True):
        row_s[: len(wave)] = torch.from_numpy(wave)
    x_btf, mask_bt = rows(wave_bs, torch.tensor([len(wave) for wave in waves]))
    assert x_btf.shape == (4, 1, rows.width)
    assert bool(mask_bt.all())
    for x_tf, wave in zip(x_btf, waves, strict=True):
        state_tnd = compute_frames(wave, every).reshape(-1, 2, 16).astype(float)
        wanted = np.stack([getattr(state_tnd, name)(axis=0) for name in names], axis=1)
        np.testing.assert_allclose(x_tf[0].numpy(), wanted.ravel(), atol=1e-5)


def test_whisper_is_padded_only_on_request(tmp_path: Path) -> None:
    folder, wave = write_encoder(tmp_path / "a", "whisper"), noise(4000)
    own, padded = front_end(folder), front_end(folder, padding="max_length")
    assert own.pinned["padding"] == own.config.padding == "do_not_pad"
    assert padded.pinned["padding"] == "max_length"
    x_tf, padded_tf = compute_frames(wave, own), compute_frames(wave, padded)
    assert x_tf.shape == padded_tf.shape == (13, 48)
    assert not np.allclose(x_tf, padded_tf, atol=1e-3)
    silent = np.pad(wave, (0, 12_000))  # of the full length, as Whisper pads
    assert np.allclose(compute_frames(silent, own)[:13], padded_tf, atol=1e-5)


def test_saved_models_of_before_are_padded(tmp_path: Path) -> None:
    """They hold the hash of their encoder, and no setting of padding."""
    for kind, padding in (("whisper", "max_length"), (DEFAULT_ENCODER, "do_not_pad")):
        folder = write_encoder(tmp_path / kind, kind)
        sha256 = front_end(folder).config.sha256
        assert front_end(folder, sha256=sha256).config.padding == padding
        assert front_end(folder, sha256=sha256, padding="do_not_pad").config.padding == "do_not_pad"
        one = build_model("ssl-probe", folder)
        assert one.recipe.features["padding"] == "do_not_pad"
        assert System(one.recipe, CLASSES).front_end.config.padding == "do_not_pad"


def test_only_the_layers_that_are_used_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[int | None] = []

    def load(*_: Any, layers: int | None, **settings: Any) -> SSLEncoder:
        built.append(layers)
        return load_frozen_encoder(*_, layers=layers, **settings)

    monkeypatch.setattr("serein.features.ssl.load_frozen_encoder", load)
    folder = write_encoder(tmp_path / "a")
    for layers in ([0], [0, 1], [1], []):
        compute_frames(noise(8000), front_end(folder, layers=layers))
    assert built == [1, 1, 1, 2]


def test_ssl_cuts_at_seconds(tmp_path: Path) -> None:
    found = front_end(write_encoder(tmp_path / "a"), seconds=0.25)
    wave = noise(8000)
    np.testing.assert_allclose(
        compute_frames(wave, found), compute_frames(wave[:4000], found), atol=1e-6
    )
    assert front_end(tmp_path / "a", seconds=None).max_seconds is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pool": 0}, r"features\.pool = 0"),
        ({"layers": [-1]}, r"features\.layers\.0 = -1"),
        ({"seconds": 0.0}, r"features\.seconds"),
        ({"encoder": ""}, "no encoder is named"),
        ({"sha256": "0" * 64}, "is another one"),
        ({"padding": "max_length"}, "is for Whisper's encoder"),
        ({"padding": "longest"}, r"features\.padding = 'longest'"),
        ({"statistics": ["median"]}, r"features\.statistics\.0 = 'median'"),
        ({"statistics": ["mean", "mean"]}, "expected each name once"),
        ({"statistics": ["mean"], "pool": 5}, r"features\.pool = 5 with features\.statistics"),
    ],
)
def test_ssl_impossible_settings_are_errors(
    tmp_path: Path, settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        front_end(write_encoder(tmp_path / "a"), **settings)


def entries() -> int:
    return len([entry for entry in cache_folder().glob("*") if entry.is_dir()])


def test_cache_depends_on_the_content_of_the_encoder(tmp_path: Path, corpus: Corpus) -> None:
    folder, some = write_encoder(tmp_path / "a"), corpus.utterances[:2]
    content_hashes = corpora.hash_contents(some)
    one, again = (
        extract_frames(some, front_end(folder, seconds=0.5), content_hashes) for _ in range(2)
    )
    assert np.array_equal(one.x_nf, again.x_nf)
    assert entries() == 1
    recipe = recipes.load("ssl-probe", [f"features.encoder={folder}"])
    before = system.collect_packages(recipe)
    write_encoder(folder, seed=1)
    other = extract_frames(some, front_end(folder, seconds=0.5), content_hashes)
    assert entries() == 2
    assert not np.allclose(one.x_nf, other.x_nf)
    assert list(before) == ["encoder", "transformers"]
    assert system.collect_packages(recipe)["encoder"] != before["encoder"]


def test_recipe_notes_the_licence_of_the_encoder() -> None:
    for name in ("ssl-probe", "ssl-svm", "ssl-finetune"):
        assert system.collect_notes(recipes.load(name)) == [
            "a pretrained encoder's own licence holds for what is made with it"
        ]


# The models on it


def test_front_end_sets_the_states_of_the_probe(tmp_path: Path) -> None:
    folder = write_encoder(tmp_path / "a")
    assert build_model("ssl-probe", folder).recipe.model["states"] == 3
    assert build_model("ssl-probe", folder, "features.layers=[1, 2]").recipe.model["states"] == 2
    with pytest.raises(ConfigError, match="frames of 96 bins are not 5 states"):
        build_model("ssl-probe", folder, "model.states=5")
    plain = build_model("ssl-probe", folder, "model.name=li2019")
    assert "states" not in plain.recipe.model


def test_layer_weights_start_equal_and_are_trained(tmp_path: Path) -> None:
    one = build_model(
        "ssl-probe", write_encoder(tmp_path / "a"), "features.statistics=[]", "model.sparse=false"
    )
    score_n = one.model.pooling.layers.score_n  # type: ignore[attr-defined]
    assert score_n.tolist() == [0, 0, 0]
    x_btf = torch.randn(2, 6, 48)
    mask_bt = torch.arange(6) < torch.tensor([[6], [4]])
    with torch.no_grad():
        score_n.copy_(torch.tensor([1.0, 2.0, 4.0]))
        found = one.model(frames=(x_btf, mask_bt)).vectors["emotion"]
    weight = np.exp([1, 2, 4]) / np.exp([1, 2, 4]).sum()
    dense = one.model.pooling.dense  # type: ignore[attr-defined]
    w, b = (p.detach().numpy() for p in (dense.weight, dense.bias))
    for row, length in enumerate((6, 4)):
        states = x_btf[row, :length].numpy().reshape(length, 3, 16)
        mean = np.einsum("tnd,n->td", states, weight)
        wanted = np.maximum(mean @ w.T + b, 0).mean(axis=0)
        np.testing.assert_allclose(found[row].numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize("kind", ENCODERS)
def test_fine_tuning_freezes_convolutions(tmp_path: Path, kind: str) -> None:
    one = build_model("ssl-finetune", write_encoder(tmp_path / "a", kind))
    one.train()
    wave_bs, length_b = torch.from_numpy(np.stack([noise(6400), noise(6400, 1)])), [6400, 3000]
    inputs = one.extract_features(wave_bs, torch.tensor(length_b))
    targets = {task: torch.tensor([0, 1]) for task in CLASSES}
    torch.autograd.backward(one.loss(one(inputs), targets))
    still = {n for n, p in one.named_parameters() if p.grad is None}
    learnt = {n for n, p in one.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    convolutions = ("feature_extractor", "network.conv", "embed_positions")
    assert still
    assert all(any(part in name for part in convolutions) for name in still)
    assert any("layers.0" in name for name in learnt)
    assert any("layers.1" in name for name in learnt)


def test_encoder_has_its_own_learning_rate(tmp_path: Path) -> None:
    one = build_model("ssl-finetune", write_encoder(tmp_path / "a"), "model.lr_factor=0.25")
    optimiser = _build_optimizer(one, TrainingConfig(rate=1e-3))
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in one.named_parameters():
        assert rates[id(parameter)] == (2.5e-4 if "encoder" in name else 1e-3), name
    softmax = build_model("ssl-probe", tmp_path / "a", "model.sparse=false")
    assert len(_build_optimizer(softmax, TrainingConfig()).param_groups) == 1


def test_sparse_weights_learn_fast_and_have_no_penalty(tmp_path: Path) -> None:
    one = build_model("ssl-probe", write_encoder(tmp_path / "a"))
    optimiser = _build_optimizer(one, TrainingConfig(rate=1e-3, weight_decay=0.1))
    score_n = one.model.pooling.layers.score_n  # type: ignore[attr-defined]
    settings = {
        group["params"][0] is score_n: (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
    }
    assert settings == {True: (pytest.approx(1e-2), 0.0), False: (1e-3, 0.1)}


def test_wrong_hop_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"frames of 160 samples; this encoder has steps of 320"):
        build_model("ssl-finetune", write_encoder(tmp_path / "a"), "features.hop=160")


@pytest.mark.parametrize("kind", ["wav2vec2-group", DEFAULT_ENCODER, "whisper"])
def test_fine_tuned_model_ignores_padding(tmp_path: Path, kind: str) -> None:
    one = build_model("ssl-finetune", write_encoder(tmp_path / "a", kind)).eval()
    x_btf = torch.randn(3, 20, 320)
    length_b = torch.tensor([20, 7, 1])
    mask_bt = torch.arange(20) < length_b[:, None]
    with torch.no_grad():
        together = one({"frames": (x_btf, mask_bt)})
        for row, length in enumerate(length_b.tolist()):
            alone = one(
                {"frames": (x_btf[row : row + 1, :length], mask_bt[row : row + 1, :length])}
            )
            for task, logits_bk in alone.logits.items():
                torch.testing.assert_close(
                    together.logits[task][row], logits_bk[0], atol=1e-5, rtol=0
                )
                weight = together.attention[task].weight[row]
                assert weight.shape == (1, 20)
                assert (weight[:, length:] == 0).all()


# From recipe to results and models


@pytest.mark.parametrize("name", ["ssl-probe", "ssl-svm", "ssl-finetune"])
def test_evaluation_reports_the_encoder(name: str, tmp_path: Path, corpus: Corpus) -> None:
    where = "model" if name == "ssl-finetune" else "features"
    quick = [one for one in QUICK if name != "ssl-svm" or not one.startswith("model.")]
    settings = [f"{where}.encoder={write_encoder(tmp_path / 'encoder')}", *quick]
    run = evaluate(name, corpus, settings=settings, runs=tmp_path / "runs")
    assert len(run.results.predictions) > 0
    assert len(run.results.environment["versions"]["encoder"]) == 64
    assert any("own licence" in warning for warning in run.results.warnings)
    assert not evaluate(name, corpus, settings=settings, runs=tmp_path / "runs").is_new
    write_encoder(tmp_path / "encoder", seed=1)
    assert evaluate(name, corpus, settings=settings, runs=tmp_path / "runs").is_new


def train_small_model(
    name: str, folder: Path, corpus: Corpus, *settings: str
) -> tuple[Path, Bundle]:
    where = "features" if name == "ssl-probe" else "model"
    path = folder / f"{name}.safetensors"
    named = [f"{where}.encoder={folder / 'encoder'}", *QUICK, *settings]
    return path, train(name, corpus, path, settings=named)


@pytest.mark.parametrize("kind", ["wav2vec2-group", "whisper"])
def test_probe_refers_to_its_encoder(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    write_encoder(tmp_path / "encoder", kind)
    many = ("training.epochs=200", "training.rate=0.01", "training.weight_decay=0.0")
    path, saved = train_small_model("ssl-probe", tmp_path, corpus, *many)
    assert path.stat().st_size < 40_000
    recognizer = Recognizer(path)
    right = [recognizer(one.path).label == one.labels["emotion"] for one in corpus.utterances]
    assert np.mean(right) > 0.8
    assert saved.card.training["versions encoder"] == recognizer.system.recipe.features["sha256"]
    assert "own licence" in saved.card.licence
    again = bundle.load(path).system.state_dict()
    assert all(torch.equal(x, again[name]) for name, x in saved.system.state_dict().items())
    assert score_model(saved, corpus).selections


def test_svm_of_one_row_is_trained_saved_and_used(tmp_path: Path, corpus: Corpus) -> None:
    """Rows of statistics, as those of openSMILE: no frames over time in model and recognition."""
    folder = write_encoder(tmp_path / "encoder", "whisper")
    path = tmp_path / "svm.safetensors"
    settings = [f"features.encoder={folder}", "features.layers=[1, 2]", "model.select_state=false"]
    saved = train("ssl-svm", corpus, path, settings=settings)
    assert saved.system.recipe.model["states"] == 2
    recognizer = Recognizer(path)
    assert recognizer.system.front_end.width == 64
    utterance = corpus.utterances[0]
    found = recognizer(utterance.path)
    wave_s = audio.load(utterance.path, 16_000)
    x_tf = compute_frames(wave_s, saved.system.front_end)
    assert x_tf.shape == (1, 64)
    with torch.no_grad():
        logits = saved.system({"frames": (torch.from_numpy(x_tf)[None], torch.ones(1, 1).bool())})
    assert found.label == recognizer.classes["emotion"][int(logits.logits["emotion"].argmax())]
    long = recognizer((np.tile(wave_s, 20), 16_000))  # several windows of one row each
    assert long.label in recognizer.classes["emotion"]


def remove_encoder(folder: Path) -> None:
    shutil.rmtree(folder)


def change_encoder(folder: Path) -> None:
    write_encoder(folder, seed=7)


@pytest.mark.parametrize(
    ("spoil", "words"), [(remove_encoder, "no encoder in"), (change_encoder, "is another one")]
)
def test_probe_without_its_encoder_is_an_error(
    spoil: Callable[[Path], None], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_encoder(tmp_path / "encoder")
    path = tmp_path / "probe.safetensors"
    bundle.save(Bundle(build_model("ssl-probe", folder), Card(name="a")), path)
    shutil.copytree(folder, tmp_path / "shelf" / "encoder")
    spoil(folder)
    with pytest.raises(BundleError, match=words) as caught:
        bundle.load(path)
    assert str(caught.value).startswith(f"{path}: ")
    shutil.rmtree(folder, ignore_errors=True)
    monkeypatch.setenv("SEREIN_ENCODERS", str(tmp_path / "shelf"))
    assert bundle.load(path).system.recipe.features["sha256"]


def test_saved_model_never_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def snapshot_download(name: str, *, local_files_only: bool, **_: Any) -> str:
        asked.append(local_files_only)
        return str(tmp_path / "encoder")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    write_encoder(tmp_path / "encoder")
    one = build_model("ssl-probe", Path("lab/tiny"), "features.download=true")
    assert asked == [False]
    assert one.recipe.features["download"] is False
    bundle.save(Bundle(one, Card(name="a")), tmp_path / "a.safetensors")
    bundle.load(tmp_path / "a.safetensors")
    assert asked[1:] == [True, True]
    features = {**one.recipe.features, "download": True, "sha256": ""}
    one.recipe = replace(one.recipe, features=features)  # as in a forged bundle
    bundle.save(Bundle(one, Card(name="a")), tmp_path / "a.safetensors")
    bundle.load(tmp_path / "a.safetensors")
    assert asked[3:] == [True, True]
    with pytest.raises(EncoderError, match="is another one"):
        build_model("ssl-probe", Path("lab/tiny"), "features.download=true", "features.sha256=aa")
    assert asked[5:] == [True]


@pytest.mark.parametrize("kind", ["wav2vec2-group", "data2vec-audio", "whisper"])
def test_fine_tuned_model_contains_its_encoder(kind: str, tmp_path: Path, corpus: Corpus) -> None:
    write_encoder(tmp_path / "encoder", kind)
    path, saved = train_small_model("ssl-finetune", tmp_path, corpus)
    remove_encoder(tmp_path / "encoder")
    recognizer = Recognizer(path)
    found = recognizer(corpus.utterances[0].path)
    assert found.label in recognizer.classes["emotion"]
    assert set(found.attention) == {"emotion", "gender"}
    again = recognizer.system.state_dict()
    assert all(torch.equal(x, again[name]) for name, x in saved.system.state_dict().items())
    assert recognizer.system.recipe.model["architecture"]["model_type"] in kind
    assert system.collect_packages(recognizer.system.recipe)["encoder"]


def test_fine_tuning_starts_from_pretrained_weights(tmp_path: Path, corpus: Corpus) -> None:
    folder = write_encoder(tmp_path / "encoder")
    before = build_model("ssl-finetune", folder).state_dict()
    many = ("training.epochs=40", "training.rate=0.01", "model.lr_factor=1.0")
    path, saved = train_small_model("ssl-finetune", tmp_path, corpus, *many)
    after = saved.system.state_dict()
    still = [name for name in before if torch.equal(before[name], after[name])]
    assert any("feature_extractor" in name for name in still)
    assert not any("encoder.layers" in name for name in still)
    right = [Recognizer(path)(one.path).label == one.labels["emotion"] for one in corpus.utterances]
    assert np.mean(right) > 0.8


def test_missing_transformers_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_encoder(tmp_path / "a")
    monkeypatch.setattr("serein.layers.ssl_encoder.import_module", broken)
    with pytest.raises(EncoderError, match=r"pip install 'serein\[ssl\]'"):
        front_end(folder)


def broken(name: str) -> None:
    raise ImportError(name)
