"""Recipes, settings and their former names, names of modules, errors."""

import json
import math
import pickle
import resource
import struct
import sys
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt
from builders.tiny_encoders import recipe_settings

from serein import (
    bundle,
    config,
    corpora,
    errors,
    model_file,
    protocols,
    recipes,
    registry,
    system,
)
from serein.augment.config import AugmentConfig
from serein.errors import ConfigError, SereinError, StorageError, UnknownName
from serein.labels.vocabulary import SPECIAL_TOKENS
from serein.records import Recipe
from serein.tasks import transcript
from serein.training.config import TrainingConfig

LI2019 = recipes.load("li2019")
LEVELS = dict.fromkeys(("arousal", "valence", "dominance"), ("low", "middle", "high"))
CLASSES = {"emotion": ("a", "b", "c"), "gender": ("f", "m"), "speaker": ("x", "y"), **LEVELS}


# Recipes


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_loads_and_builds(name: str, tmp_path: Path) -> None:
    recipe = recipes.load(name, recipe_settings(name, tmp_path))
    assert recipe.name == name
    system.check_recipe(recipe)
    words = SPECIAL_TOKENS if recipe.text else ()
    made = system.System(recipe, {task: CLASSES[task] for task in recipe.tasks}, words)
    assert list(made.tasks) == list(recipe.tasks)
    assert next(iter(recipe.tasks), "words") in ("arousal", "emotion", "words")
    config.build_config(TrainingConfig, recipe.training, "training")
    config.build_config(protocols.SplitConfig, recipe.protocol, "protocol")
    assert {"paper", "system"} <= set(recipe.about)


@pytest.mark.parametrize("name", recipes.list_recipes())
def test_every_recipe_begins_with_a_description(name: str) -> None:
    first = (recipes.FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


def test_li2019_has_the_settings_of_the_paper() -> None:
    training = config.build_config(TrainingConfig, LI2019.training, "training")
    assert (training.epochs, training.batch, training.rate) == (100, 40, 1e-4)
    assert (training.decay, training.clip, training.bucket) == (1e-6, 1.0, 1)
    assert LI2019.features["pad"] is True
    assert {name: task["weight"] for name, task in LI2019.tasks.items()} == {
        "emotion": 1.0,
        "gender": 1.0,
    }


def test_ablations_of_li2019_differ_in_one_setting() -> None:
    one = recipes.load("li2019-single-task")
    assert list(one.tasks) == ["emotion"]
    assert replace(one, name=LI2019.name, about=LI2019.about, tasks=LI2019.tasks) == LI2019
    other = recipes.load("li2019-no-attention")
    assert other.model == {**LI2019.model, "attention": False}
    assert replace(other, name=LI2019.name, about=LI2019.about, model=LI2019.model) == LI2019


def test_check_recipe_allocates_no_weights() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    system.check_recipe(recipes.load("li2019", ["model.attention_hidden=100000000"]))
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 1e6  # kilobytes; the weights would take 48 million


def test_an_unknown_recipe_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName, match=r"unknown recipe 'li2018'; did you mean 'li2019'\?"):
        recipes.load("li2018")
    with pytest.raises(UnknownName) as caught:
        recipes.load("../li2019")
    assert caught.value.known == recipes.list_recipes()
    assert "TOML file of your own" in str(caught.value)


