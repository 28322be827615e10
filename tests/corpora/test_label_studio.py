import json
from pathlib import Path
from typing import Any

import pytest

from serein import corpora
from serein.corpora import label_studio
from serein.errors import CorpusError
from serein.inference import formats
from serein.inference.recognition import Answer, Recognition, Segment
from serein.metrics.agreement import measure_agreement


def choice(name: str, *choices: str) -> dict[str, Any]:
    return {"from_name": name, "to_name": "audio", "type": "choices", "value": {"choices": choices}}


def region(start: float, end: float, label: str) -> dict[str, Any]:
    value = {"start": start, "end": end, "channel": 0, "labels": [label]}
    return {"from_name": "emotion", "to_name": "audio", "type": "labels", "value": value}


def annotation(rater: object, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": rater, "result": list(results), **more}


TASKS: list[dict[str, Any]] = [
    {
        "id": 1,
        "data": {"audio": "/data/upload/2/1a2b3c4d-call%201.wav", "speaker": "ann", "age": 41},
        "annotations": [
            annotation(3, choice("emotion", "anger"), {
                "from_name": "arousal", "type": "rating", "value": {"rating": 4}
            }),
            annotation({"id": 4, "email": "b@lab"}, choice("emotion", "anger"), {
                "from_name": "arousal", "type": "rating", "value": {"rating": 3}
            }),
            annotation(5, choice("emotion", "fear"), was_cancelled=True),
            annotation(None, choice("emotion", "fear", "anger")),
        ],
        "predictions": [{"result": [choice("emotion", "joy")]}],
    },
    {
        "id": 2,
        "data": {"audio": "/data/local-files/?d=calls/two.flac", "channel": True},
        "annotations": [
            annotation(
                3,
                region(0.5, 2.0, "joy"),
                region(2.0, 3.25, "neutral"),
                choice("noise", "low"),
                {"from_name": "transcription", "type": "textarea", "value": {
                    "start": 0.5, "end": 2.0, "text": ["Oh", "yes"]
                }},
                {"id": "x", "from_id": "a", "to_id": "b", "from_name": "r", "value": {}},
            ),
            annotation(4, region(0.52, 1.97, "joy"), region(5.0, 5.0, "joy")),
        ],
    },
    {"id": 3, "data": {"audio": "s3://bucket/three.mp3"}, "annotations": []},
]  # fmt: skip


def write_export(folder: Path, tasks: object, name: str = "export.json") -> Path:
    (folder / "calls").mkdir(exist_ok=True)
    for file in ("call 1.wav", "calls/two.flac", "three.mp3"):
        (folder / file).touch()
    (folder / name).write_text(json.dumps(tasks))
    return folder / name


def test_export_of_several_annotators(tmp_path: Path) -> None:
    utterances = label_studio.read(write_export(tmp_path, TASKS))
    assert [one.id for one in utterances] == ["call 1.wav", "two.flac:0.5-2", "two.flac:2-3.25"]
    first, second, third = utterances
    assert (first.path, first.speaker, first.end) == (tmp_path / "call 1.wav", "ann", None)
    assert first.labels == {
        "age": "41",
        "emotion": "anger",
        "emotion_votes": "anger=2.5, fear=0.5",
        "emotion:3": "anger",
        "emotion:b@lab": "anger",
        "emotion:annotation4": "fear; anger",
        "arousal": 3.5,
        "arousal:3": 4.0,
        "arousal:b@lab": 3.0,
    }
    assert (second.start, second.end, second.text) == (0.5, 2.0, "Oh yes")
    assert second.labels == {
        "noise": "low",
        "emotion": "joy",
        "emotion_votes": "joy=2",
        "emotion:3": "joy",
        "emotion:4": "joy",
    }
    assert third.labels == {"noise": "low", "emotion": "neutral"}
    corpus = corpora.load(f"label_studio={tmp_path}")
    assert corpus.notes == ("tasks without an annotation or a recording: 1",)
    by_label = {one.label: one for one in measure_agreement(utterances)}
    assert by_label["arousal"].scale == "numbers"
    assert by_label["emotion"].skipped == 1


def test_minimal_export(tmp_path: Path) -> None:
    task = {
        "id": 1,
        "audio": "/data/upload/2/1a2b3c4d-call%201.wav",
        "emotion": "anger",
        "mood": {"choices": ["good", "bad"]},
        "regions": [{"start": 1.0, "end": 2.5, "labels": ["joy"]}],
        "annotator": 3,
        "lead_time": 4.2,
    }
    (utterance,) = label_studio.read(write_export(tmp_path, [task]))
    assert (utterance.id, utterance.start, utterance.end) == ("call 1.wav:1-2.5", 1.0, 2.5)
    assert utterance.labels == {"emotion": "anger", "mood": "good; bad", "regions": "joy"}


def test_missing_recordings(tmp_path: Path) -> None:
    export = write_export(tmp_path, TASKS)
    (tmp_path / "call 1.wav").unlink()
    with pytest.raises(CorpusError, match=r"task 1: /data/upload/2/.* is not on this machine"):
        label_studio.read(export)
    assert len(label_studio.read(export, partial=True)) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"tasks": []}, "is not an export of Label Studio: expected a list of tasks"),
        ([{"id": 7, "data": {"text": "hi"}}], "data has text, of which none names an audio file"),
        (
            [{"id": 7, "data": {"a": "x.wav", "b": "y.wav"}}],
            "data has a, b, of which several name an audio file",
        ),
        (
            [{"id": 1, "data": {"audio": "three.mp3"}, "annotations": [annotation(1, {"x": 1})]}],
            r"task 1: a result is not as Label Studio exports it \(KeyError",
        ),
        (
            [{"id": 1, "data": {"audio": "three.mp3"}, "annotations": [annotation(
                1, {"from_name": "n", "value": {"number": "many"}}
            )]}],
            "a result is not as Label Studio exports it",
        ),
    ],
)  # fmt: skip
def test_other_documents(tmp_path: Path, content: object, message: str) -> None:
    export = write_export(tmp_path, content)
    with pytest.raises(CorpusError, match=message):
        label_studio.read(export)


