"""Whisper as recogniser: rows of encoder and decoder states, tokens, alignment, and faults."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import CLASSES
from builders.whisper_encoders import SIZES, write_tokenizer, write_whisper, write_whisper_model
from safetensors.torch import load_file, save_file
from torch import Tensor

from serein import bundle, recipes
from serein.bundle import Bundle, Card
from serein.config import build_config
from serein.errors import BundleError, ConfigError, EncoderError, SereinError
from serein.features.whisper_asr import (
    Config,
    FrontEnd,
    WhisperRecognizer,
    align_rows,
    find_monotonic_path,
    load_recognizer,
    mean_pool,
    read_alignment_heads,
)
from serein.labels.whisper_tokens import WhisperTokens
from serein.synthetic import Voice, synthesize
from serein.system import System, collect_packages, predict_batch
from serein.training.dataset import compute_frames

WIDTH = SIZES["d_model"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_whisper_model(tmp_path_factory.mktemp("whisper") / "tiny")


def build_front_end(folder: Path, **settings: Any) -> Any:
    table = {"encoder": str(folder), "padding": "do_not_pad", **settings}
    return FrontEnd(build_config(Config, table, "features"))


def speech() -> Tensor:
    said = Voice.for_speaker("a", "female")
    return torch.from_numpy(synthesize(["fosira", "xuri"], said, "anger", np.random.default_rng(0)))


def compute_rows(front_end: FrontEnd, wave_s: Tensor) -> Tensor:
    x_brf, mask_br = front_end(wave_s[None], torch.tensor([len(wave_s)]))
    assert bool(mask_br.all())
    rows: Tensor = x_brf[0]
    return rows


def test_a_row_is_encoder_states_and_the_state_of_the_token_that_is_spoken(folder: Path) -> None:
    front_end, wave_s = build_front_end(folder, layers=[1, 3]), speech()
    row_rf = compute_rows(front_end, wave_s)
    transcript = WhisperRecognizer(folder)(wave_s, padded_seconds=0, pool=2)
    assert front_end.width == row_rf.shape[1] == 3 * WIDTH
    assert len(row_rf) == -(-len(wave_s) // 160 // 4)
    expected = [mean_pool(transcript.layers[layer - 1], 2) for layer in (1, 3)]
    torch.testing.assert_close(row_rf[:, : 2 * WIDTH], torch.cat(expected, dim=1))
    torch.testing.assert_close(row_rf[:, 2 * WIDTH :], transcript.state_ld[transcript.token_r])
    assert len(transcript.state_ld) == len(transcript.ids) + 1
    assert sorted(set(transcript.token_r.tolist())) == list(range(len(transcript.state_ld)))


def test_a_recogniser_that_is_loaded_in_inference_computes_the_same(tmp_path: Path) -> None:
    folder, wave_s = write_whisper_model(tmp_path / "w", seed=4), speech()
    front_end = build_front_end(folder)
    found = compute_frames(wave_s.numpy(), front_end)
    load_recognizer.cache_clear()
    np.testing.assert_array_equal(compute_rows(front_end, wave_s).numpy(), found)


def test_encoder_states_are_those_of_the_front_end_whisper(folder: Path) -> None:
    wave_s = speech()
    frames = compute_rows(build_front_end(folder, layers=[2], pool=1), wave_s)[:, :WIDTH]
    from serein.features import whisper

    settings = build_config(whisper.Config, {"encoder": str(folder), "layers": [2]}, "features")
    row_11f, _ = whisper.FrontEnd(settings)(wave_s[None], torch.tensor([len(wave_s)]))
    torch.testing.assert_close(frames.mean(dim=0), row_11f[0, 0, :WIDTH], atol=1e-4, rtol=1e-3)


def test_padding_reaches_the_encoder_and_adds_no_row(folder: Path) -> None:
    wave_s = speech()
    own, padded = (
        compute_rows(build_front_end(folder, padding=padding), wave_s)
        for padding in ("do_not_pad", "max_length")
    )
    assert len(own) == len(padded)
    assert not torch.allclose(own[:, :WIDTH], padded[:, :WIDTH], atol=1e-3)


def test_silence_fills_the_input_up_to_the_longest_utterance(folder: Path) -> None:
    wave_s = speech()
    wave_s = wave_s - wave_s.mean()
    filled_s = torch.nn.functional.pad(wave_s, (0, 2 * 16_000 - len(wave_s)))
    recognizer = WhisperRecognizer(folder)
    expected_td = recognizer(filled_s, padded_seconds=0).layers[2]
    rows = compute_rows(build_front_end(folder, padding="max_length", seconds=2.0), wave_s)
    frames = -(-len(wave_s) // 320)
    torch.testing.assert_close(
        rows[:, :WIDTH], mean_pool(expected_td[:frames], 2), atol=1e-4, rtol=1e-3
    )


def test_rows_do_not_depend_on_the_batch_or_on_gain(folder: Path) -> None:
    front_end, wave_s = build_front_end(folder), speech()
    short_s = wave_s[:9000]
    pair = torch.stack([wave_s, torch.nn.functional.pad(short_s, (0, len(wave_s) - 9000))])
    x_brf, mask_br = front_end(pair, torch.tensor([len(wave_s), 9000]))
    torch.testing.assert_close(x_brf[1][mask_br[1]], compute_rows(front_end, short_s))
    quiet = compute_rows(front_end, 0.01 * wave_s)[:, :WIDTH]
    torch.testing.assert_close(x_brf[0][:, :WIDTH], quiet, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("samples", [1, 399, 16_000])
def test_short_and_silent_recordings_have_finite_rows(folder: Path, samples: int) -> None:
    for wave_s in (torch.zeros(samples), torch.ones(samples), torch.randn(samples)):
        row_rf = compute_rows(build_front_end(folder, pool=3), wave_s)
        assert len(row_rf) >= 1
        assert torch.isfinite(row_rf).all()


def test_a_language_is_detected_or_given_and_an_unknown_one_is_refused(folder: Path) -> None:
    recognizer, wave_s = WhisperRecognizer(folder), speech()
    assert recognizer(wave_s, padded_seconds=0).language in ("en", "de", "haw")
    assert recognizer(wave_s, padded_seconds=0, language="de").language == "de"
    with pytest.raises(ConfigError, match="'dk' is none of 3 of the recogniser"):
        build_front_end(folder, language="dk")


def test_commands_symbols_and_times_are_never_recognised(folder: Path) -> None:
    recognizer = WhisperRecognizer(folder)
    tokens, count = recognizer.tokens, recognizer.decoder.config.vocab_size
    suppressed = {*tokens.list_suppressed(count)}
    assert {*range(tokens.end + 1, count)} <= suppressed
    assert tokens.end not in suppressed
    assert {tokens.ids["("], tokens.ids["Ġ("]} <= suppressed
    assert not {tokens.ids["-"], tokens.ids["'"], tokens.ids["a"]} & suppressed
    generator = torch.Generator().manual_seed(3)
    for seconds in (0.3, 1.0):
        wave_s = torch.randn(round(16_000 * seconds), generator=generator)
        transcript = recognizer(wave_s, padded_seconds=0, pool=2)
        assert not {*transcript.ids} & suppressed
        assert len(transcript.state_ld) <= -(-len(wave_s) // 640)


def test_tokens_of_bytes_become_text_and_words(tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    tokens = WhisperTokens.read(tmp_path)
    ids = [tokens.ids[name] for name in ("Ġder", "Ġlappen", "s", "ÃŁ", "Ġ", "Ã")]
    assert tokens.decode(ids) == " der lappens\u00df \ufffd"
    assert tokens.split_words(ids) == [0, 1, 1, 1, 2, 2]
    assert tokens.languages.keys() == {"en", "de", "haw"}
    assert tokens.build_prompt(None) == [tokens.special["<|notimestamps|>"]]


def brute_force(score_lr: np.ndarray) -> list[int]:
    """Every path that begins at the first token, ends at the last, and moves by at most one."""
    tokens, rows = score_lr.shape
    paths = [[0]]
    for _ in range(rows - 1):
        paths = [[*path, path[-1] + step] for path in paths for step in (0, 1)]
    paths = [path for path in paths if path[-1] == tokens - 1]
    return max(paths, key=lambda path: sum(score_lr[token, row] for row, token in enumerate(path)))


@pytest.mark.parametrize(("tokens", "rows"), [(1, 1), (1, 5), (3, 3), (4, 9)])
def test_the_path_is_the_best_of_all(tokens: int, rows: int) -> None:
    score_lr = np.random.default_rng(tokens).normal(size=(tokens, rows))
    assert find_monotonic_path(score_lr).tolist() == brute_force(score_lr)


def test_rows_follow_the_attention_of_tokens() -> None:
    weight_klt = torch.full((2, 3, 10), 1e-3)
    for token, frames in enumerate((range(4), range(4, 6), range(6, 10))):
        weight_klt[:, token, list(frames)] = 0.3
    assert align_rows(weight_klt, 10, 1).tolist() == [0] * 4 + [1] * 2 + [2] * 4
    assert align_rows(weight_klt, 5, 2).tolist() == [0, 0, 1, 2, 2]


def test_heads_for_timing_are_read_or_those_of_the_upper_layers(tmp_path: Path) -> None:
    folder = write_whisper_model(tmp_path / "w")
    assert read_alignment_heads(folder, 2) is None
    settings = folder / "generation_config.json"
    settings.write_text(json.dumps({"alignment_heads": [[1, 0], [0, 1]]}))
    assert read_alignment_heads(folder, 2) == [(1, 0), (0, 1)]
    assert len(compute_rows(build_front_end(folder), speech())) > 1
    with pytest.raises(EncoderError, match="names a layer that its decoder lacks"):
        read_alignment_heads(folder, 1)
    settings.write_text("{")
    with pytest.raises(EncoderError, match="is not the settings of a recogniser"):
        read_alignment_heads(folder, 2)


# Systems


def build_system(folder: Path, name: str = "feng2020-emodb-whisper", *settings: str) -> System:
    torch.manual_seed(0)
    small = ["model.hidden=4", "model.attention_hidden=6", "model.heads=2", "model.dense=8"]
    named = [f"features.encoder={folder}", "features.padding=do_not_pad", *small]
    recipe = recipes.load(name, [*named, "tasks.emotion.scheme=own", *settings])
    return System(recipe, {"emotion": CLASSES["emotion"]}).eval()


def predict(system: System, wave_s: Tensor) -> Any:
    inputs = system.extract_features(wave_s[None], torch.tensor([len(wave_s)]))
    return predict_batch(system, inputs)


def test_both_branches_have_maps_over_the_rows(folder: Path) -> None:
    system, wave_s = build_system(folder), speech()
    _, output = predict(system, wave_s)
    rows = len(compute_rows(build_front_end(folder), wave_s))
    assert output.attention.keys() == {"audio", "decoder"}
    for weight_bht, stride in output.attention.values():
        assert stride == 1
        assert weight_bht.shape == (1, 2, rows)
        torch.testing.assert_close(weight_bht.sum(dim=2), torch.ones(1, 2))
    assert system.recipe.model["decoder_channels"] == WIDTH


def test_the_audio_system_reads_no_decoder_state(folder: Path) -> None:
    system = build_system(folder, "feng2020-emodb-whisper-audio")
    x_btf, mask_bt = system.extract_features(speech()[None], torch.tensor([len(speech())]))[
        "frames"
    ]
    changed_btf = x_btf.clone()
    changed_btf[..., WIDTH:] = 7
    for one, is_equal in ((system, True), (build_system(folder), False)):
        outputs = [one({"frames": (x, mask_bt)}) for x in (x_btf, changed_btf)]
        before, after = (output.logits["emotion"] for output in outputs)
        assert torch.allclose(before, after) == is_equal


def test_the_text_branch_reads_each_token_once(folder: Path) -> None:
    system = build_system(folder, "feng2020-emodb-whisper", "model.audio=false")
    state_ld = torch.randn(3, WIDTH, generator=torch.Generator().manual_seed(5))
    logits = []
    for counts in ((1, 1, 1), (4, 1, 3), (2, 6, 2)):
        token_t = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
        frames_tf = torch.cat([torch.randn(len(token_t), WIDTH), state_ld[token_t]], dim=1)
        padded_1tf = torch.nn.functional.pad(frames_tf, (0, 0, 0, 2), value=9.0)[None]
        mask_1t = torch.arange(padded_1tf.shape[1])[None] < len(token_t)
        output = system({"frames": (padded_1tf, mask_1t)})
        logits.append(output.logits["emotion"])
        weight_t = output.attention["decoder"].weight[0, 0]
        assert all(
            a == b
            for (a, b), (i, j) in zip(
                pairwise(weight_t.tolist()), pairwise(token_t.tolist()), strict=False
            )
            if i == j
        )
        assert weight_t[-2:].tolist() == [0, 0]
    torch.testing.assert_close(logits[0], logits[1])
    torch.testing.assert_close(logits[0], logits[2])


def test_a_saved_model_holds_the_hash_and_needs_the_folder(folder: Path, tmp_path: Path) -> None:
    system, path = build_system(folder), tmp_path / "model.safetensors"
    bundle.save(Bundle(system, Card(name="a")), path)
    loaded = bundle.load(path).system
    torch.testing.assert_close(predict(loaded, speech())[0], predict(system, speech())[0])
    assert collect_packages(system.recipe) == {"recogniser": system.front_end.config.sha256}
    assert system.front_end.config.sha256[:6] in json.dumps(system.recipe.features)


def test_a_saved_model_refuses_another_recogniser(tmp_path: Path) -> None:
    folder, path = write_whisper_model(tmp_path / "w"), tmp_path / "model.safetensors"
    bundle.save(Bundle(build_system(folder), Card(name="a")), path)
    write_whisper_model(folder, seed=1)
    with pytest.raises(
        BundleError, match=r"is another one: its SHA-256 is .* train the model anew"
    ):
        bundle.load(path)


# Faults


def drop(folder: Path, start: str) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: x for name, x in weights.items() if not name.startswith(start)}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("start", "message"),
    [
        ("model.decoder.layers.1.fc1", "2 of .* weights of the decoder are missing"),
        ("model.decoder.", "an encoder alone recognises no words"),
        ("model.encoder.layer_norm.", "lack encoder.layer_norm.weight"),
        ("model.encoder.conv1", "weights of the encoder are missing"),
    ],
)
def test_incomplete_weights_are_an_error(tmp_path: Path, start: str, message: str) -> None:
    folder = write_whisper_model(tmp_path / "w")
    drop(folder, start)
    with pytest.raises(EncoderError, match=message):
        compute_rows(build_front_end(folder), speech())


def test_a_missing_folder_an_encoder_alone_and_a_missing_tokenizer_are_errors(
    tmp_path: Path,
) -> None:
    with pytest.raises(EncoderError, match=r"no recogniser is named; .* features.encoder=FOLDER"):
        build_front_end(Path(), encoder="")
    with pytest.raises(EncoderError, match="no encoder in"):
        build_front_end(tmp_path / "none")
    alone = write_whisper(tmp_path / "alone")
    with pytest.raises(EncoderError, match=r"holds no tokenizer\.json"):
        build_front_end(alone)
    write_tokenizer(alone)
    with pytest.raises(EncoderError, match="no valid decoder_attention_heads"):
        build_front_end(alone)
    whole = write_whisper_model(tmp_path / "whole")
    (whole / "tokenizer.json").write_text('{"model": {"vocab": []}, "added_tokens": []}')
    with pytest.raises(EncoderError, match="is not the tokenizer of Whisper"):
        compute_rows(build_front_end(whole), speech())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": []}, "features.layers is empty"),
        ({"layers": [4]}, r"features.layers = \[4\]; the encoder has layers 1 to 3"),
        ({"sha256": "ab"}, r"its SHA-256 is .*, expected ab"),
        ({"pool": 0}, "pool"),
    ],
)
def test_settings_out_of_range_are_errors(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SereinError, match=message):
        build_front_end(folder, **settings)


def test_decoder_states_need_this_front_end(folder: Path) -> None:
    without = recipes.load("feng2020-emodb-audio", ["model.text=frames"])
    with pytest.raises(ConfigError, match=r"set features\.name = whisper_asr"):
        System(without, {"emotion": CLASSES["emotion"]})
    with pytest.raises(ConfigError, match="do not set it, the front end whisper_asr sets it"):
        build_system(folder, "feng2020-emodb-whisper", "model.decoder_channels=40")