def write_recipe(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def test_a_recipe_file_of_the_user(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, "mine.toml", 'extends = "li2019"\n[model]\nfilters = 3\n')
    recipe = recipes.load(path)
    assert recipe.name == "mine"
    assert recipe.model == {"name": "li2019", "init": "keras", "filters": 3}
    assert recipe.training == LI2019.training
    system.check_recipe(recipe)


def test_recipes_extend_each_other_without_a_circle(tmp_path: Path) -> None:
    a, b, c = (str(tmp_path / f"{name}.toml") for name in "abc")
    write_recipe(tmp_path, "a.toml", f"extends = '{b}'\n[model]\nfilters = 1")
    write_recipe(tmp_path, "b.toml", f"extends = '{c}'\n[model]\nfilters = 2\nhidden = 2")
    write_recipe(tmp_path, "c.toml", "extends = 'li2019'\n[model]\nhidden = 3\nheads = 3")
    model = {"name": "li2019", "init": "keras", "filters": 1, "hidden": 2, "heads": 3}
    assert recipes.load(a).model == model
    write_recipe(tmp_path, "c.toml", f"extends = '{a}'")
    with pytest.raises(ConfigError, match=r"in a circle: .*a\.toml -> .*c\.toml -> .*a\.toml"):
        recipes.load(a)
    write_recipe(tmp_path, "d.toml", f"extends = '{tmp_path / 'd.toml'}'")
    with pytest.raises(ConfigError, match="in a circle"):
        recipes.load(str(tmp_path / "d.toml"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("extends = 'li2019'\n[modle]\nfilters = 1", "unknown table of a recipe 'modle'; did you"),
        ("extends = 'li201'", "unknown recipe 'li201'; did you mean 'li2019'"),
        ("extends = 3", "extends = 3; expected the name of a recipe"),
        ("extends = ['li2019']", "expected the name of a recipe"),
        ("extends = 'li2019'\nmodel = 'li2019'", r"has model = 'li2019'; expected \[model\]"),
        ("extends = 'li2019'\ntraining = 3", r"has training = 3; expected \[training\]"),
        ("extends = 'li2019'\nmodel = 'remove'", r"\[model\] needs a name"),
        ("extends = 'li2019'\ntasks = 'remove'", r"has no task; add \[tasks\.emotion\]"),
        ("extends = 'li2019'\ntasks.emotion = 3", r"tasks\.emotion = 3"),
        ("[features]\nname = 'logmel'", r"\[model\] needs a name"),
        ("[model]\nname = 'li2019'", r"\[features\] needs a name"),
        ("features.name = 'logmel'\nmodel.name = 'li2019'", r"has no task; add \[tasks\.emotion\]"),
        ("features.name = 3\nmodel.name = 'li2019'", r"\[features\] needs a name"),
        ("[model", "is not valid TOML"),
    ],
)
def test_an_invalid_recipe_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipes.load(write_recipe(tmp_path, "mine.toml", text))


def test_a_missing_or_unreadable_recipe_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*none\.toml: No such file"):
        recipes.load(str(tmp_path / "none.toml"))
    (tmp_path / "latin.toml").write_bytes("# ä".encode("latin-1"))
    with pytest.raises(ConfigError, match="is not valid TOML"):
        recipes.load(str(tmp_path / "latin.toml"))


def test_settings_are_applied_in_order() -> None:
    recipe = recipes.load(
        "li2019", ["training.epochs=3", "tasks.gender=remove", "training.epochs=4"]
    )
    assert recipe.training == {**LI2019.training, "epochs": 4}
    assert list(recipe.tasks) == ["emotion"]


def test_another_model_loses_the_old_settings() -> None:
    changed = recipes.load("li2019", ["model.name=other"])
    assert changed.model == {"name": "other"}
    assert changed.training == LI2019.training


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.filter=3", r"unknown setting of models\.li2019 'filter'; did you mean 'filters'"),
        ("features.band=3", r"unknown setting of features\.logmel 'band'; did you mean 'bands'"),
        ("tasks.emotion.wait=3", r"unknown setting of tasks\.emotion 'wait'"),
        ("normalise.statistic=none", r"unknown setting of normalise 'statistic'"),
        ("model.name=li2020", "unknown model 'li2020'; did you mean 'li2019'"),
        ("features.name=mel", r"unknown front end 'mel'; did you mean 'logmel'"),
        ("tasks.emotion.name=emotions", "unknown task 'emotions'; did you mean 'dimensions'"),
        ("tasks.arousal.weight=1", r'task arousal needs name = "dimensions"'),
        ("model.filters=0", r"models\.li2019\.filters = 0: .*greater than or equal to 1"),
        ("model.filters=many", r"models\.li2019\.filters = 'many': .*integer"),
        ("model.dropout=1", r"models\.li2019\.dropout = 1: .*less than 1"),
        ("model.dropout=nan", r"models\.li2019\.dropout = nan"),
        ("tasks.emotion.class_weights=some", r"tasks\.emotion\.class_weights = 'some'"),
        ("model.attention=perhaps", r"models\.li2019\.attention = 'perhaps': .*boolean"),
    ],
)
def test_a_wrong_setting_is_an_error_with_its_path(setting: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        system.check_recipe(recipes.load("li2019", [setting]))


# Settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-4", 1e-4),
        ("true", True),
        ("none", "none"),
        ("'none'", "none"),
        ("two words", "two words"),
        ("[1, 2]", [1, 2]),
        ("", ""),
        ("a=b", "a=b"),
        (" 3 ", 3),
        ("1.2.3", "1.2.3"),
    ],
)
def test_a_value_is_toml_or_a_string(text: str, value: object) -> None:
    found = config.apply_setting(
        {"training": {"epochs": 100, "rate": 1}}, f"training.epochs={text}"
    )
    assert found == {"training": {"epochs": value, "rate": 1}}