def test_folders_and_broken_files(tmp_path: Path) -> None:
    export = write_export(tmp_path, TASKS)
    export.write_text('[{"id": 1')
    with pytest.raises(CorpusError, match="cannot be read as JSON"):
        label_studio.read(export)
    (tmp_path / "second.json").touch()
    with pytest.raises(CorpusError, match="has 2 JSON files; expected one export"):
        label_studio.read(tmp_path)


def test_predictions_for_label_studio(tmp_path: Path) -> None:
    sure = Answer(label="joy", confidence=0.75, probabilities={"joy": 0.75, "anger": 0.25})
    unsure = Answer(label=None, confidence=0.5, probabilities={"joy": 0.5, "anger": 0.5})
    parts = [
        Segment(start=0.0, end=1.0, tasks={"emotion": sure}, values={"arousal": 3.5}),
        Segment(start=1.0, end=2.0, tasks={"emotion": unsure}),
    ]
    common: dict[str, Any] = {"model": "m", "start": 0.0, "windows": [], "attention": {}}
    whole = Recognition(source="three.mp3", end=2.0, tasks={"emotion": sure}, **common)
    timeline = Recognition(
        source="calls/two.flac",
        end=2.0,
        tasks={"emotion": sure},
        segments=parts,
        channel=2,
        **common,
    )
    silent = Recognition(
        source="call 1.wav", end=2.0, tasks={"emotion": unsure}, speech=False, **common
    )
    text = formats.format_answers("label-studio", [whole, timeline, silent], {})
    tasks = json.loads(text)
    assert tasks[0] == {
        "data": {"audio": "three.mp3"},
        "predictions": [
            {
                "model_version": "m",
                "score": 0.75,
                "result": [
                    {
                        "from_name": "emotion",
                        "to_name": "audio",
                        "type": "choices",
                        "value": {"choices": ["joy"]},
                    }
                ],
            }
        ],
    }
    region = {"start": 0.0, "end": 1.0, "channel": 1}
    assert [one["value"] for one in tasks[1]["predictions"][0]["result"]] == [
        {**region, "labels": ["joy"]},
        {**region, "number": 3.5},
    ]
    assert tasks[2]["predictions"] == []
    for task in tasks:  # accepted unchanged, they are what the reader reads
        task["annotations"] = task.pop("predictions")
    first, second = label_studio.read(write_export(tmp_path, tasks))
    assert first.labels == {"emotion": "joy"}
    assert second.labels == {"emotion": "joy", "arousal": 3.5}
