"""The table and the curves of growth, from made-up points."""

from pathlib import Path

import pytest

from benchmarks.growth import PREPARATIONS, SIZES, TITLES, _format_point, draw_curves


def test_every_measurement_has_sizes_a_title_and_a_preparation() -> None:
    assert SIZES.keys() == TITLES.keys() == PREPARATIONS.keys()
    assert all(list(sizes) == sorted(set(sizes)) for sizes in SIZES.values())


def test_growth_is_one_if_time_grows_with_size() -> None:
    assert _format_point([(1_000, 0.5, 40.0)]) == "1,000 | 0.50 |  | 40"
    assert _format_point([(10, 0.5, 40.0), (100, 5.0, 60.0)]) == "100 | 5.00 | 1.00 | 60"
    assert _format_point([(10, 0.5, 40.0), (100, 50.0, 60.0)]).split(" | ")[2] == "10.00"


def test_curves_are_the_same_file_each_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    found = {"rows": [(10, 0.1, 40.0), (100, 1.0, 50.0)], "copies": [(10, 0.1, 40.0)]}
    for name in ("first.svg", "second.svg"):
        draw_curves(found, tmp_path / name)
    first = (tmp_path / "first.svg").read_bytes()
    assert first == (tmp_path / "second.svg").read_bytes()
    assert first.count(b"<svg") == 1
