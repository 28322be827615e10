"""An export of Label Studio (JSON or JSON-MIN), with the answers of one or several annotators.

    [{"id": 7, "data": {"audio": "/data/upload/2/1a2b3c4d-call.wav", "speaker": "ann"},
      "annotations": [{"completed_by": 3, "result": [
          {"from_name": "emotion", "type": "choices", "value": {"choices": ["anger"]}},
          {"from_name": "arousal", "type": "rating", "value": {"rating": 4}}]}]}]

- The recording is the only value of ``data`` that names an audio file: a path (below the export's
  folder), ``/data/local-files/?d=PATH``, or an uploaded file with or without its prefix, which is
  searched in the export's folder and below.
- Choices, ratings and numbers become labels of their control tag's name (``from_name``). Several
  annotators give votes and means (see ``_reading.py``). Text areas called text, transcription or
  transcript become the text. Cancelled annotations, and other types of results, are left out.
- Regions (``labels`` with start and end) become utterances of their own: ``call.wav:0.5-2``.
  Regions that differ by less than 0.05 s are one.
- Other values of ``data`` called speaker, gender, language, session, dialogue or text become
  attributes; other texts and numbers become labels.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from serein.corpora._reading import combine_answers
from serein.errors import CorpusError
from serein.records import ATTRIBUTES, CorpusInfo, Label, Utterance

ABOUT = CorpusInfo(
    title="An export of Label Studio, JSON or JSON-MIN",
    language="any",
    licence="yours",
    home="https://labelstud.io/guide/export",
)
AUDIO_SUFFIXES = (
    ".aiff",
    ".flac",
    ".m4a",
    ".mp3",
    ".mp4",
    ".oga",
    ".ogg",
    ".opus",
    ".wav",
    ".webm",
)
UPLOAD_PREFIX = re.compile(r"[0-9a-f]{8}-(.+)")
TEXT_NAMES = ("text", "transcription", "transcript")
MIN_KEYS = {
    *{"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "agreement"},
    *{"inner_id", "file_upload", "project", "total_annotations", "cancelled_annotations"},
}
"""Keys of JSON-MIN that hold neither data nor answers."""
MAX_OFFSET = 0.05
"""Seconds by which the same region of two annotators may differ."""
GENDERS = {
    **dict.fromkeys(("f", "female", "woman"), "female"),
    **dict.fromkeys(("m", "male", "man"), "male"),
}

Segment = tuple[float, float | None]
"""Start and end of an utterance, in seconds; (0, None) is a whole recording."""
WHOLE: Segment = (0.0, None)


def read(path: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every annotated recording or region, in order of ids.

    Args:
        path: the export, or a folder with one JSON file.
        partial: leave out recordings that are missing.

    Raises:
        CorpusError: the file is no such export, or a recording is missing.
    """
    file = _find_export(path)
    tasks = _load_tasks(file)
    files = _list_files(file.parent)
    utterances: list[Utterance] = []
    missing: list[str] = []
    for number, task in enumerate(tasks, 1):
        where = f"{file}, task {task.get('id', number)}"
        key, name = _find_recording(where, task)
        recording = _resolve(file.parent, name, files)
        if recording is None:
            missing.append(f"{where}: {name}")
            continue
        utterances += _build_utterances(where, task, key, name, recording)
    if missing and not partial:
        raise CorpusError(
            f"{missing[0]} is not on this machine, as are {len(missing) - 1} more of {len(tasks)} "
            f"recordings; put them into {file.parent}, or read what is there with --partial"
        )
    return sorted(utterances, key=lambda utterance: utterance.id)


