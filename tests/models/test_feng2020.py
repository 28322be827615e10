"""Feng et al. 2020: equations 1 to 12 in NumPy, its systems, and their inputs."""

from typing import Any

import numpy as np
import pytest
import torch
from builders.numpy_layers import Array, linear, run_decoder, softmax, stacked_blstm, to_array
from torch import Tensor, nn

from serein import config
from serein.errors import ConfigError
from serein.layers.attention import ModelOutput
from serein.layers.outputs import END_ID, START_ID
from serein.models import feng2020

SMALL = {
    "encoder_hidden": 3,
    "encoder_layers": 2,
    "decoder_hidden": 4,
    "decoder_words": 3,
    "decoder_attention": 5,
    "decoder_filters": 2,
    "decoder_taps": 4,
    "hidden": 3,
    "attention_hidden": 6,
    "heads": 2,
    "embedding": 4,
    "dense": 8,
    "max_steps": 6,
}
WIDTH, WORDS = 5, 9
LENGTHS = [20, 11, 1, 8, 14]
SPOKEN = [3, 1, 2, 0, 4]
SYSTEMS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "audio": (("emotion",), {"text": "none"}),
    "text": (("emotion",), {"audio": False, "text": "words"}),
    "combined": (("emotion",), {"text": "words"}),
    "joint": (("emotion", "transcript"), {}),
    "states": (("emotion",), {"audio": False}),
    "asr": (("transcript",), {}),
}
every_system = pytest.mark.parametrize("system", SYSTEMS)
Pair = tuple[Tensor, Tensor]


def build_model(system: str = "joint", **settings: Any) -> feng2020.Model:
    torch.manual_seed(1)
    tasks, own = SYSTEMS[system]
    sizes = config.build_config(feng2020.Config, {**SMALL, **own, **settings}, "model")
    return feng2020.Model(sizes, WIDTH, tasks, WORDS).double().eval()


def frames(lengths: list[int] = LENGTHS) -> Pair:
    torch.manual_seed(2)
    x_btf = torch.randn(len(lengths), max(lengths), WIDTH, dtype=torch.float64)
    mask_bt = torch.arange(x_btf.shape[1]) < torch.tensor(lengths)[:, None]
    x_btf[~mask_bt] *= 100
    return x_btf, mask_bt


def words(counts: list[int] = SPOKEN) -> Pair:
    """Word ids; ids outside the vocabulary on padding."""
    generator = torch.Generator().manual_seed(3)
    id_bl = torch.randint(2, WORDS, (len(counts), max(counts)), generator=generator)
    said_bl = torch.arange(id_bl.shape[1]) < torch.tensor(counts)[:, None]
    return id_bl.masked_fill(~said_bl, -1), said_bl


def ids(spoken: Pair, row: int) -> list[int]:
    return [int(word) for word in spoken[0][row][spoken[1][row]]]


def vector(encoded: ModelOutput) -> Tensor:
    return encoded.vectors["emotion"]


# The paper's equations


def branch(x: Array, part: Any) -> tuple[Array, Array]:
    """Equations 1 to 5, or 12 and 3 to 5: M and the weights of every head."""
    h = stacked_blstm(x, part.blstms)
    inner = np.tanh(to_array(part.attend.hidden.weight) @ h.T)
    weights = np.array([softmax(w @ inner) for w in to_array(part.attend.heads.weight)])
    return np.concatenate([a @ h for a in weights]), weights


def stack_in_numpy(x: Array, size: int) -> Array:
    """Section 5.2: stack frames without overlap; pad the last one."""
    filled = np.vstack([x, np.zeros((-len(x) % size, x.shape[1]))])
    return filled.reshape(-1, size * x.shape[1])


