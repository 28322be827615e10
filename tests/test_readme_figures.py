"""Every figure of the README's tables follows from a committed result.

`SOURCES` names for each figure of a row and column, in their order, the results file and the field.
A figure that has no results file is `Printed`: it must occur in the file that it names. Whoever
changes a figure of the README changes its source here.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from serein.evaluation.compare import ComparedRun, tally_pair
from serein.metrics.scoring import UA, compute_difference_interval
from serein.metrics.statistical_tests import holm_correction, permutation_test
from serein.results import io
from serein.results.evaluation import Results

ROOT = Path(__file__).parents[1]
FIGURE = re.compile(r"(?<![\w.])[+-]?\d+\.\d+(?![\w.])")


@cache
def load(name: str) -> Results:
    return io.load_results(ROOT / "results" / f"{name}.json.gz")


@dataclass(frozen=True)
class Score:
    """A score of a results file in percent; of several files, the mean.

    Attributes:
        files: in ``results/``, without ``.json.gz``.
        metric: "wa", "ua" or "wer".
        task: the task.
        selection: the selection of epochs; by default the headline.
    """

    files: tuple[str, ...]
    metric: str
    task: str = "emotion"
    selection: str = ""

    def compute(self) -> str:
        return f"{100 * fmean(map(self._score, self.files)):.1f}"

    def _score(self, file: str) -> float:
        results = load(file)
        selection = self.selection or results.headline
        if self.metric == "wer":
            return float(results.words[selection].wer or 0)
        return float(results.scores[selection][self.task].score(self.metric) or 0)


@dataclass(frozen=True)
class Gain:
    """A figure of the gain in UA of another evaluation of the same utterances.

    Attributes:
        first: file and selection of the gain.
        second: file of the evaluation whose headline it is compared with.
        part: "gain", "low" or "high" in points, "p", or "adjusted" for Holm's correction over
            ``family``.
        family: file and selection of every gain that is tested.
    """

    first: tuple[str, str]
    second: str
    part: str
    family: tuple[tuple[str, str], ...]

    def compute(self) -> str:
        if self.part == "gain":
            scores = [Score((file,), "ua", selection=name) for file, name in self._pair()]
            return f"{float(scores[0].compute()) - float(scores[1].compute()):+.1f}"
        if self.part in ("low", "high"):
            interval = compute_difference_interval(*self._tally(self.first), UA)
            assert interval is not None
            return f"{100 * interval[self.part == 'high']:.1f}"
        p_values = [permutation_test(*self._tally(pair), UA.statistic) for pair in self.family]
        adjusted = holm_correction(p_values).tolist()
        index = self.family.index(self.first)
        return f"{(p_values if self.part == 'p' else adjusted)[index]:.3f}"

    def _pair(self) -> list[tuple[str, str]]:
        return [self.first, (self.second, load(self.second).headline)]

    def _tally(self, first: tuple[str, str]) -> tuple[Any, Any]:
        other, reference = (
            ComparedRun(name, (_quote(load(name), selection),))
            for name, selection in (first, (self.second, load(self.second).headline))
        )
        return tally_pair(other, reference, "emotion").grouped


def _quote(results: Results, selection: str) -> Results:
    return replace(results, headline=selection)


@dataclass(frozen=True)
class Printed:
    """A figure without a results file: of a paper, or of another page.

    Attributes:
        file: where it must occur.
        text: the figure as it occurs there.
    """

    file: str
    text: str

    def compute(self) -> str:
        content = (ROOT / self.file).read_text(encoding="utf-8")
        assert re.search(rf"(?<![\d.]){re.escape(self.text)}(?!\d)", content), (
            f"{self.text} does not occur in {self.file}"
        )
        return f"{float(self.text):.1f}"


Source = Score | Gain | Printed


def wa_ua(*files: str, task: str = "emotion", selection: str = "") -> list[Source]:
    return [Score(files, metric, task, selection) for metric in ("wa", "ua")]


def uas(file: str, *tasks: str) -> list[Source]:
    return [Score((file,), "ua", task) for task in tasks]


def published(paper: str, *figures: str) -> list[Source]:
    return [Printed(f"src/serein/published/{paper}.toml", figure) for figure in figures]


SEED_0 = "li2019/emodb-5ebd56e3"
GAINS = {
    "the epoch is chosen on test speakers": (SEED_0, "test"),
    "random split: training and test share speakers": ("li2019/emodb-c2e15bc6", "validation"),
    "frames standardised by the test speakers' own statistics": (
        "li2019/emodb-6e71b1a4",
        "validation",
    ),
}


def audit_row(file: str, selection: str) -> dict[str, list[Source]]:
    family = tuple(GAINS.values())

    def gain(*parts: str) -> list[Source]:
        return [Gain((file, selection), SEED_0, part, family) for part in parts]

    return {
        "WA": [Score((file,), "wa", selection=selection)],
        "UA": [Score((file,), "ua", selection=selection)],
        "gain in UA": gain("gain", "low", "high"),
        "p (Holm)": gain("p", "adjusted"),
    }


SOURCES: dict[str, dict[str, list[Source]]] = {
    "the epoch is chosen on validation speakers": {
        "WA": [Score((SEED_0,), "wa")],
        "UA": [Score((SEED_0,), "ua")],
    },
    **{row: audit_row(*source) for row, source in GAINS.items()},
    "li2019": {
        "published": published("li2019", "81.6", "82.8"),
        "EMO-DB": wa_ua("li2019/paper-settings-emodb-37d54969"),
    },
    "li2019-emodb": {
        "EMO-DB": wa_ua(SEED_0, "li2019/emodb-faa02fec", "li2019/emodb-bd10f06f"),
        "RAVDESS": wa_ua("li2019/ravdess-daf5dba3"),
    },
    "zhang2019": {
        "published": published("zhang2019", "48.5", "63.8", "51.6"),
        "EMO-DB": uas("zhang2019/emodb-802ba2e6", "arousal", "valence", "dominance"),
    },
    "fu2020": {
        "published": published("fu2020", "73.62", "71.11"),
        "EMO-DB": wa_ua("fu2020/emodb+ravdess-cc1fdd19"),
        "RAVDESS": wa_ua("fu2020/ravdess+emodb-4f8af9e8"),
    },
    "feng2020": {
        "published": published("feng2020", "68.6", "69.7", "35.7"),
        "EMO-DB": [
            *wa_ua("feng2020/emodb-757b3a45"),
            Score(("feng2020/emodb-757b3a45",), "wer"),
        ],
        "RAVDESS": [
            *wa_ua("feng2020/ravdess-345c6a98"),
            Score(("feng2020/ravdess-345c6a98",), "wer"),
        ],
    },
    "feng2020-whisper": {
        "EMO-DB": [
            *wa_ua("feng2020/whisper-emodb-f0ce265c"),
            Score(("feng2020/text-whisper-emodb-6d43d3b4",), "wer"),
        ],
    },
    "feng2020-asr-an4": {"EMO-DB": [Printed("results/feng2020/asr-an4.md", "22.3")]},
    "egemaps-svm": {
        "EMO-DB": wa_ua("egemaps-svm/emodb-a81ab571"),
        "RAVDESS": wa_ua("egemaps-svm/ravdess-ab0e246d"),
    },
    "serein-base": {
        "EMO-DB": wa_ua("serein-base/emodb-3c33a48a"),
        "RAVDESS": wa_ua("serein-base/ravdess-ee557eae"),
    },
    "ssl-probe": {
        "EMO-DB": wa_ua("ssl/probe-base-emodb-a64e184f"),
        "RAVDESS": wa_ua("ssl/probe-base-ravdess-5a57f73e"),
    },
    "ssl-svm": {
        "EMO-DB": wa_ua("ssl/svm-base-emodb-2b5069a5"),
        "RAVDESS": wa_ua("ssl/svm-base-ravdess-e8c8c44c"),
    },
    "serein-light": {
        "EMO-DB": wa_ua("serein-light/emodb-76144559"),
        "RAVDESS": wa_ua("serein-light/ravdess-8b45137d"),
    },
}


def read_rows(text: str) -> Iterator[dict[str, str]]:
    """Yield the rows of every table of a Markdown page, by column."""
    header: list[str] = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|"):
            header = []
        elif not header:
            header = cells
        elif set(line) - set("|- :"):
            yield dict(zip(header, cells, strict=True))


def find_figures() -> list[tuple[str, str, list[str]]]:
    """Return row, column and figures of each cell with a figure; a row is its first name."""
    found = []
    for row in read_rows((ROOT / "README.md").read_text(encoding="utf-8")):
        first, *columns = row
        name = re.sub(r"\(.*?\)|[\[\]`]", "", row[first]).partition(",")[0].strip()
        for column in columns:
            if figures := FIGURE.findall(row[column]):
                found.append((name, column, figures))
    return found


CELLS = find_figures()


def test_the_readme_has_tables_of_figures() -> None:
    assert sum(len(figures) for _, _, figures in CELLS) > 40


@pytest.mark.parametrize(
    ("row", "column", "figures"), CELLS, ids=[f"{row}, {column}" for row, column, _ in CELLS]
)
def test_figures_follow_from_committed_results(row: str, column: str, figures: list[str]) -> None:
    sources = SOURCES.get(row, {}).get(column)
    assert sources, f"README: {row}, {column} has figures without a source; name it in SOURCES"
    assert [source.compute() for source in sources] == figures


def test_every_source_is_a_figure_of_the_readme() -> None:
    named = {(row, column) for row, columns in SOURCES.items() for column in columns}
    assert named == {(row, column) for row, column, _ in CELLS}
