import pytest
import torch
from torch import Tensor

from serein.augment.config import AugmentConfig
from serein.augment.specaugment import SpecAugment, build_spec_augment
from serein.errors import ConfigError

BANDS = 16
LENGTHS = torch.tensor([100, 7, 60, 1, 33])


def batch(streams: int = 3) -> tuple[Tensor, Tensor]:
    """Frames that are all different, and zeros on padding."""
    mask_bt = torch.arange(int(LENGTHS.max())) < LENGTHS[:, None]
    torch.manual_seed(0)
    return torch.randn(*mask_bt.shape, BANDS * streams) * mask_bt[..., None], mask_bt


def build_masks(**settings: int | float) -> SpecAugment:
    found = build_spec_augment(AugmentConfig(**settings), hop=0.01, width=48, bands=BANDS)  # type: ignore[arg-type]
    assert found is not None
    return found


def random_draws(one: SpecAugment, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(
        len(LENGTHS), one.draws_per_utterance, generator=generator, dtype=torch.float64
    )


def apply_masks(one: SpecAugment, seed: int = 0) -> Tensor:
    x_btf, mask_bt = batch()
    one(x_btf, mask_bt, random_draws(one, seed))
    return x_btf


def is_masked(one: SpecAugment, seed: int) -> Tensor:
    return apply_masks(one, seed) != batch()[0]


def test_no_masks_without_settings() -> None:
    assert build_spec_augment(AugmentConfig(noise=1.0), hop=0.01, width=48, bands=BANDS) is None


@pytest.mark.parametrize("seed", range(20))
def test_time_masks_stay_within_bounds(seed: int) -> None:
    one = build_masks(time_masks=1, time_width=0.15, time_share=0.3)
    gone_btf = is_masked(one, seed)
    assert torch.equal(gone_btf.any(dim=2), gone_btf.all(dim=2))
    for gone_t, length in zip(gone_btf.any(dim=2), LENGTHS.tolist(), strict=True):
        places = gone_t.nonzero()[:, 0].tolist()
        assert len(places) <= min(15, 0.3 * length)
        assert places == list(range(places[0], places[0] + len(places))) if places else True
        assert all(place < length for place in places)


@pytest.mark.parametrize("seed", range(20))
def test_band_masks_include_derivatives(seed: int) -> None:
    one = build_masks(band_masks=1, band_width=5)
    gone_btf = is_masked(one, seed)
    for gone_tf, length in zip(gone_btf, LENGTHS.tolist(), strict=True):
        assert not gone_tf[length:].any()
        if length == 1:  # its mean is itself
            continue
        streams_km = gone_tf[:length].any(dim=0).view(3, BANDS)
        assert torch.equal(gone_tf[:length].any(dim=0), gone_tf[:length].all(dim=0))
        assert torch.equal(streams_km[0], streams_km[1])
        assert torch.equal(streams_km[0], streams_km[2])
        places = streams_km[0].nonzero()[:, 0].tolist()
        assert len(places) <= 5
        assert places == list(range(places[0], places[0] + len(places))) if places else True


def test_every_width_and_position_occurs() -> None:
    one = build_masks(band_masks=1, band_width=3)
    widths, places = set(), set()
    for seed in range(200):
        gone_f = is_masked(one, seed)[0].any(dim=0)[:BANDS]
        widths.add(int(gone_f.sum()))
        places |= set(gone_f.nonzero()[:, 0].tolist())
    assert widths == {0, 1, 2, 3}
    assert places == set(range(BANDS))


def test_number_of_masks() -> None:
    few, many = (build_masks(time_masks=n, time_width=0.05) for n in (1, 10))
    assert (few.draws_per_utterance, many.draws_per_utterance) == (2, 20)
    sums = [sum(int(is_masked(one, seed).sum()) for seed in range(10)) for one in (few, many)]
    assert sums[1] > 4 * sums[0]


def test_masked_values_are_the_mean_of_the_utterance() -> None:
    one = build_masks(time_masks=2, band_masks=2, band_width=4)
    x_btf, found_btf = batch()[0], apply_masks(one)
    for row, length in enumerate(LENGTHS.tolist()):
        mean_f = x_btf[row, :length].mean(dim=0)
        changed_tf = found_btf[row] != x_btf[row]
        wanted_tf = mean_f.expand_as(changed_tf)[changed_tf]
        torch.testing.assert_close(found_btf[row][changed_tf], wanted_tf)


def test_masks_are_independent_of_the_batch() -> None:
    one = build_masks(time_masks=2, band_masks=1, band_width=4)
    x_btf, mask_bt = batch()
    draw_bm = random_draws(one)
    for row, length in enumerate(LENGTHS.tolist()):
        part = slice(row, row + 1)
        alone = x_btf[part, :length].clone()
        one(alone, mask_bt[part, :length], draw_bm[part])
        torch.testing.assert_close(alone[0], apply_masks(one)[row, :length])


@pytest.mark.parametrize(
    ("settings", "bands", "words"),
    [
        ({"band_masks": 1}, None, "this front end has none; set it to 0, or features.name"),
        ({"band_masks": 1, "band_width": 16}, 16, "would mask all of 16 bands; set it lower"),
    ],
)
def test_impossible_band_masks_are_errors(
    settings: dict[str, int], bands: int | None, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        build_spec_augment(AugmentConfig(**settings), hop=0.01, width=48, bands=bands)  # type: ignore[arg-type]


def test_time_masks_without_bands() -> None:
    one = build_spec_augment(AugmentConfig(time_masks=2), hop=0.01, width=48, bands=None)
    assert one is not None
    x_btf, mask_bt = batch()
    one(x_btf, mask_bt, random_draws(one))
    assert not torch.equal(x_btf, batch()[0])
    assert not x_btf[~mask_bt].any()