def encode_in_numpy(
    model: feng2020.Model, x: Array, said: list[int]
) -> tuple[Array, dict[str, Array]]:
    """The vector of one utterance, its attention maps, and log-probabilities of each next word."""
    settings, parts = model.config, []
    found: dict[str, Array] = {}
    states = np.zeros((0, 0))
    if model.recogniser is not None:
        h = stacked_blstm(stack_in_numpy(x, settings.stack), model.recogniser.encoder)
        went = run_decoder(model.recogniser.decoder, h, [START_ID, *said])
        states = went.y if settings.state == "hidden" else went.s
        found |= {"recogniser": went.weights, "scores": went.scores}
    if model.audio is not None:
        sums, found["audio"] = branch(x[: settings.frames], model.audio)
        parts.append(sums)
    if model.text is not None:
        if model.words is not None:  # equation 2
            states = to_array(model.words.weight)[said or [END_ID]]
        sums, found["words"] = branch(states, model.text)
        parts.append(sums)
    assert isinstance(model.dense, nn.Linear)
    return np.maximum(linear(np.concatenate(parts), model.dense), 0), found


@pytest.mark.parametrize(
    ("system", "settings"),
    [
        ("audio", {}),
        ("audio", {"frames": 9, "layers": 3}),
        ("text", {}),
        ("combined", {"layers": 1}),
        ("states", {"state": "lstm"}),
        ("joint", {"stack": 2, "encoder_layers": 1}),
        ("joint", {"state": "lstm", "ctc": True, "decoder_taps": 100}),
    ],
)
def test_feng2020_matches_equations_1_to_12(system: str, settings: dict[str, Any]) -> None:
    model = build_model(system, teacher_forcing=True, **settings)
    heard, spoken = frames(), words()
    with torch.no_grad():
        answer = model(heard, spoken)
    for b, (length, count) in enumerate(zip(LENGTHS, SPOKEN, strict=True)):
        x, maps = encode_in_numpy(model, to_array(heard[0][b, :length]), ids(spoken, b))
        np.testing.assert_allclose(to_array(vector(answer)[b]), x, atol=1e-12)
        scores = maps.pop("scores", None)
        assert set(maps) == set(answer.attention)
        for name, weights in maps.items():
            found = to_array(answer.attention[name].weight[b])
            place = tuple(slice(size) for size in weights.shape)
            np.testing.assert_allclose(found[place], weights, atol=1e-12)
            assert found.sum() == pytest.approx(weights.sum())
        if scores is not None:
            logits_lv = answer.transcript.logits_blv[b, : count + 1]
            np.testing.assert_allclose(to_array(logits_lv.log_softmax(-1)), scores, atol=1e-12)


def test_feng2020_sizes_are_those_of_section_5_3() -> None:
    model = feng2020.Model(feng2020.Config(), 40, ["emotion", "transcript"], 1000)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes["recogniser.encoder.layers.0.forwards.weight_ih_l0"] == (4 * 320, 120)
    assert shapes["recogniser.encoder.layers.4.backwards.weight_ih_l0"] == (4 * 320, 640)
    assert "recogniser.encoder.layers.5.forwards.weight_ih_l0" not in shapes
    assert shapes["recogniser.decoder.location.weight"] == (10, 1, 100)
    assert shapes["recogniser.decoder.gates.weight"] == (4 * 320, 640 + 320)
    assert shapes["recogniser.decoder.output.weight"] == (1000, 320)
    for part, width in (("audio", 40), ("text", 320)):
        assert shapes[f"{part}.blstms.layers.0.forwards.weight_ih_l0"] == (4 * 256, width)
        assert shapes[f"{part}.blstms.layers.1.forwards.weight_ih_l0"] == (4 * 256, 512)
        assert f"{part}.blstms.layers.2.forwards.weight_ih_l0" not in shapes
        assert shapes[f"{part}.attend.hidden.weight"] == (512, 512)
        assert shapes[f"{part}.attend.heads.weight"] == (8, 512)
    assert shapes["dense.weight"] == (2048, 2 * 8 * 512)
    assert (model.width, model.config.beam, model.config.dropout) == (2048, 4, 0.2)
    text = feng2020.Model(feng2020.Config(audio=False, text="words"), 40, ["emotion"], 1000)
    assert text.words is not None
    assert tuple(text.words.weight.shape) == (1000, 300)


