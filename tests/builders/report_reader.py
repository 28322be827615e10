"""Parsing of HTML reports, and results without some parts."""

import io
from dataclasses import replace
from html.parser import HTMLParser

from builders.example_results import CLASSES, rescore
from rich.console import Console

from serein.report import terminal
from serein.results.evaluation import Results

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags nest; collects attributes, scripts, and visible text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.words = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.words += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def without_folds(results: Results) -> Results:
    """Return results as from scoring a bundle: one selection, no folds, histories or speakers."""
    item = results.headline
    predictions = [
        replace(prediction, speaker=None, gender=None, selections={"model": shares})
        for prediction in results.predictions
        if (shares := prediction.selections[item])
    ]
    bare = replace(
        results,
        recipe={},
        protocol={},
        headline="model",
        selections={"model": "the saved model, as it is"},
        scores={"model": results.scores[item]},
        fold_means={},
        baselines={"chance": results.baselines["chance"]},
        folds=[],
        predictions=predictions,
        warnings=[],
        mapping={},
        leakage=[],
        calibration={},
        repeats=[],
        confident_errors=[],
    )
    return replace(rescore(bare), protocol={})


def with_undefined_scores(results: Results) -> Results:
    """Return results with a class that never occurs, and with undefined scores."""
    confusion = [list(row) for row in results.scores["validation"]["emotion"].confusion]
    confusion[2] = [0] * 7
    scores = replace(
        results.scores["validation"]["emotion"],
        wa=None,
        ua=None,
        wa_interval=None,
        ua_interval=None,
        recalls={**results.scores["validation"]["emotion"].recalls, "disgust": None},
        confusion=confusion,
    )
    return replace(
        results, scores={**results.scores, "validation": {"emotion": scores}}, classes=CLASSES
    )


def render_text(results: Results, width: int = 100) -> str:
    file = io.StringIO()
    Console(file=file, width=width, color_system=None).print(terminal.render_terminal(results))
    return file.getvalue()


def normalize_spaces(words: str) -> str:
    return " ".join(words.replace("\u00a0", " ").split())
