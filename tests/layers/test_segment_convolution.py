"""Functions of the segment convolution against torch or a loop."""

import pytest
import torch

from serein.layers.segment_convolution import SegmentConvolutions, conv_max_pool, dft_convolve


@pytest.mark.parametrize(
    ("inputs", "outputs", "taps", "offset"),
    [(47, 8, 40, 0), (29, 29, 40, 0), (30, 30, 40, 39), (9, 20, 5, 2), (5, 1, 5, 0), (1, 1, 3, 1)],
)
def test_dft_convolve_is_a_sum_over_taps(inputs: int, outputs: int, taps: int, offset: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x_rjc = torch.randn(300, inputs, 3, generator=generator, dtype=torch.float64)
    weight_kcd = torch.randn(taps, 3, 2, generator=generator, dtype=torch.float64)
    wanted = torch.zeros(300, outputs, 2, dtype=torch.float64)
    for i in range(outputs):
        for j in range(inputs):
            if 0 <= j - i + offset < taps:
                wanted[:, i] += x_rjc[:, j] @ weight_kcd[j - i + offset]
    torch.testing.assert_close(dft_convolve(x_rjc, weight_kcd, outputs, offset), wanted)
    x_rjc, weight_kcd = x_rjc[:2].requires_grad_(), weight_kcd.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, w: dft_convolve(x, w, outputs, offset), (x_rjc, weight_kcd)
    )


@pytest.mark.parametrize("pool", [1, 2, 3])
def test_conv_max_pool_and_gradient_match_torch(pool: int) -> None:
    generator = torch.Generator().manual_seed(0)
    window_rw = torch.randn(600, 4 * pool + 6, generator=generator, dtype=torch.float64)
    window_rw[1] = 0  # all outputs alike: one of them gets the gradient
    weight_kc, bias_c = torch.randn(7, 5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (window_rw, weight_kc, bias_c)]
    found_rjc = conv_max_pool(window_rw, weight_kc, bias_c, pool)
    y_rcs = torch.conv1d(window_rw[:, None], weight_kc.T[:, None], bias_c).relu()
    wanted_rjc = torch.max_pool1d(y_rcs, pool).mT
    torch.testing.assert_close(found_rjc, wanted_rjc)
    weight_rjc = torch.randn_like(found_rjc)
    pairs = zip(
        torch.autograd.grad((found_rjc * weight_rjc).sum(), leaves),
        torch.autograd.grad((wanted_rjc * weight_rjc).sum(), leaves),
        strict=True,
    )
    for ours, theirs in pairs:
        torch.testing.assert_close(ours, theirs)


def test_segment_convolutions_initialize_as_torch_does() -> None:
    torch.manual_seed(0)
    layer = SegmentConvolutions(160, 4, filters=40, taps=40, pool=2, group=10)
    for weight, bias, inputs in (
        (layer.weight1_kc, layer.bias1_c, 40),
        (layer.weight2_kcd, layer.bias2_c, 1600),
    ):
        for drawn_ in (weight, bias):
            assert 0.8 / inputs**0.5 < float(drawn_.detach().abs().max()) <= 1 / inputs**0.5