def test_settings_may_be_nested_and_new() -> None:
    assert config.apply_setting({}, "a.b.c=1") == {"a": {"b": {"c": 1}}}
    table = {"a": {"b": 1}}
    assert config.apply_setting(table, "a.c=2") == {"a": {"b": 1, "c": 2}}
    assert table == {"a": {"b": 1}}


# Renamed settings

RENAMED = [
    (table, old, new)
    for table, names in config.RENAMED_SETTINGS.items()
    for old, new in names.items()
]
OWNERS = {
    "augment": ("crop", "crop_seconds"),
    "features.voice": ("speech_range",),
    "model.base": ("functionals_dropout",),
    "model.zhang2019": ("zero_pad_segments",),
    "model.feng2020": ("asr_gradient", "max_steps"),
    "model.svm": ("default_c", "max_exponent", "min_exponent"),
}
"""Some tables with the renamed settings that they have."""


@pytest.mark.parametrize(("table", "old", "new"), RENAMED)
def test_an_old_name_of_a_setting_works_with_a_warning(
    tmp_path: Path, table: str, old: str, new: str
) -> None:
    wanted = recipes.load("li2019", [f"{table}.{new}=3"])
    message = rf"^{table}\.{old} is now {table}\.{new}; the old name works in this release$"
    with pytest.warns(FutureWarning, match=message) as caught:
        assert getattr(recipes.load("li2019", [f"{table}.{old}=3"]), table) == getattr(
            wanted, table
        )
    assert len(caught) == 1
    path = write_recipe(tmp_path, "mine.toml", f"extends = 'li2019'\n[{table}]\n{old} = 3\n")
    with pytest.warns(FutureWarning, match=message) as caught:
        assert getattr(recipes.load(path), table) == getattr(wanted, table)
    assert len(caught) == 1


@pytest.mark.parametrize(("table", "old", "new"), RENAMED)
def test_both_names_of_a_setting_are_an_error(
    tmp_path: Path, table: str, old: str, new: str
) -> None:
    text = f"extends = 'li2019'\n[{table}]\n{old} = 3\n{new} = 3\n"
    with pytest.raises(ConfigError, match=rf"{table}\.{old} is now {table}\.{new}, and both are"):
        recipes.load(write_recipe(tmp_path, "mine.toml", text))


@pytest.mark.parametrize(("table", "names"), OWNERS.items())
def test_new_names_are_settings_of_their_modules(table: str, names: tuple[str, ...]) -> None:
    package, _, name = table.partition(".")
    if package == "augment":
        known = AugmentConfig
    else:
        package = {"model": "models"}.get(package, package)
        known = registry.load_module(package, name).Config
    assert set(names) <= {field.name for field in fields(known)}


def test_every_new_name_of_training_text_and_protocol_is_a_setting() -> None:
    known = {"training": TrainingConfig, "text": transcript.Config}
    for table, config_class in known.items():
        names = {field.name for field in fields(config_class)}
        assert set(config.RENAMED_SETTINGS[table].values()) <= names
        assert not set(config.RENAMED_SETTINGS[table]) & names


