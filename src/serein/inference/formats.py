"""Recognitions as table, JSON or CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from serein.bundle import Bundle
from serein.inference.recognition import Recognition

if TYPE_CHECKING:
    from rich.table import Table

FORMATS = ("table", "json", "csv")


def as_json(answers: Sequence[Recognition], faults: Mapping[str, str]) -> str:
    """One document: what was recognised, and what could not be read, with its reason."""
    failed = [{"source": source, "reason": reason} for source, reason in faults.items()]
    return json.dumps({"recognized": [one.plain() for one in answers], "failed": failed}, indent=1)


def as_csv(answers: Sequence[Recognition]) -> str:
    """A line for each recording: its labels, the probability of each class, and its values."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for number, one in enumerate(answers):
        plain = one.plain()
        if not number:
            writer.writerow(["file", "start", "end", *_columns(one)])
        values = []
        for task in plain["tasks"].values():
            values += [task["label"], *task["probabilities"].values()]
        values += plain["values"].values()
        writer.writerow([one.source, plain["start"], plain["end"], *values])
    return text.getvalue()


def _columns(one: Recognition) -> list[str]:
    columns = []
    for task, found in one.tasks.items():
        columns += [task, *(f"{task}_{name}" for name in found.probabilities)]
    return [*columns, *one.values]


def as_table(answers: Sequence[Recognition]) -> "Table":
    """For people: the likeliest class, the two next ones, and the other tasks; or values."""
    from rich.markup import escape
    from rich.table import Table

    tasks, values = answers[0].tasks, answers[0].values
    heads = [name for place, task in enumerate(tasks) for name in (task, *["next"] * (not place))]
    short = [Path(one.source).name for one in answers]
    names = short if len(set(short)) == len(short) else [one.source for one in answers]
    table = Table("file", "seconds", *heads, *values, box=None, header_style="bold")
    table.columns[0].overflow = "fold"
    table.columns[1].justify = "right"
    for name, one in zip(names, answers, strict=True):
        cells = [_first(one, task) for task in tasks]
        cells[1:1] = [_next(one, task) for task in list(tasks)[:1]]
        numbers = (f"{value:.2f}" for value in one.values.values())
        table.add_row(escape(name), f"{one.end - one.start:.2f}", *cells, *numbers)
    return table


def _next(one: Recognition, task: str) -> str:
    """The two classes behind the answer, or the three likeliest where it was withheld."""
    found = one.tasks[task]
    ranks = range(found.label is not None, min(3, len(found.probabilities)))
    return ", ".join(_share(one, task, rank) for rank in ranks)


def _first(one: Recognition, task: str) -> str:
    """The answer and its probability, or that it was withheld."""
    return "unsure" if one.tasks[task].label is None else _share(one, task, 0)


def _share(one: Recognition, task: str, rank: int) -> str:
    """The class of that rank and its probability."""
    ranked = sorted(one.tasks[task].probabilities.items(), key=lambda pair: -pair[1])
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
