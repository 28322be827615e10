"""Reports carry the name of a saved model, and no path to it."""

from dataclasses import replace

from builders.example_results import example_results

from serein.report import checks, summary
from serein.report.table import Table


def test_reports_do_not_print_the_folders_of_models() -> None:
    plain = example_results(utterances=20, epochs=2)
    path = "/home/ann/models/mine.safetensors"
    changed = f"training.epochs=3, training.init={path}, text.transcripts_from=../runs/asr-1"
    results = replace(
        plain,
        recipe={
            **plain.recipe,
            "about": {"changed": changed},
            "training": {"init": path},
            "text": {"transcripts_from": "../runs/asr-1"},
        },
    )
    settings = checks.build_settings_table(results)
    assert isinstance(settings, Table)
    text = f"{settings} {summary.format_title(results)}"
    assert "training.init=mine, text.transcripts_from=asr-1" in summary.format_title(results)
    assert not [word for word in ("ann", "/home", "../", ".safetensors") if word in text]
