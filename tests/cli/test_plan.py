"""Tests of `serein plan`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from builders.small_systems import QUICK

Run = Callable[..., tuple[int, str, str]]
SETTINGS = (*QUICK, "protocol.name=leave-one-speaker-out", "tasks.emotion.scheme=own")


def list_options(*settings: str) -> list[str]:
    return [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]


def test_plan_is_printed_and_saved(run: Run, root: Path, tmp_path: Path) -> None:
    file = tmp_path / "plan.json"
    options = list_options("protocol.only.emotion=anger,sadness")
    words = ("--corpus", f"synthetic={root}", "--no-timing", "--json", file)
    status, out, err = run("plan", "li2019", *words, *options)
    assert (status, err) == (0, "")
    assert out.startswith("li2019 on synthetic: 16 of 24 utterances, emotion in 2 classes")
    assert out.splitlines()[-1] == str(file)
    table = json.loads(file.read_text())
    assert table["corpus"] == {"name": "synthetic", "utterances": 16, "total": 24}
    assert len(table["folds"]) == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["plan.json"]


def test_hours_are_estimated(run: Run, root: Path) -> None:
    words = ("--corpus", f"synthetic={root}", "--jobs", "1", "--seeds", "3")
    status, out, _ = run("plan", "li2019", *words, *list_options())
    assert status == 0
    assert "4 folds of 2 epochs, 3 seeds" in out
    assert "One training step takes" in out


def test_leak_gives_status_1(run: Run, tmp_path: Path, root: Path) -> None:
    lines = (root / "labels.csv").read_text().splitlines()
    header, *rows = lines
    table = tmp_path / "pairs.csv"
    with_dialogue = [f"{header},dialogue", *(f"{row},d" for row in rows)]
    table.write_text("\n".join(with_dialogue).replace("wav/", f"{root}/wav/"))
    words = ("--corpus", f"pairs={table}", "--no-timing")
    status, out, err = run("plan", "li2019", *words, *list_options())
    assert (status, err) == (1, "")
    assert "error: partner: partners are in two subsets of a fold" in " ".join(out.split())


@pytest.mark.parametrize(
    ("recipe", "options", "text"),
    [
        ("nonesuch", (), "nonesuch"),
        ("li2019", ("--set", "protocol.name=nonesuch"), "nonesuch"),
        ("li2019", ("--set", "protocol.only.emotion=joy"), "leaves no utterance"),
        ("li2019", ("--device", "abacus"), "abacus"),
    ],
)
def test_fault_is_one_line(
    run: Run, root: Path, recipe: str, options: tuple[str, ...], text: str
) -> None:
    words = ("--corpus", f"synthetic={root}", "--no-timing")
    status, out, err = run("plan", recipe, *words, *list_options(), *options)
    assert status in (1, 2)
    assert out == ""
    assert err.count("\n") == 1
    assert text in err
