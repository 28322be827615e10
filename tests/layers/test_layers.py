import math
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor, nn

from serein.errors import ConfigError
from serein.layers.attention import StructuredAttention
from serein.layers.packed import PackedConv1d, pack_frames
from serein.layers.recurrent import BLSTM, Dropout, last_states, reverse_sequences
from serein.tasks.heads import UNLABELLED_CLASS, ClassificationConfig, ClassificationTask

LENGTHS = [1, 2, 3, 17]


def sequences(lengths: list[int], width: int, *, tails: bool = False) -> tuple[Tensor, Tensor]:
    """Random values in double precision, also on padding; with ``tails``, constant tails."""
    torch.manual_seed(3)
    x_btd = torch.randn(len(lengths), max(lengths) + 2, width, dtype=torch.float64)
    mask_bt = torch.arange(x_btd.shape[1]) < torch.tensor(lengths)[:, None]
    if tails:
        for x_td, length in zip(x_btd, lengths, strict=True):
            x_td[length // 3 : length] = torch.randn(width, dtype=torch.float64)
    return x_btd, mask_bt


def assert_close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=0)


# Convolution


def torch_convolution(layer: PackedConv1d) -> nn.Conv1d:
    channels, taps, filters = layer.weight_fkd.shape
    reference = nn.Conv1d(channels, filters, taps, padding=taps // 2, padding_mode="replicate")
    reference = reference.double()
    with torch.no_grad():
        reference.weight.copy_(layer.weight_fkd.permute(2, 0, 1))
        assert reference.bias is not None
        reference.bias.copy_(layer.bias_d)
    return reference


@pytest.mark.parametrize("tails", [False, True])
@pytest.mark.parametrize("taps", [1, 3, 5])
def test_packed_conv1d_matches_torch_with_replicate_padding(taps: int, tails: bool) -> None:
    lengths = [*LENGTHS, 30]
    x_btf, mask_bt = sequences(lengths, 4, tails=tails)
    other_btf = x_btf.clone().requires_grad_()
    x_btf.requires_grad_()
    layer = PackedConv1d(4, 6, taps).double()
    reference = torch_convolution(layer)
    found_btd, found_mask_bt = layer(
        pack_frames(x_btf, mask_bt, pool=1, context=taps // 2)
    ).max_pool()
    wanted = [reference(x_tf[:n].T[None])[0].T for x_tf, n in zip(other_btf, lengths, strict=True)]
    assert found_mask_bt.sum(dim=1).tolist() == lengths
    for b, wanted_td in enumerate(wanted):
        assert_close(found_btd[b, : lengths[b]], wanted_td)
    weight_btd = torch.randn_like(found_btd) * found_mask_bt[..., None]
    torch.autograd.backward((found_btd * weight_btd).sum())
    wanted_sum = [(w * weight_btd[b, : len(w)]).sum() for b, w in enumerate(wanted)]
    torch.autograd.backward(torch.stack(wanted_sum).sum())
    assert reference.weight.grad is not None
    assert reference.bias is not None
    assert_close(gradient(layer.weight_fkd), reference.weight.grad.permute(1, 2, 0))
    assert_close(gradient(layer.bias_d), gradient(reference.bias))
    for b, length in enumerate(lengths):
        start = length // 3 if tails else length
        ours, theirs = gradient(x_btf)[b, :length], gradient(other_btf)[b, :length]
        assert_close(ours[:start], theirs[:start])
        # The frames of a constant tail are stored once: only the sum of their gradients is defined.
        assert_close(ours[start:].sum(dim=0), theirs[start:].sum(dim=0))
        assert (gradient(x_btf)[b, length:] == 0).all()


def gradient(tensor: Tensor) -> Tensor:
    assert tensor.grad is not None
    return tensor.grad


def test_packed_conv1d_and_max_pool_match_torch_per_sequence() -> None:
    lengths = [*LENGTHS, 40, 40, 40, 9]
    x_btf, mask_bt = sequences(lengths, 3)
    x_btf[4, 5:40] = 0
    x_btf[5, 1:40] = 1
    x_btf[6] = 0
    first, second = PackedConv1d(3, 4, 3).double(), PackedConv1d(4, 5, 5).double()
    rows = pack_frames(x_btf, mask_bt, pool=3, context=3)
    rows = first(rows)
    rows = second(rows.with_features(rows.x_nd.relu()))
    found_btd, found_mask_bt = rows.with_features(rows.x_nd.relu()).max_pool()
    for b, length in enumerate(lengths):
        x_dt = torch_convolution(first)(x_btf[b, :length].T[None]).relu()
        x_td = torch_convolution(second)(x_dt)[0].T.relu()
        wanted = [x_td[i : i + 3].amax(dim=0) for i in range(0, length, 3)]
        assert_close(found_btd[b, : len(wanted)], torch.stack(wanted))
        assert found_mask_bt[b].tolist() == [i < len(wanted) for i in range(14)]


def test_packed_conv1d_initializes_as_torch_does() -> None:
    torch.manual_seed(0)
    layer, reference = PackedConv1d(40, 64, 3), nn.Conv1d(40, 64, 3)
    bound = 1 / math.sqrt(40 * 3)
    assert layer.weight_fkd.abs().max() <= bound
    assert reference.weight.abs().max() <= bound
    ours, theirs = (float(w.detach().std()) for w in (layer.weight_fkd, reference.weight))
    assert ours == pytest.approx(theirs, rel=0.05)
    assert 0.8 * bound < layer.bias_d.abs().max() <= bound


# Packed frames


@pytest.mark.parametrize("tails", [False, True])
@pytest.mark.parametrize("group", [1, 2, 3, 4])
def test_max_pool_keeps_a_partial_last_window(group: int, tails: bool) -> None:
    lengths = [*LENGTHS, 12, 13, 14]
    x_btd, mask_bt = sequences(lengths, 5, tails=tails)
    x_btd = x_btd.abs().requires_grad_()
    found_btd, found_mask_bt = pack_frames(x_btd, mask_bt, pool=group, context=0).max_pool()
    for b, length in enumerate(lengths):
        windows = [x_btd[b, i : min(i + group, length)] for i in range(0, length, group)]
        wanted_td = torch.stack([window.amax(dim=0) for window in windows])
        assert torch.equal(found_btd[b, : len(windows)], wanted_td)
        assert int(found_mask_bt[b].sum()) == len(windows)
        assert found_mask_bt[b, : len(windows)].all()


def test_pack_frames_stores_a_constant_tail_once() -> None:
    x_btd = torch.zeros(2, 300, 2)
    x_btd[:, :7] = torch.rand(2, 7, 2)
    mask_bt = torch.ones(2, 300, dtype=torch.bool)
    rows = pack_frames(x_btd, mask_bt, pool=3, context=2)
    assert rows.extent_b.tolist() == [15, 15]  # 7, a zero, a context of 2, a pool of 3
    assert len(rows.x_nd) == 30
    assert rows.length_b.tolist() == [300, 300]
    x_btd[1, 299, 1] = 1  # in one channel only
    assert pack_frames(x_btd, mask_bt, pool=3, context=2).extent_b.tolist() == [15, 300]


@pytest.mark.parametrize(
    ("tap", "wanted"),
    [
        (0, [1, 1, 1, 4, 4, 6]),
        (1, [1, 1, 2, 4, 4, 6]),
        (2, [1, 2, 3, 4, 5, 6]),
        (3, [2, 3, 3, 5, 5, 6]),
        (4, [3, 3, 3, 5, 5, 6]),
    ],
)
def test_packed_conv1d_does_not_mix_sequences(tap: int, wanted: list[float]) -> None:
    x_btd = torch.tensor([[1.0, 2, 3], [4, 5, 0], [6, 0, 0]])[..., None]
    mask_bt = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.bool)
    layer = PackedConv1d(1, 1, 5)
    with torch.no_grad():
        layer.weight_fkd.zero_()[0, tap, 0] = 1
        layer.bias_d.zero_()
        rows = layer(pack_frames(x_btd, mask_bt, pool=1, context=2))
    assert rows.x_nd[:, 0].tolist() == wanted


# Recurrence


def torch_blstm(layer: BLSTM) -> nn.LSTM:
    inside, hidden = layer.forwards.input_size, layer.forwards.hidden_size
    reference = nn.LSTM(inside, hidden, batch_first=True, bidirectional=True).double()
    states = {name: x.detach() for name, x in layer.forwards.named_parameters()}
    states |= {f"{name}_reverse": x.detach() for name, x in layer.backwards.named_parameters()}
    reference.load_state_dict(states)
    return reference


def run_packed(reference: nn.LSTM, x_btd: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Output of torch, (B, T, 2D), and its last states, (B, 2D)."""
    pack = nn.utils.rnn.pack_padded_sequence(
        x_btd, torch.tensor(lengths), batch_first=True, enforce_sorted=False
    )
    out, (last, _) = reference(pack)
    total = x_btd.shape[1]
    y_btd, _ = nn.utils.rnn.pad_packed_sequence(out, batch_first=True, total_length=total)
    return y_btd, torch.cat([last[0], last[1]], dim=-1)


@pytest.mark.parametrize("lengths", [[3, 17, 1, 2, 9], [6, 6]], ids=["unlike", "alike"])
def test_blstm_matches_torch_on_packed_sequences(lengths: list[int]) -> None:
    x_btd, mask_bt = sequences(lengths, 4)
    x_btd, mask_bt = x_btd[:, : max(lengths)].clone(), mask_bt[:, : max(lengths)]
    other_btd = x_btd.clone().requires_grad_()
    x_btd.requires_grad_()
    layer = BLSTM(4, 3).double()
    reference = torch_blstm(layer)
    wanted_btd, last_bd = run_packed(reference, other_btd, lengths)
    found_btd = layer(x_btd, mask_bt) * mask_bt[..., None]
    assert_close(found_btd, wanted_btd)
    assert_close(last_states(found_btd, mask_bt), last_bd)
    weight_btd = torch.randn_like(found_btd)
    torch.autograd.backward((found_btd * weight_btd).sum())
    torch.autograd.backward((wanted_btd * weight_btd).sum())
    assert_close(gradient(x_btd), gradient(other_btd))
    names = dict(reference.named_parameters())
    for name, parameter in layer.forwards.named_parameters():
        assert_close(gradient(parameter), gradient(names[name]))
    for name, parameter in layer.backwards.named_parameters():
        assert_close(gradient(parameter), gradient(names[f"{name}_reverse"]))


def test_last_states_and_gradient_are_per_sequence() -> None:
    lengths = [2, 5, 1]
    x_btd, mask_bt = sequences(lengths, 6)
    x_btd.requires_grad_()
    found_bd = last_states(x_btd, mask_bt)
    for b, length in enumerate(lengths):
        assert_close(found_bd[b, :3], x_btd[b, length - 1, :3])
        assert_close(found_bd[b, 3:], x_btd[b, 0, 3:])
    torch.autograd.backward(found_bd.sum())
    assert int(gradient(x_btd).sum()) == 3 * 6


def test_reverse_sequences_keeps_padding_in_place() -> None:
    x_btd = torch.arange(10.0).view(2, 5, 1)
    mask_bt = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    found = reverse_sequences(x_btd, mask_bt)[..., 0].tolist()
    assert found == [[2, 1, 0, 3, 4], [9, 8, 7, 6, 5]]
    assert torch.equal(reverse_sequences(reverse_sequences(x_btd, mask_bt), mask_bt), x_btd)


def test_reverse_sequences_twice_is_the_identity_also_for_gradients() -> None:
    x_btd, mask_bt = sequences([2, 4, 1], 2)
    x_btd.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: reverse_sequences(x, mask_bt), (x_btd,))


# Attention


def test_structured_attention_matches_its_formula() -> None:
    lengths = [1, 4, 9]
    x_btd, mask_bt = sequences(lengths, 6)
    layer = StructuredAttention(6, 5, 3).double()
    first, second = (w.weight.detach().numpy() for w in (layer.hidden, layer.heads))
    found_bz, found_bht = layer(x_btd, mask_bt)
    assert found_bz.shape == (3, 18)
    for b, length in enumerate(lengths):
        x_td = x_btd[b, :length].numpy()
        for head in range(3):
            score_t = np.array([second[head] @ np.tanh(first @ frame) for frame in x_td])
            a_t = np.exp(score_t) / np.exp(score_t).sum()
            z_d = sum(a * frame for a, frame in zip(a_t, x_td, strict=True))
            np.testing.assert_allclose(found_bht[b, head, :length].detach(), a_t, atol=1e-12)
            np.testing.assert_allclose(
                found_bz[b, 6 * head : 6 * head + 6].detach(), z_d, atol=1e-12
            )
        assert (found_bht[b, :, length:] == 0).all()


def test_attention_does_not_overflow() -> None:
    layer = StructuredAttention(2, 4, 1)
    with torch.no_grad():
        layer.heads.weight.fill_(1e4)
    z_bd, weight_bht = layer(torch.randn(1, 5, 2), torch.ones(1, 5, dtype=torch.bool))
    assert z_bd.isfinite().all()
    assert float(weight_bht.detach().sum()) == pytest.approx(1)


# Dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.8])
def test_dropout_zeroes_and_rescales(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.rand(200, 500) + 1
    out = Dropout(probability).train()(x)
    zero = out == 0
    spread = math.sqrt(probability * (1 - probability) / x.numel())
    assert float(zero.float().mean()) == pytest.approx(probability, abs=4 * spread)
    torch.testing.assert_close(out[~zero], (x / (1 - probability))[~zero])
    columns = zero.float().mean(dim=0)  # no channel is favoured
    assert float(columns.std()) == pytest.approx(spread * math.sqrt(x.numel() / 200), rel=0.15)


def test_dropout_is_the_identity_in_evaluation_or_at_zero() -> None:
    x = torch.randn(4, 5)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_dropout_zeroes_gradients_too() -> None:
    x = torch.ones(1000, requires_grad=True)
    out = Dropout(0.5).train()(x)
    torch.autograd.backward(out.sum())
    assert torch.equal(gradient(x), out.detach())


# Classification


def build_task(classes: str = "abc", **settings: Any) -> ClassificationTask:
    torch.manual_seed(0)
    return ClassificationTask(ClassificationConfig(**settings), 4, list(classes))


def test_classification_loss_is_mean_cross_entropy_of_labelled() -> None:
    task = build_task()
    logits_bk = torch.randn(5, 3, dtype=torch.float64)
    target_b = torch.tensor([0, 2, UNLABELLED_CLASS, 1, UNLABELLED_CLASS])
    known = [
        (row, k) for row, k in zip(logits_bk.numpy(), target_b.tolist(), strict=True) if k >= 0
    ]
    wanted = np.mean([np.log(np.exp(row).sum()) - row[k] for row, k in known])
    assert float(task.double().loss(logits_bk, target_b)) == pytest.approx(float(wanted))


def test_unlabelled_utterances_have_no_loss_and_no_gradient() -> None:
    task = build_task()
    x_bd = torch.randn(3, 4, requires_grad=True)
    cost = task.loss(task(x_bd), task.targets([None, None, None]))
    assert float(cost.detach()) == 0
    torch.autograd.backward(cost)
    assert (gradient(x_bd) == 0).all()
    assert (gradient(task.head.weight) == 0).all()
    some = task.loss(task(x_bd), task.targets([None, "b", None]))
    alone = task.loss(task(x_bd[1:2]), task.targets(["b"]))
    torch.testing.assert_close(some, alone)


def test_balanced_class_weights_match_scikit_learn() -> None:
    labels = list("aaaaaabbbc")
    task = build_task(class_weights="balanced")
    target_b = task.targets([*labels, None])
    task.fit_statistics(target_b)
    wanted = compute_class_weight("balanced", classes=np.array(list("abc")), y=np.array(labels))
    np.testing.assert_allclose(task.weights_k.numpy(), wanted, rtol=1e-6)
    logits_bk = torch.randn(len(target_b), 3)
    reference = nn.CrossEntropyLoss(torch.tensor(wanted).float(), ignore_index=UNLABELLED_CLASS)
    torch.testing.assert_close(task.loss(logits_bk, target_b), reference(logits_bk, target_b))


def test_absent_class_has_weight_zero() -> None:
    task = build_task("abcd", class_weights="balanced")
    task.fit_statistics(task.targets(["a", "a", "c", None]))
    wanted = compute_class_weight("balanced", classes=np.array(list("ac")), y=np.array(list("aac")))
    assert task.weights_k.tolist() == pytest.approx([wanted[0], 0, wanted[1], 0])
    assert float(task.loss(torch.randn(2, 4), torch.tensor([1, 3]))) == 0


def test_class_weights_default_to_one() -> None:
    task = build_task()
    task.fit_statistics(task.targets(list("aaab")))
    assert task.weights_k.tolist() == [1, 1, 1]


def test_class_weights_are_refitted_and_not_saved() -> None:
    task = build_task("ab", class_weights="balanced")
    task.fit_statistics(task.targets(list("aaab")))
    task.fit_statistics(task.targets(list("ab")))
    assert task.weights_k.tolist() == [1, 1]
    assert set(task.state_dict()) == {"head.weight", "head.bias"}


def test_unknown_labels_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"unknown classes \['joy', 'x'\].*\['a', 'b', 'c'\]"):
        build_task().targets(["a", "x", None, "joy"])


def test_targets_are_class_indices() -> None:
    task = build_task()
    assert task.targets(["c", None, "a"]).tolist() == [2, UNLABELLED_CLASS, 0]
    assert task.targets([]).tolist() == []


def test_decode_returns_probabilities() -> None:
    task = build_task()
    probabilities_bk = task.decode(torch.tensor([[0.0, math.log(3), 0.0]]))
    torch.testing.assert_close(probabilities_bk, torch.tensor([[0.2, 0.6, 0.2]]))
