"""Reports of published results are written again from their data files."""

from dataclasses import replace
from pathlib import Path

from builders.example_results import example_results

from benchmarks.redraw import write_reports
from serein.evaluation.compare import compare
from serein.report.comparison import render_markdown
from serein.results import io


def test_reports_and_comparisons_are_written_again(tmp_path: Path) -> None:
    folder = tmp_path / "li2019"
    base = replace(example_results(utterances=100, epochs=2), repeats=[])
    runs = [
        replace(
            base, name=f"{name}-emodb-seed0-{name}bcd0123", recipe={**base.recipe, "name": name}
        )
        for name in ("a", "b")
    ]
    for one in runs:
        io.save_record(one, folder / f"emodb-{one.name[-8:]}.json.gz")
    (folder / "emodb-abcd0123.md").write_text("old")
    files = [folder / f"emodb-{one.name[-8:]}.json.gz" for one in runs]
    old = replace(compare(files), command="serein compare A B")
    text = render_markdown(old).replace("jackknife over", "bootstrap over")
    (folder / "comparison-emodb.md").write_text(text)
    written = [path.name for path in write_reports(tmp_path)]
    assert written == ["emodb-abcd0123.md", "comparison-emodb.md"]
    assert not (folder / "emodb-bbcd0123.md").exists()
    assert "95 % jackknife over 10 speakers" in (folder / "emodb-abcd0123.md").read_text()
    assert (folder / "comparison-emodb.md").read_text() == render_markdown(old)