# Padding, short and empty input


@every_system
@pytest.mark.parametrize("forced", [True, False])
@torch.no_grad()
def test_feng2020_ignores_padding_and_other_utterances(system: str, forced: bool) -> None:
    model, heard, spoken = build_model(system, teacher_forcing=forced), frames(), words()
    together = model(heard, spoken)
    for b, (length, count) in enumerate(zip(LENGTHS, SPOKEN, strict=True)):
        own = slice(b, b + 1)
        one = model(
            (heard[0][own, :length], heard[1][own, :length]),
            (spoken[0][own, :count], spoken[1][own, :count]),
        )
        for task, x_bd in one.vectors.items():
            torch.testing.assert_close(together.vectors[task][b], x_bd[0])
        for name, (weight, _) in one.attention.items():
            place = (b, *(slice(size) for size in weight.shape[1:]))
            torch.testing.assert_close(together.attention[name].weight[place], weight[0])
        if one.transcript is not None and one.transcript.id_bl is not None:
            found = together.transcript.id_bl[b]
            assert found[found >= 0].tolist() == one.transcript.id_bl[0].tolist()
            torch.testing.assert_close(together.transcript.score_b[b], one.transcript.score_b[0])


@every_system
@pytest.mark.parametrize("training", [True, False])
def test_feng2020_accepts_silence_and_short_audio(system: str, training: bool) -> None:
    model = build_model(system).train(training)
    nothing = torch.zeros(2, 0, dtype=torch.long), torch.zeros(2, 0, dtype=torch.bool)
    for length in (1, 8):
        answer = model(frames([length, length]), nothing)
        for x_bd in answer.vectors.values():
            assert x_bd.isfinite().all()
        for weight, _ in answer.attention.values():
            torch.testing.assert_close(weight.sum(-1), torch.ones_like(weight[..., 0]))


@pytest.mark.parametrize("system", ["joint", "states"])
@torch.no_grad()
def test_empty_search_result_still_gives_one_state(system: str) -> None:
    model = build_model(system)
    assert model.recogniser is not None
    model.recogniser.decoder.output.bias[END_ID] = 1e3
    answer = model(frames())
    assert answer.transcript.id_bl.shape == (5, 0)
    assert answer.transcript.ended_b.all()
    assert (answer.attention["words"].weight == 1).all()
    assert answer.attention["recogniser"].weight.shape == (5, 1, 7)
    assert vector(answer).isfinite().all()
    torch.testing.assert_close(
        vector(answer), vector(build_model(system, teacher_forcing=True)(frames(), no_words()))
    )


def no_words(count: int = 5) -> Pair:
    return torch.zeros(count, 3, dtype=torch.long), torch.zeros(count, 3, dtype=torch.bool)


@torch.no_grad()
def test_search_without_end_stops_at_max_steps() -> None:
    model = build_model("joint", max_steps=4)
    assert model.recogniser is not None
    model.recogniser.decoder.output.bias[END_ID] = -1e3
    answer = model(frames())
    assert answer.transcript.id_bl.shape == (5, 4)
    assert (answer.transcript.id_bl > END_ID).all()
    assert not answer.transcript.ended_b.any()
    assert vector(answer).isfinite().all()


@torch.no_grad()
def test_audio_branch_is_cropped_and_the_recogniser_is_not() -> None:
    model, (x_btf, mask_bt) = build_model("joint", frames=6), frames([20, 15])
    before = model((x_btf, mask_bt))
    assert before.attention["audio"].weight.shape[-1] == 6
    assert before.attention["recogniser"].weight.shape[-1] == 7
    x_btf[:, 6:15] += 1
    after = model((x_btf, mask_bt))
    assert torch.equal(before.attention["audio"].weight, after.attention["audio"].weight)
    assert not torch.equal(before.transcript.score_b, after.transcript.score_b)


