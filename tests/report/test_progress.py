"""Progress of a folder on a terminal and elsewhere."""

import io

import pytest
from rich.console import Console

from serein.report.progress import (
    PRINT_INTERVAL,
    FolderProgressBar,
    StepProgress,
    TrainingProgress,
    can_show_bar,
    format_clock,
)
from serein.results.evaluation import Epoch, FolderProgress


def progress(total: int | None, done: int, *, before: int = 0, failed: int = 0) -> FolderProgress:
    return FolderProgress(
        total=total, done_before=before, done=done, failed=failed, seconds=done * 4.0
    )


def test_plain_lines_are_printed_at_intervals() -> None:
    text, now = io.StringIO(), [0.0]
    with FolderProgressBar(Console(file=text, width=60), lambda: now[0]) as bar:
        for second in range(1, 25):
            now[0] = float(second)
            bar.update(progress(1000, 100 + second, before=400, failed=second // 12))
    lines = text.getvalue().splitlines()
    assert lines == [
        "510 of 1,000 files, 44x real time, left 0:44",
        "520 of 1,000 files, 1 failed, 24x real time, left 1:20",
    ]


def test_unknown_total_is_not_printed() -> None:
    text, now = io.StringIO(), [0.0]
    with FolderProgressBar(Console(file=text), lambda: now[0]) as bar:
        now[0] = PRINT_INTERVAL
        bar.update(progress(None, 5))
    assert text.getvalue() == "5 files, 2x real time\n"


def test_terminal_shows_a_bar() -> None:
    text = io.StringIO()
    with FolderProgressBar(Console(file=text, force_terminal=True, width=100)) as bar:
        bar.update(progress(8, 6))
        bar.bar.refresh()
    assert "6/8" in text.getvalue()


@pytest.mark.parametrize(("seconds", "words"), [(0, "0:00"), (59.9, "0:59"), (3661, "1:01:01")])
def test_clock(seconds: float, words: str) -> None:
    assert format_clock(seconds) == words


def test_features_are_shown_with_count_and_time_left() -> None:
    text, now = io.StringIO(), [0.0]
    with StepProgress(Console(file=text, width=80), lambda: now[0]) as display:
        for done in range(0, 31):
            now[0] = float(done)
            display.update("features logmel", done, 60)
    assert text.getvalue().splitlines() == [
        "features logmel: 10 of 60 utterances, left 0:50",
        "features logmel: 20 of 60 utterances, left 0:40",
        "features logmel: 30 of 60 utterances, left 0:30",
    ]


def test_a_terminal_shows_features_as_a_bar_before_the_first_epoch() -> None:
    text = io.StringIO()
    with TrainingProgress(1, 2, Console(file=text, force_terminal=True, width=120)) as display:
        display.show_step("features logmel", 3, 8)
        display.bar.refresh()
        display.bind("all")(Epoch(epoch=1, loss=0.5, seconds=1.0, scores={}))
        display.bar.refresh()
    assert "features logmel" in text.getvalue()
    assert "3/8" in text.getvalue()
    assert "fold all epoch 1/2" in text.getvalue()


@pytest.mark.parametrize(("has_widgets", "is_drawn"), [(True, True), (False, False)])
def test_a_notebook_has_a_bar_only_with_ipywidgets(
    has_widgets: bool, is_drawn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = object() if has_widgets else None
    monkeypatch.setattr("serein.report.progress.find_spec", lambda name: found)
    assert can_show_bar(Console(force_jupyter=True)) is is_drawn
    assert can_show_bar(Console(file=io.StringIO(), force_terminal=True))
    assert not can_show_bar(Console(file=io.StringIO()))


def test_a_notebook_without_ipywidgets_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serein.report.progress.find_spec", lambda name: None)
    text = io.StringIO()
    console = Console(file=text, force_jupyter=True, width=80)
    with TrainingProgress(1, 1, console) as bar:
        assert bar.bar.disable
