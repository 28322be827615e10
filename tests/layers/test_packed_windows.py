"""Packed windows, convolution without padding, and multi-head attention."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from serein.layers.attention import MultiHeadAttention
from serein.layers.packed import PackedValidConv1d, align_to_centres, pack_windows


def random_sequences(lengths: list[int], channels: int = 3) -> tuple[Tensor, Tensor]:
    """Random values, also on padding, and their mask."""
    torch.manual_seed(0)
    mask_bt = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    return torch.randn(len(lengths), max(lengths), channels), mask_bt


@pytest.mark.parametrize("size", [1, 2, 4, 5])
@pytest.mark.parametrize("lengths", [[9, 4, 1], [3], [5, 5], [2, 12]])
def test_pack_windows_holds_every_window(size: int, lengths: list[int]) -> None:
    x_btd, mask_bt = random_sequences(lengths)
    x_nd, place_bl, mask_bl = pack_windows(x_btd, mask_bt, size=size, fill=-7)
    assert mask_bl.sum(dim=1).tolist() == [max(1, length - size + 1) for length in lengths]
    for b, length in enumerate(lengths):
        filled_td = F.pad(x_btd[b, :length], (0, 0, 0, max(0, size - length)), value=-7)
        for step in range(int(mask_bl[b].sum())):
            place = int(place_bl[b, step])
            assert torch.equal(x_nd[place : place + size], filled_td[step : step + size])


def test_pack_windows_stores_a_constant_tail_once() -> None:
    x_btd, mask_bt = random_sequences([200, 200, 200])
    x_btd[0, 20:] = -1
    x_btd[1] = 3
    x_nd, place_bl, mask_bl = pack_windows(x_btd, mask_bt, size=5, fill=-1)
    assert len(x_nd) == (20 + 1 + 4) + (1 + 4) + 200
    for b in range(3):
        for step in range(196):
            place = int(place_bl[b, step])
            assert torch.equal(x_nd[place : place + 5], x_btd[b, step : step + 5])
    assert mask_bl.all()


@pytest.mark.parametrize("size", [1, 2, 4, 5])
def test_align_to_centres_places_windows_at_their_centres(size: int) -> None:
    lengths = [9, size, 1, 3]
    _, mask_bt = random_sequences(lengths)
    count = max(lengths) - size + 1
    number_bld = torch.arange(4 * count).view(4, count, 1).float()
    x_btd, middle_bt = align_to_centres(number_bld, mask_bt, size)
    for b, length in enumerate(lengths):
        found = {int(t): int(x_btd[b, t]) - b * count for t in middle_bt[b].nonzero()}
        if length >= size:
            assert found == {w + size // 2: w for w in range(length - size + 1)}
        else:
            assert found == {min(size // 2, length - 1): 0}
        assert not middle_bt[b, length:].any()
    edge = x_btd[0, : size // 2, 0]
    assert torch.equal(edge, number_bld[0, 0].expand(len(edge)))
    assert float(x_btd[0, -1]) == 9 - size


@pytest.mark.parametrize(("taps", "channels"), [(3, 4), (1, 5), (2, 1)])
def test_packed_valid_conv1d_matches_torch(taps: int, channels: int) -> None:
    layer = PackedValidConv1d(channels, 6, taps)
    x_nf = torch.randn(11, channels)
    weight = layer.product.weight.view(6, taps, channels).mT
    wanted = F.conv1d(x_nf.T[None], weight, layer.product.bias)[0].T
    torch.testing.assert_close(layer(x_nf), wanted)
    bound = (taps * channels) ** -0.5
    assert 0.5 * bound < float(layer.product.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("training", [True, False])
def test_multi_head_attention_matches_torch(training: bool) -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(12, heads=3, head_size=4).train(training)
    peer = torch.nn.MultiheadAttention(12, 3, bias=False, batch_first=True)
    with torch.no_grad():
        peer.in_proj_weight.copy_(ours.project.weight)
        peer.out_proj.weight.copy_(ours.join.weight)
    x_btd, mask_bt = random_sequences([9, 4], 12)
    y_btd, weight_bhtt = ours(x_btd, mask_bt)
    wanted, weights = peer(x_btd, x_btd, x_btd, ~mask_bt, average_attn_weights=False)
    torch.testing.assert_close(y_btd, wanted)
    if training:
        assert weight_bhtt is None
    else:
        torch.testing.assert_close(weight_bhtt, weights)


def test_multi_head_attention_with_any_head_size() -> None:
    layer = MultiHeadAttention(6, heads=2, head_size=5).eval()
    y_btd, weight_bhtt = layer(*random_sequences([4, 3], 6))
    assert y_btd.shape == (2, 4, 6)
    assert weight_bhtt is not None
    np.testing.assert_allclose(weight_bhtt.detach().sum(dim=-1).numpy(), 1, atol=1e-6)
    assert (weight_bhtt[1, ..., 3] == 0).all()