def notes(path: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return a note of tasks without an annotation or a recording."""
    file = _find_export(path)
    left_out = len(_load_tasks(file)) - len({utterance.path for utterance in utterances})
    return [f"tasks without an annotation or a recording: {left_out}"] if left_out > 0 else []


def _find_export(path: Path) -> Path:
    """Return the export that a path names or that a folder holds."""
    if path.is_file():
        return path
    files = sorted(path.glob("*.json"))
    if len(files) != 1:
        raise CorpusError(
            f"{path} has {len(files)} JSON files; expected one export of Label Studio. Give the "
            "file itself"
        )
    return files[0]


def _load_tasks(file: Path) -> list[dict[str, Any]]:
    """Return the tasks of an export, each with ``data`` and ``annotations``."""
    try:
        document = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise CorpusError(f"{file} cannot be read as JSON: {error}; export it again") from error
    if not isinstance(document, list) or not all(isinstance(task, dict) for task in document):
        raise CorpusError(
            f"{file} is not an export of Label Studio: expected a list of tasks. Export as JSON or "
            "JSON-MIN"
        )
    return [task if "data" in task else _expand_minimal(task) for task in document]


def _expand_minimal(task: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task of JSON-MIN, whose answers stand beside the data, as one of JSON."""
    results, data = [], {}
    for name, value in task.items():
        if name in MIN_KEYS:
            continue
        answers = value if isinstance(value, list) else [value]
        if isinstance(value, dict) and "choices" in value:
            results.append({"from_name": name, "type": "choices", "value": value})
        elif isinstance(value, list) and all(isinstance(one, dict) for one in answers):
            results += [
                {"from_name": name, "type": _find_minimal_type(one), "value": one}
                for one in answers
            ]
        else:
            data[name] = value
    annotation = {"completed_by": task.get("annotator", ""), "result": results}
    return {"id": task.get("id"), "data": data, "annotations": [annotation]}


def _find_minimal_type(value: Mapping[str, Any]) -> str:
    kinds = ("labels", "rating", "number", "choices", "text")
    return next((kind for kind in kinds if kind in value), "")


def _find_recording(where: str, task: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key of a task's recording in ``data``, and its path."""
    data = task["data"] if isinstance(task["data"], dict) else {}
    texts = {name: value for name, value in data.items() if isinstance(value, str)}
    found = {
        name: value
        for name, value in texts.items()
        if _to_path(value).lower().endswith(AUDIO_SUFFIXES)
    }
    if "audio" in found:
        found = {"audio": found["audio"]}
    if len(found) != 1:
        raise CorpusError(
            f"{where}: data has {', '.join(map(str, data)) or 'nothing'}, of which "
            f"{'several name' if found else 'none names'} an audio file; expected one, or one "
            "called audio"
        )
    return next(iter(found.items()))


def _to_path(value: str) -> str:
    """Return the path in an address of Label Studio."""
    parts = urlsplit(value)
    local = parse_qs(parts.query).get("d")
    return local[0] if local else unquote(parts.path)


def _list_files(folder: Path) -> dict[str, list[Path]]:
    """Return the audio files below a folder, by name."""
    files: dict[str, list[Path]] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            if name.lower().endswith(AUDIO_SUFFIXES):
                files.setdefault(name, []).append(Path(place, name))
    return files


def _resolve(root: Path, value: str, files: Mapping[str, Sequence[Path]]) -> Path | None:
    """Return the file of a recording; None if it is missing or if several files have its name."""
    path = _to_path(value)
    for place in (root / path.lstrip("/"), Path(path)):
        if os.path.isfile(place):
            return place
    name = path.rpartition("/")[2]
    match = UPLOAD_PREFIX.fullmatch(name)
    for candidate in (name, *([match[1]] if match else [])):
        if len(files.get(candidate, ())) == 1:
            return files[candidate][0]
    return None


def _build_utterances(
    where: str, task: Mapping[str, Any], key: str, name: str, recording: Path
) -> Iterator[Utterance]:
    """Yield the utterances of a task: one for the recording, or one for each region."""
    answers: dict[Segment, dict[str, dict[str, Label]]] = {}
    texts: dict[Segment, str] = {}
    for index, annotation in enumerate(task.get("annotations") or [], 1):
        if not isinstance(annotation, dict) or annotation.get("was_cancelled"):
            continue
        rater = _get_rater(annotation, index)
        for result in annotation.get("result") or []:
            parsed = _parse_result(where, result)
            if parsed is None:
                continue
            segment, label, value = parsed
            segment = next((one for one in answers if _is_same(one, segment)), segment)
            if label in TEXT_NAMES and isinstance(value, str):
                texts.setdefault(segment, value)
                answers.setdefault(segment, {})
            else:
                answers.setdefault(segment, {}).setdefault(label, {})[rater] = value
    match = UPLOAD_PREFIX.fullmatch(_to_path(name).rpartition("/")[2])
    base = match[1] if match else _to_path(name).rpartition("/")[2]
    whole = answers.pop(WHOLE, {}) if len(answers) > 1 else {}
    attributes, constant = _read_data({k: v for k, v in task["data"].items() if k != key})
    for (start, end), by_label in sorted(answers.items(), key=lambda item: item[0][0]):
        labels: dict[str, Label] = dict(constant)
        for label, own in {**whole, **by_label}.items():
            labels |= (
                combine_answers(label, own) if len(own) > 1 else {label: next(iter(own.values()))}
            )
        suffix = "" if end is None else f":{start:g}-{end:g}"
        text = texts.get((start, end)) or texts.get(WHOLE)
        yield Utterance(
            id=f"{base}{suffix}" if base else f"{task.get('id')}{suffix}",
            path=recording,
            start=start,
            end=end,
            labels=labels,
            **{**attributes, **({"text": text} if text else {})},
        )


def _is_same(one: Segment, other: Segment) -> bool:
    if one[1] is None or other[1] is None:
        return one == other
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) < MAX_OFFSET


def _get_rater(annotation: Mapping[str, Any], index: int) -> str:
    """Return the name of an annotator, or else the number of the annotation."""
    by = annotation.get("completed_by")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    return str(by) if by not in (None, "") else f"annotation{index}"


def _parse_result(where: str, result: Any) -> tuple[Segment, str, Label] | None:
    """Return the segment, label and value of a result; None for another type."""
    try:
        value, label = result["value"], str(result["from_name"])
        segment = WHOLE
        if "start" in value and "end" in value:
            segment = (round(float(value["start"]), 3), round(float(value["end"]), 3))
        if segment[1] is not None and segment[1] <= segment[0]:
            return None
        for kind in ("choices", "labels"):
            if value.get(kind):
                return segment, label, "; ".join(map(str, value[kind]))
        for kind in ("rating", "number"):
            if kind in value:
                return segment, label, float(value[kind])
        if "text" in value:
            text = value["text"]
            return segment, label, " ".join(map(str, text)) if isinstance(text, list) else str(text)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CorpusError(
            f"{where}: a result is not as Label Studio exports it ({type(error).__name__}: "
            f"{error}); expected from_name and value. Export again as JSON"
        ) from error
    return None


def _read_data(data: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Label]]:
    """Return the attributes and the labels of a task's data."""
    attributes: dict[str, Any] = {}
    labels: dict[str, Label] = {}
    for name, value in data.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float) or value == "":
            continue
        lower = name.lower()
        if lower in TEXT_NAMES:
            attributes["text"] = str(value)
        elif lower == "gender":
            attributes["gender"] = GENDERS.get(str(value).lower())
        elif lower in ATTRIBUTES and lower != "corpus":
            attributes[lower] = str(value)
        else:
            labels[name] = value if isinstance(value, float) else str(value)
    return attributes, labels
