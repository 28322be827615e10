"""Tasks without a module of their own: classifications of the label that they are named after."""

from pathlib import Path

import pytest
from builders.small_systems import small_recipe

from serein import system
from serein.errors import ConfigError, UnknownName
from serein.evaluation.evaluate import evaluate
from serein.labels.targets import find_classes, get_task_module
from serein.records import Corpus, Utterance
from serein.tasks.heads import ClassificationTask

MOODS = [
    Utterance(id=str(number), path=Path("a.wav"), gender="female", labels={"mood": mood})
    for number, mood in enumerate(("calm", "tense", "calm"))
]


@pytest.mark.parametrize(
    ("task", "table", "module"),
    [
        ("emotion", {}, "classification"),
        ("mood", {"label": "emotion"}, "classification"),
        ("gender", {"name": "gender"}, "classification"),
        ("main", {"name": "emotion", "label": "mood"}, "classification"),
        ("speaker", {}, "speaker"),
        ("arousal", {"name": "dimensions"}, "dimensions"),
        ("my_lab.mood", {}, "my_lab.mood"),
        ("emotion", {"name": "my_lab.mood"}, "my_lab.mood"),
        ("emotion", {"name": "mood"}, "mood"),
    ],
)
def test_module_of_a_task(task: str, table: dict[str, str], module: str) -> None:
    assert get_task_module(task, table) == module


def test_any_label_can_be_classified() -> None:
    recipe = small_recipe("tasks.emotion=remove", "tasks.gender=remove", "tasks.mood.weight=0.5")
    classes = find_classes(MOODS, recipe)
    assert classes == {"mood": ("calm", "tense")}
    assert isinstance(system.System(recipe, classes).heads["mood"], ClassificationTask)


def test_a_mistyped_task_is_an_error_that_lists_labels_and_tasks(
    corpus: Corpus, tmp_path: Path
) -> None:
    with pytest.raises(UnknownName, match="did you mean 'emotion'") as caught:
        evaluate("li2019", corpus, settings=["tasks.emotions.weight=1"], runs=tmp_path)
    assert "emotion" in caught.value.known
    assert "classification, dimensions, speaker, transcript" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_mistyped_name_is_an_error_that_lists_tasks() -> None:
    with pytest.raises(UnknownName, match="unknown task 'dimension'; did you mean 'dimensions'"):
        system.check_recipe(small_recipe("tasks.emotion.name=dimension"))


def test_an_emotion_dimension_needs_a_name() -> None:
    with pytest.raises(ConfigError, match='task valence needs name = "dimensions"'):
        system.check_recipe(small_recipe("tasks.valence.weight=1"))
