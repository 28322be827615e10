"""Recognitions as table, JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serein.bundle import Bundle
from serein.inference.recognition import Answer, Recognition, Value

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("table", "json", "csv")


def as_json(answers: Sequence[Recognition], faults: Mapping[str, str]) -> str:
    """One document: what was recognised, and what could not be read, with its reason."""
    failed = [{"source": source, "reason": reason} for source, reason in faults.items()]
    return json.dumps({"recognized": [one.plain() for one in answers], "failed": failed}, indent=1)


def as_csv(answers: Sequence[Recognition]) -> str:
    """A line for each recording: its labels with the probability of each class, or its values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, one in enumerate(answers):
        plain = one.plain()
        if not number:
            writer.writerow(["file", "start", "end", *_columns(one)])
        values = []
        for task in plain["tasks"].values():
            own = [task["value"]] if "value" in task else [task["label"]]
            values += [*own, *task.get("probabilities", {}).values()]
        writer.writerow([one.source, plain["start"], plain["end"], *values])
    return text.getvalue()


def _columns(one: Recognition) -> list[str]:
    columns = []
    for task, found in one.tasks.items():
        columns += [task, *(f"{task}_{name}" for name in _probabilities(found))]
    return columns


def _probabilities(found: Answer | Value) -> dict[str, float]:
    return found.probabilities if isinstance(found, Answer) else {}


def as_table(answers: Sequence[Recognition]) -> "Table":
    """For people: the likeliest class and the two next ones, or the value; and the other tasks."""
    from rich.markup import escape
    from rich.table import Table

    main, *others = answers[0].tasks
    short = [Path(one.source).name for one in answers]
    names = short if len(set(short)) == len(short) else [one.source for one in answers]
    runners_up = ["next"] * isinstance(answers[0].tasks[main], Answer)
    heads = ["file", "seconds", main, *runners_up, *others]
    table = Table(*heads, box=None, header_style="bold")
    table.columns[0].overflow = "fold"
    table.columns[1].justify = "right"
    for name, one in zip(names, answers, strict=True):
        cells = [escape(name), f"{one.end - one.start:.2f}", _first(one, main)]
        runners = range(one.label is not None, min(3, len(_probabilities(one.tasks[main]))))
        cells += [", ".join(_share(one, main, rank) for rank in runners)] * len(runners_up)
        table.add_row(*cells, *(_first(one, task) for task in others))
    return table


def _first(one: Recognition, task: str) -> str:
    """The answer and its probability, or that it was withheld; or the value."""
    found = one.tasks[task]
    if isinstance(found, Value):
        return f"{found.value:.2f}"
    return "unsure" if found.label is None else _share(one, task, 0)


def _share(one: Recognition, task: str, rank: int) -> str:
    """The class of that rank and its probability."""
    ranked = sorted(_probabilities(one.tasks[task]).items(), key=lambda pair: -pair[1])
    name, probability = ranked[rank]
    return f"{name} {probability:.0%}"


def as_card(bundle: Bundle) -> str:
    """A model's card in Markdown."""
    card, system = bundle.card, bundle.system
    weights = sum(weight.numel() for weight in system.parameters())
    classes = "; ".join(
        f"{task}: {', '.join(names) or 'a number'}" for task, names in system.classes.items()
    )
    rows = {
        "Answers": classes,
        "Recipe": f"{system.recipe.name}, {weights:,} weights",
        "Data": card.data,
        "Licence": card.licence,
        "Confidence": "; ".join(
            f"{task}: temperature {found.temperature:.2f}, threshold {found.threshold:.2f} "
            f"({found.words or 'not fitted'})"
            for task, found in bundle.confidence.items()
        ),
        "Scores": card.scores,
        "Limits": card.limits,
        "Use and misuse": card.use,
        "Training": ", ".join(f"{key} {value}" for key, value in card.training.items()),
    }
    text = [f"## {name}\n\n{words or 'not stated'}\n" for name, words in rows.items()]
    return "\n".join([f"# {card.name}\n", *text])