def test_settings_of_a_users_own_module_are_not_renamed() -> None:
    settings = ["model.name=my_lab.model", "model.longest=3"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert recipes.load("li2019", settings).model == {"name": "my_lab.model", "longest": 3}


def test_settings_of_an_inherited_module_are_not_renamed(tmp_path: Path) -> None:
    mine = '[model]\nname = "my_lab.model"\nlongest = 3'
    parent = write_recipe(tmp_path, "parent.toml", f'extends = "li2019"\n{mine}')
    child = write_recipe(
        tmp_path, "child.toml", f"extends = '{parent}'\n[model]\nlongest = 4\n[protocol]\nmost = 5"
    )
    with pytest.warns(FutureWarning, match="protocol.most is now") as caught:
        recipe = recipes.load(child)
    assert recipe.model == {"name": "my_lab.model", "longest": 4}
    assert recipe.protocol["train_size"] == 5
    assert len(caught) == 1


def test_old_names_in_saved_models_load_silently() -> None:
    files = sorted((registry.PACKAGE_ROOT / "pretrained").glob("*.safetensors"))
    assert files
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for file in files:
            content = file.read_bytes()
            size = struct.unpack("<Q", content[:8])[0]
            document = json.loads(json.loads(content[8 : 8 + size])["__metadata__"]["serein"])
            loaded = bundle.load(file)
            for old, new in model_file.RENAMED_CARD_FIELDS.items():
                value = document["card"].get(old, document["card"].get(new))
                assert json.loads(json.dumps(getattr(loaded.card, new))) == value
            assert not set(loaded.system.recipe.training) & set(config.RENAMED_SETTINGS["training"])


@pytest.mark.parametrize("first", [0, 1, 2])
def test_a_new_name_keeps_the_settings_beside_it(first: int) -> None:
    table = {"protocol": {"name": "speaker-k-fold", "folds": 5}}
    settings = ["protocol.main=savee", "protocol.by=speaker"]
    settings.insert(first, "protocol.name=by-label")
    found = {"name": "by-label", "by": "speaker", "main": "savee"}
    assert config.apply_settings(table, settings) == {"protocol": found}
    inner = config.apply_settings(table, ["protocol.only.name=ann", "protocol.name=by-label"])
    assert inner == {"protocol": {"name": "by-label", "only": {"name": "ann"}}}


@pytest.mark.parametrize(
    "text", ["epochs=3", "training.epochs", "", "=3", ".a=3", "a.=3", "a..b=3"]
)
def test_an_invalid_setting_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match=r"is not a setting; write table\.key=value"):
        config.apply_setting({}, text)


def test_tables_are_merged_table_by_table() -> None:
    base = {"a": {"x": {"p": 1, "q": 2}, "y": 3}, "b": 1}
    over = {"a": {"x": {"q": 4}}, "c": {"z": 5}}
    assert config.merge_tables(base, over) == {
        "a": {"x": {"p": 1, "q": 4}, "y": 3},
        "b": 1,
        "c": {"z": 5},
    }
    assert base == {"a": {"x": {"p": 1, "q": 2}, "y": 3}, "b": 1}


def test_merge_tables_removes_tables_and_replaces_renamed_ones() -> None:
    assert config.merge_tables({"a": 1}, {"b": "remove"}) == {"a": 1, "b": "remove"}
    assert config.merge_tables({"a": 1, "b": 2}, {"a": "remove"}) == {"b": 2}
    assert config.merge_tables({"a": {"x": 1}}, {"a": "remove"}) == {}
    old = {"m": {"name": "one", "x": 1}}
    assert config.merge_tables(old, {"m": {"name": "two"}}) == {"m": {"name": "two"}}
    assert config.merge_tables(old, {"m": {"name": "one", "y": 2}})["m"] == {
        "name": "one",
        "x": 1,
        "y": 2,
    }


@dataclass(frozen=True)
class Sample:
    count: Annotated[int, Ge(1)] = 3
    rate: Annotated[float, Gt(0)] = 0.5
    kind: Literal["a", "b"] = "a"
    seconds: float | None = None