@torch.no_grad()
def test_pad_adds_unmasked_zeros() -> None:
    padded, masked, (x_btf, mask_bt) = (
        build_model("audio", pad=True, frames=24),
        build_model("audio"),
        frames(),
    )
    filled_btf = torch.zeros(5, 24, WIDTH, dtype=torch.float64)
    filled_btf[:, :20] = x_btf.masked_fill(~mask_bt[..., None], 0)
    wanted = masked((filled_btf, torch.ones(5, 24, dtype=torch.bool)))
    found = padded((x_btf, mask_bt))
    torch.testing.assert_close(vector(found), vector(wanted))
    assert found.attention["audio"].weight.shape == (5, 2, 24)


# Gradients and inputs


@every_system
def test_each_system_has_its_parts_and_all_get_gradients(system: str) -> None:
    model = build_model(system, ctc=True).train()
    answer = model(frames(), words())
    cost = sum((x_bd.sum() for x_bd in answer.vectors.values()), torch.tensor(0.0))
    if answer.transcript is not None:
        cost = cost + answer.transcript.logits_blv.logsumexp(dim=-1).sum()
        cost = cost + answer.transcript.ctc_btv.logsumexp(dim=-1).sum()
        assert answer.transcript.logits_blv.shape == (5, 5, WORDS)
        assert answer.transcript.ctc_btv.shape == (5, 7, WORDS)
        assert answer.transcript.mask_bt.sum(dim=1).tolist() == [7, 4, 1, 3, 5]
    cost.backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert silent == []
    assert (model.recogniser is not None) == (system in ("joint", "states", "asr"))
    assert (model.audio is not None) == (system in ("audio", "combined", "joint"))
    assert (model.dense is None) == (system == "asr")
    assert list(answer.vectors) == ["emotion"] * (system != "asr")


@pytest.mark.parametrize("flow", [True, False])
def test_asr_gradient_controls_gradients_of_the_recogniser(flow: bool) -> None:
    model = build_model("joint", asr_gradient=flow).train()
    torch.autograd.backward(vector(model(frames(), words())).sum())
    assert model.recogniser is not None
    reached = {name for name, p in model.recogniser.named_parameters() if p.grad is not None}
    through = {f"encoder.layers.0.{side}.weight_hh_l0" for side in ("forwards", "backwards")}
    assert (through | {"decoder.words.weight", "decoder.location.weight"} <= reached) == flow
    assert not any(name.startswith("decoder.output") for name in reached)


@torch.no_grad()
def test_words_are_given_in_training_and_searched_in_evaluation() -> None:
    model, heard, spoken = build_model("joint", dropout=0.0), frames(), words()
    found, blind = model(heard, spoken), model(heard)
    assert found.transcript.logits_blv is None
    assert torch.equal(found.transcript.id_bl, blind.transcript.id_bl)
    assert torch.equal(vector(found), vector(blind))
    trained = model.train()(heard, spoken)
    assert trained.transcript.id_bl is trained.transcript.score_b is None
    forced = build_model("joint", teacher_forcing=True)(heard, spoken)
    torch.testing.assert_close(trained.transcript.logits_blv, forced.transcript.logits_blv)
    torch.testing.assert_close(vector(trained), vector(forced))
    assert not torch.allclose(vector(trained), vector(found))


@torch.no_grad()
def test_states_are_those_over_the_predicted_words() -> None:
    models, heard = (build_model("joint"), build_model("joint", teacher_forcing=True)), frames()
    for model in models:
        assert model.recogniser is not None
        model.recogniser.decoder.output.bias[END_ID] = -0.5
    found = models[0](heard)
    said_bl = found.transcript.id_bl >= 0
    assert said_bl.sum() > 0
    again = models[1](heard, (found.transcript.id_bl, said_bl))
    torch.testing.assert_close(vector(found), vector(again))
    logits_blv = again.transcript.logits_blv.log_softmax(dim=-1)
    target_bl = torch.where(said_bl, found.transcript.id_bl, END_ID)
    target_bl = torch.cat([target_bl, torch.full((5, 1), END_ID)], dim=1)
    gain_bl = logits_blv.gather(2, target_bl[..., None])[..., 0]
    steps_b = said_bl.sum(dim=1) + found.transcript.ended_b
    total_b = (gain_bl * (torch.arange(gain_bl.shape[1]) < steps_b[:, None])).sum(dim=1)
    torch.testing.assert_close(found.transcript.score_b, total_b.float())


