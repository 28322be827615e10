"""Top two classes, and arousal and valence on one scale, in every form of an answer."""

import json
from dataclasses import fields, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from serein import recipes
from serein.inference import formats, tables
from serein.inference.dimensions import (
    DimensionSource,
    estimate_dimensions,
    find_dimension_sources,
)
from serein.inference.recognition import Answer, Dimension, RankedClass, Recognition
from serein.labels.dimensions import get_norm

EMOTIONS = ("anger", "happiness", "neutral", "sadness")
LEVELS = ("high", "low", "middle")


def answer(label: str | None = "anger", **probabilities: float) -> Answer:
    return Answer(label=label, confidence=max(probabilities.values()), probabilities=probabilities)


def find_sources(*settings: str, **classes: tuple[str, ...]) -> dict[str, DimensionSource]:
    return find_dimension_sources(recipes.load("li2019", list(settings)), classes)


MAIN = answer(anger=0.5, happiness=0.2, neutral=0.2, sadness=0.1)


def test_the_two_most_likely_classes_are_ranked() -> None:
    assert MAIN.top == [
        RankedClass(label="anger", probability=0.5),
        RankedClass(label="happiness", probability=0.2),
    ]
    assert [one.label for one in answer(None, calm=0.4, tense=0.6).top] == ["tense", "calm"]
    assert replace(MAIN, label=None).top == MAIN.top
    assert "top" in {one.name for one in fields(Answer)}


def test_without_a_task_they_are_expected_norms_of_the_emotions() -> None:
    sources = find_sources(emotion=EMOTIONS, gender=("female", "male"))
    found = estimate_dimensions(sources, {"emotion": MAIN}, {})
    for dimension in ("arousal", "valence"):
        norms = [get_norm(name, dimension) or 0.0 for name in EMOTIONS]
        expected = sum(p * norm for p, norm in zip(MAIN.probabilities.values(), norms, strict=True))
        assert found[dimension].value == pytest.approx(expected)
        assert found[dimension].basis == "norms"
    sure = estimate_dimensions(sources, {"emotion": answer(anger=1.0, sadness=0.0)}, {})
    assert (sure["arousal"].value, sure["valence"].value) == (0.59, -0.51)


def test_emotions_without_a_norm_are_left_out_unless_they_prevail() -> None:
    sources = find_sources(emotion=("Angry", "Wonder", "sad"))
    half = estimate_dimensions(sources, {"emotion": answer(Angry=0.6, Wonder=0.4, sad=0.0)}, {})
    assert half["arousal"].value == pytest.approx(0.59)
    most = estimate_dimensions(sources, {"emotion": answer(Angry=0.2, Wonder=0.8, sad=0.0)}, {})
    assert most == {}
    nan = float("nan")
    assert (
        estimate_dimensions(sources, {"emotion": answer(Angry=nan, Wonder=nan, sad=nan)}, {}) == {}
    )


def test_classes_that_are_no_emotions_give_none() -> None:
    assert find_sources(gender=("female", "male"), emotion=("anger", "envy")) == {}


@pytest.mark.parametrize(
    ("rating", "value"), [(3.0, 0.0), (1.0, -1.0), (4.5, 0.75), (5.6, 1.0), (0.2, -1.0)]
)
def test_ratings_of_a_task_come_first(rating: float, value: float) -> None:
    settings = "tasks.arousal={name='dimensions', scheme='values'}"
    sources = find_sources(settings, emotion=EMOTIONS, arousal=())
    found = estimate_dimensions(sources, {"emotion": MAIN}, {"arousal": rating})
    assert (found["arousal"].value, found["arousal"].basis) == (value, "ratings")
    assert found["valence"].basis == "norms"


@pytest.mark.parametrize(
    ("settings", "basis", "high"),
    [
        ("tasks.valence={name='dimensions'}", "levels", 0.75),
        ("tasks.valence={label='emotion', scheme='proxy-valence'}", "norm levels", 0.6),
        ("tasks.mood={name='dimensions', label='valence'}", "levels", 0.75),
    ],
)
def test_levels_are_means_of_their_midpoints(settings: str, basis: str, high: float) -> None:
    task = settings.split(".")[1].split("=")[0]
    sources = find_sources(settings, emotion=EMOTIONS, **{task: LEVELS})
    tasks = {"emotion": MAIN, task: answer(high=0.6, low=0.1, middle=0.3)}
    found = estimate_dimensions(sources, tasks, {})["valence"]
    assert found.value == pytest.approx(0.5 * high)
    assert found.basis == basis


def recognized(label: str | None = "anger", *, speech: bool = True) -> Recognition:
    dimensions = {
        "arousal": Dimension(value=0.251234567, basis="norms"),
        "valence": Dimension(value=-0.5, basis="norms"),
    }
    return Recognition(
        source="a.wav",
        model="m",
        start=0.0,
        end=2.0,
        windows=[(0.0, 2.0)],
        tasks={"emotion": replace(MAIN, label=label if speech else None)},
        attention={},
        dimensions=dimensions if speech else {},
        speech=speech,
    )


def test_python_and_json_have_both() -> None:
    one = recognized()
    assert (one.arousal, one.valence) == (0.251234567, -0.5)
    assert one.rows[0].arousal == one.arousal
    assert recognized(speech=False).valence is None
    found = json.loads(formats.as_json([one], {}))["recognized"][0]
    assert found["dimensions"]["arousal"] == {"value": 0.251235, "basis": "norms"}
    assert found["tasks"]["emotion"]["top"][1] == {"label": "happiness", "probability": 0.2}


def test_csv_has_both_and_is_empty_without_speech() -> None:
    head, first, silent = formats.as_csv([recognized(), recognized(speech=False)]).splitlines()
    row = dict(zip(head.split(","), first.split(","), strict=True))
    assert (row["second_emotion"], row["second_emotion_probability"]) == ("happiness", "0.2")
    assert (row["scaled_arousal"], row["scaled_valence_basis"]) == ("0.251235", "norms")
    assert silent.endswith("anger,0.5,happiness,0.2,,,,")


def test_terminal_says_scale_and_basis_and_fits_80_columns() -> None:
    console = Console(width=80)
    with console.capture() as captured:
        console.print(formats.as_table([recognized(), recognized(None)]))
    text = " ".join(captured.get().split())
    assert "anger 50% happiness 20% +0.25 -0.50" in text
    assert "unsure anger 50%, happiness 20%" in text
    assert max(map(len, captured.get().splitlines())) <= 80
    assert "arousal and valence from -1 to 1: expected norms of the emotions' names" in text


def test_parquet_has_both(tmp_path: Path) -> None:
    schema = tables.build_schema({"emotion": EMOTIONS}, ["arousal", "valence"])
    store = tables.PartStore(tmp_path, schema)
    model = {"model": "small", "model_hash": "hash"}
    store.add(tables.build_rows("a.wav", recognized(), model))
    (row,) = store.read_table().to_pylist()
    assert (row["first_emotion"], row["second_emotion"]) == ("anger", "happiness")
    assert row["scaled_valence"] == -0.5
    pq.write_table(
        pa.table({"file": ["old.wav"], "model": ["hash"]}), tmp_path / "part-000001.parquet"
    )
    old, _ = sorted(store.read_table().to_pylist(), key=lambda one: one["file"] != "old.wav")
    assert old["first_emotion"] is None
    assert (old["model"], old["model_hash"]) == (None, "hash"), "earlier versions had no name"
    assert (row["model"], row["model_hash"]) == ("small", "hash")