def test_build_config_keeps_defaults() -> None:
    assert config.build_config(Sample, {}, "sample") == Sample()
    assert config.build_config(Sample, {"rate": 2, "seconds": 1}, "sample") == Sample(
        rate=2.0, seconds=1.0
    )


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"count": 0}, r"^sample\.count = 0: "),
        ({"count": 2.5}, r"^sample\.count = 2\.5: "),
        ({"count": "x"}, r"^sample\.count = 'x': "),
        ({"rate": 0}, r"^sample\.rate = 0: "),
        ({"kind": "c"}, r"^sample\.kind = 'c': .*'a' or 'b'"),
        ({"seconds": [1]}, r"^sample\.seconds = \[1\]: "),
        ({"count": 0, "rate": -1}, r"sample\.count = 0.*; sample\.rate = -1"),
    ],
)
def test_wrong_types_and_ranges_are_errors_with_the_path(
    table: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        config.build_config(Sample, table, "sample")


def test_an_unknown_setting_is_an_error_that_lists_the_known_ones() -> None:
    with pytest.raises(UnknownName) as caught:
        config.build_config(Sample, {"counts": 3}, "sample")
    assert caught.value.known == ["count", "kind", "rate", "seconds"]
    assert "unknown setting of sample 'counts'; did you mean 'count'? Known: " in str(caught.value)


# Names


def test_names_are_file_names() -> None:
    for package in registry.KINDS:
        names = registry.list_names(package)
        assert names == sorted(names)
        for name in names:
            assert registry.load_module(package, name).__name__ == f"serein.{package}.{name}"
    assert "normalization" not in registry.list_names("features")
    assert "heads" not in registry.list_names("tasks")


@pytest.mark.parametrize(
    ("package", "name", "message"),
    [
        ("models", "li2091", "unknown model 'li2091'; did you mean 'li2019'"),
        ("corpora", "emobd", "unknown corpus 'emobd'; did you mean 'emodb'"),
        ("tasks", "speakers", "unknown task 'speakers'; did you mean 'speaker'"),
        ("features", "zzz", r"unknown front end 'zzz'\. Known: egemaps, logmel"),
        ("features", "normalization", "unknown front end 'normalization'"),
        ("models", "__init__", "unknown model '__init__'"),
        ("models", "no_such_lab.model", "module of your own: No module named 'no_such_lab'"),
        ("models", ".li2019", r"unknown model '\.li2019'"),
        ("models", "..li2019", r"unknown model '\.\.li2019'"),
        ("models", "a/b.c", r"unknown model 'a/b\.c'"),
        ("models", "", "unknown model ''"),
    ],
)
def test_an_unknown_name_is_an_error_that_lists_the_known_ones(
    package: str, name: str, message: str
) -> None:
    with pytest.raises(UnknownName, match=message) as caught:
        registry.load_module(package, name)
    assert caught.value.known == registry.list_names(package)


def test_a_dotted_name_is_a_module_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_lab").mkdir()
    (tmp_path / "own_lab" / "__init__.py").touch()
    (tmp_path / "own_lab" / "model.py").write_text("MINE = 1")
    (tmp_path / "own_lab" / "broken.py").write_text("import no_such_thing")
    (tmp_path / "own_lab" / "empty.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UnknownName):
        registry.load_module("models", "own_lab.model", allow_custom=False)
    assert "own_lab.model" not in sys.modules
    assert registry.load_module("models", "own_lab.model").MINE == 1
    with pytest.raises(UnknownName, match="No module named 'no_such_thing'"):
        registry.load_module("models", "own_lab.broken")
    with pytest.raises(ConfigError, match=r"own_lab\.empty \(.*empty\.py\) lacks Config and Model"):
        system.check_recipe(recipes.load("li2019", ["model.name=own_lab.empty"]))


def test_an_unknown_corpus_is_an_error_with_the_most_similar_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown corpus 'emodp'; did you mean 'emodb'"):
        corpora.load(f"emodp={tmp_path}")


# Errors


def test_all_errors_are_serein_errors_and_documented() -> None:
    kinds = [x for x in vars(errors).values() if isinstance(x, type) and issubclass(x, Exception)]
    assert len(kinds) == 12
    warnings = [kind for kind in kinds if issubclass(kind, Warning)]
    assert warnings == [errors.SereinWarning]
    assert all(issubclass(kind, SereinError) for kind in kinds if kind not in warnings)
    assert all(kind.__doc__ and kind.__name__ in str(errors.__doc__) for kind in kinds)


def test_unknown_name_lists_the_known_names() -> None:
    error = UnknownName("thing", "beta", ["gamma", "alpha"], "Or make one.")
    assert str(error) == "unknown thing 'beta'. Known: alpha, gamma. Or make one."
    assert str(UnknownName("thing", "alhpa", ["alpha"])) == (
        "unknown thing 'alhpa'; did you mean 'alpha'? Known: alpha."
    )
    assert str(UnknownName("thing", "x", [])) == "unknown thing 'x'. Known: none."


def test_errors_can_be_pickled() -> None:
    for error in (ConfigError("a"), StorageError("b"), UnknownName("thing", "x", ["y"], "z")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)


# Bounds


def test_settings_of_training_have_bounds() -> None:
    for name in ("epochs", "batch", "bucket", "threads"):
        with pytest.raises(ConfigError, match=rf"training\.{name} = 0"):
            config.build_config(TrainingConfig, {name: 0}, "training")
    for name in ("rate", "decay", "clip", "weight_decay"):
        for value in (-1, math.nan):
            with pytest.raises(ConfigError, match=rf"training\.{name} = "):
                config.build_config(TrainingConfig, {name: value}, "training")


def test_from_table_builds_an_equal_recipe() -> None:
    again = recipes.from_table(
        "li2019",
        {
            "about": LI2019.about,
            "features": LI2019.features,
            "normalise": LI2019.normalise,
            "model": LI2019.model,
            "tasks": LI2019.tasks,
            "training": LI2019.training,
            "protocol": LI2019.protocol,
            "text": LI2019.text,
            "augment": LI2019.augment,
        },
    )
    assert isinstance(again, Recipe)
    assert again == LI2019 == recipes.load("li2019")