def test_scheduled_sampling_is_off_in_evaluation() -> None:
    model, heard, spoken = (
        build_model("asr", scheduled_sampling=1.0, teacher_forcing=True, dropout=0.0),
        frames(),
        words(),
    )
    judged = model(heard, spoken).transcript.logits_blv
    torch.testing.assert_close(
        judged, build_model("asr", teacher_forcing=True)(heard, spoken).transcript.logits_blv
    )
    assert not torch.allclose(judged, model.train()(heard, spoken).transcript.logits_blv)


@pytest.mark.parametrize("system", ["text", "combined"])
@torch.no_grad()
def test_empty_text_is_its_end_token(system: str) -> None:
    model, heard = build_model(system), frames()
    ended = torch.full((5, 1), END_ID), torch.ones(5, 1, dtype=torch.bool)
    torch.testing.assert_close(vector(model(heard, no_words())), vector(model(heard, ended)))


@every_system
@torch.no_grad()
def test_feng2020_in_bf16_is_close(system: str) -> None:
    model, heard = (
        build_model(system, teacher_forcing=True).float(),
        (frames()[0].float(), frames()[1]),
    )
    wanted = model(heard, words())
    with torch.autocast("cpu", torch.bfloat16):
        found = model(heard, words())
        assert system != "asr" or build_model(system).float()(heard).transcript.id_bl.shape[0] == 5
    for task, x_bd in wanted.vectors.items():
        torch.testing.assert_close(found.vectors[task].float(), x_bd, atol=0.02, rtol=0)
    for name, (weight, _) in wanted.attention.items():
        assert found.attention[name].weight.dtype == torch.float32
        torch.testing.assert_close(found.attention[name].weight, weight, atol=0.02, rtol=0)


# Errors


@pytest.mark.parametrize(
    ("tasks", "settings", "vocabulary", "message"),
    [
        (["emotion"], {"audio": False, "text": "none"}, 9, "emotion would have no input"),
        (["emotion"], {"frames": 0, "pad": True}, 9, r"model\.frames, which is 0"),
        (["emotion"], {}, 0, r'model\.text = "states" reads or writes words.* has 0'),
        (["emotion"], {"text": "words"}, 1, r'model\.text = "words".* has 1: train on a corpus'),
        (["transcript"], {}, 0, "task transcript reads or writes words"),
    ],
)
def test_invalid_combinations_are_errors(
    tasks: list[str], settings: dict[str, Any], vocabulary: int, message: str
) -> None:
    sizes = config.build_config(feng2020.Config, {**SMALL, **settings}, "model")
    with pytest.raises(ConfigError, match=message):
        feng2020.Model(sizes, WIDTH, tasks, vocabulary)


@pytest.mark.parametrize(
    ("system", "given", "lacking"),
    [("text", False, "words"), ("joint", True, "frames"), ("combined", True, "frames")],
)
def test_missing_input_is_an_error(system: str, given: bool, lacking: str) -> None:
    with pytest.raises(ConfigError, match=f"reads {lacking}, and none were given"):
        build_model(system)(None if given else frames(), words() if given else None)


@pytest.mark.parametrize(
    "settings",
    [{"stack": 0}, {"beam": 0}, {"scheduled_sampling": 1.5}, {"state": "cell"}, {"text": "audio"}],
)
def test_settings_out_of_range_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"model.{next(iter(settings))}"):
        config.build_config(feng2020.Config, settings, "model")
