"""Tests of search spaces and of draws from them."""

import pytest
from builders.small_systems import small_recipe

from serein.errors import ConfigError
from serein.evaluation import search_space as spaces
from serein.evaluation.search_space import Choice, Range

OVER = ("tasks.gender.weight=0..1", "training.batch=4,8,16")
SIDES = ("training", "speaker")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("tasks.gender.weight=0..1", Range("tasks.gender.weight", 0, 1)),
        ("tasks.gender.weight = 0.5 .. 2", Range("tasks.gender.weight", 0.5, 2)),
        ("model.heads=2..8", Range("model.heads", 2, 8, integer=True)),
        ("training.batch=8..64:log", Range("training.batch", 8, 64, log=True, integer=True)),
        ("training.rate=1e-4..1e-2:log", Range("training.rate", 1e-4, 1e-2, log=True)),
        ("training.batch=16,32,64", Choice("training.batch", (16, 32, 64))),
        ("features.pad=true,false", Choice("features.pad", (True, False))),
        (
            "normalise.statistics=training, speaker",
            Choice("normalise.statistics", SIDES),
        ),
        ('normalise.statistics="training","speaker"', Choice("normalise.statistics", SIDES)),
    ],
)
def test_ranges_and_choices_are_parsed(setting: str, expected: Range | Choice) -> None:
    (found,) = spaces.parse_space(small_recipe(), [setting])
    assert found == expected
    assert spaces.parse_space(small_recipe(), [f"{found.name}={found.text}"]) == (found,)


def test_default_space_is_the_weights_of_later_tasks() -> None:
    assert spaces.parse_space(small_recipe(), []) == (Range("tasks.gender.weight", 0, 1),)
    with pytest.raises(ConfigError, match="one task, and so no weights"):
        spaces.parse_space(small_recipe("tasks.gender=remove"), [])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("weight=0..1", "write table.key=value"),
        ("tasks.gender.weight", "write table.key=value"),
        ("tasks.gender.weight=", "neither a range nor a choice; write tasks.gender.weight=0..1"),
        ("tasks.gender.weight=1", "neither a range nor a choice"),
        ("tasks.gender.weight=1,1", "neither a range nor a choice"),
        ("tasks.gender.weight=0..", "'' is not a number"),
        ("tasks.gender.weight=a..b", "'a' is not a number"),
        ("tasks.gender.weight=0..inf", "inf is not a number"),
        ("tasks.gender.weight=1..0", "ends before it begins"),
        ("tasks.gender.weight=1..1", "ends before it begins"),
        ("training.rate=0..1:log", "begins above 0"),
        ("training.rate=1e-4..1:ln", "unknown scale 'ln'"),
        ("tasks.gender.wieght=0..1", "did you mean 'weight'"),
        ("tasks.mood.wieght=0..1", "did you mean 'weight'"),
        ("trainin.rate=1e-4..1:log", "did you mean 'training'"),
        ("training.batch=0..4", "greater than or equal to 1"),
        ("training.batch=4,many", "training.batch = 'many'"),
        ("model.name=li2019,lee2019", "did you mean 'li2019'"),
        ("protocol.folds=2..5", "determines how trials are scored"),
        ("training.selection_window=1..5", "determines how trials are scored"),
        ("training.select_by=first,mean", "determines how trials are scored"),
    ],
)
def test_invalid_spaces_are_errors(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        spaces.parse_space(small_recipe(), [setting])


def test_setting_searched_twice_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"training\.batch is searched twice"):
        spaces.parse_space(small_recipe(), ["training.batch=4,8", "training.batch=1..3"])


def test_draws_depend_on_seed_and_number_alone() -> None:
    space = spaces.parse_space(small_recipe(), OVER)
    many = spaces.draw_points(space, 7, 50)
    assert spaces.draw_points(space, 7, 20) == many[:20]
    assert spaces.draw_points(space, 8, 50) != many
    alone = spaces.draw_points(space[:1], 7, 20)
    assert alone == [{OVER[0].partition("=")[0]: one["tasks.gender.weight"]} for one in many[:20]]


def test_draws_are_uniform() -> None:
    space = (Range("a.log", 1e-4, 1e-2, log=True), Range("a.float", -1, 3))
    many = spaces.draw_points(space, 0, 2000)
    for name, middle in (("a.log", 1e-3), ("a.float", 1)):
        assert sum(one[name] < middle for one in many) / 2000 == pytest.approx(0.5, abs=0.05)
    assert all(1e-4 <= one["a.log"] <= 1e-2 and -1 <= one["a.float"] <= 3 for one in many)
    assert all(one == {key: float(f"{value:.6g}") for key, value in one.items()} for one in many)


@pytest.mark.parametrize("log", [False, True])
def test_finite_space_is_exhausted(log: bool) -> None:
    heads, batch = Range("m.heads", 2, 6, log=log, integer=True), Choice("t.batch", (4, "all"))
    found = spaces.draw_points((heads, batch), 0, 100)
    assert len(found) == 10
    assert {(one["m.heads"], one["t.batch"]) for one in found} == {
        (n, words) for n in range(2, 7) for words in (4, "all")
    }


def test_old_names_of_settings_are_searched_by_their_present_names() -> None:
    recipe = small_recipe("training.balance=none")
    with pytest.warns(FutureWarning, match=r"training\.average is now training\.ema_decay"):
        (dimension,) = spaces.parse_space(recipe, ["training.average=0.5..0.9"])
    assert dimension == Range("training.ema_decay", 0.5, 0.9)
    with (
        pytest.warns(FutureWarning, match=r"training\.smooth is now"),
        pytest.raises(ConfigError, match=r"training\.selection_window determines how"),
    ):
        spaces.parse_space(recipe, ["training.smooth=1,2"])
