"""The notebooks of the docs run, show HTML for what they display, and were saved with outputs."""

import ast
import json
from pathlib import Path
from typing import Any

import pytest
import run_notebooks

NOTEBOOKS = run_notebooks.list_notebooks()


def run_cells(path: Path) -> list[Any]:
    """Run the code of a notebook in this process; return what its cells display."""
    names: dict[str, Any] = {"__name__": "notebook"}
    displayed = []
    for number, code in enumerate(run_notebooks.read_code(path)):
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"{path.name}, cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), path.name, "eval"), names)
            displayed.append(value)
    return displayed


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_show_html(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(path.parent)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    displayed = [value for value in run_cells(path) if value is not None]
    assert displayed
    for value in displayed:
        html = value._repr_html_()
        assert html.startswith("<div")
        assert len(html) < 30_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_were_saved_with_outputs_and_without_audio(path: Path) -> None:
    notebook = json.loads(path.read_text("utf-8"))
    outputs = [
        output
        for cell in notebook["cells"]
        if cell["cell_type"] == "code"
        for output in cell["outputs"]
    ]
    assert outputs, f"{path.name} has no outputs; run `make notebooks`"
    assert not [output for output in outputs if output["output_type"] == "error"]
    text = json.dumps(outputs)
    assert "audio" not in text
    assert str(Path(__file__).parents[1]) not in text


def test_there_are_three_notebooks() -> None:
    assert [path.stem for path in NOTEBOOKS] == ["a-papers-table", "first-steps", "own-corpus"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_in_a_kernel(path: Path) -> None:
    notebook = run_notebooks.execute(path)
    displayed = [
        output.data
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type == "execute_result"
    ]
    assert displayed
    assert all("text/html" in data for data in displayed)
