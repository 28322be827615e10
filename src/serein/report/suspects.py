"""The labels that look wrong, as a page to listen through and as a CSV table."""

import base64
import csv
import io
from collections.abc import Callable
from pathlib import Path

from serein.report import html
from serein.report.table import Table, make_row, number_columns, text_columns
from serein.results.studies import SuspectList
from serein.utils.files import write_text

SMALLEST_SHARE = 0.001
"""Probabilities nearer to 0 or 1 are printed as below or above it."""


def write_suspects(
    found: SuspectList,
    path: Path,
    count: int,
    read_clip: Callable[[str], bytes | str],
) -> tuple[Path, Path]:
    """Write the page and, beside it, a table of all suspects.

    Args:
        found: the labels that look wrong.
        path: of the page.
        count: largest number of recordings on the page; the table has all.
        read_clip: returns an utterance's audio as FLAC, or why there is none, as text.

    Returns:
        The paths of the page and of the table.

    Raises:
        StorageError: a file could not be written.
    """
    rows = []
    for suspect in found.suspects[:count]:
        clip = read_clip(suspect.id)
        rows.append(
            {
                "suspect": suspect,
                "shares": [
                    format_share(suspect.label_probability),
                    format_share(suspect.suggestion_probability),
                ],
                "audio": base64.b64encode(clip).decode() if isinstance(clip, bytes) else "",
                "fault": "" if isinstance(clip, bytes) else clip,
                "votes": ", ".join(
                    f"{name} {share:.0%}" for name, share in suspect.votes.items() if share
                ),
            }
        )
    text = html.render_template(
        "suspects.html",
        title=f"Labels of {found.corpus} that look wrong: {found.task}",
        found=found,
        rows=rows,
        confident=build_confident_table(found),
        source=found.run,
    )
    write_text(path, text)
    table = path.with_suffix(".csv")
    write_text(table, format_csv(found))
    return path, table


def format_share(share: float) -> str:
    """Format a probability in percent; those of a confident model are not rounded to 0 or 100.

    >>> format_share(0.00002), format_share(0.4267), format_share(0.99999)
    ('below 0.1 %', '42.7 %', 'above 99.9 %')
    """
    if share < SMALLEST_SHARE:
        return f"below {100 * SMALLEST_SHARE:.1f} %"
    if share > 1 - SMALLEST_SHARE:
        return f"above {100 * (1 - SMALLEST_SHARE):.1f} %"
    return f"{100 * share:.1f} %"


def build_confident_table(found: SuspectList) -> Table:
    """Return the table of labels (rows) and classes that the model is confident of (columns)."""
    names = list(found.thresholds)
    return Table(
        title="Labels and the classes that the model is confident of",
        note="Counts of utterances; beside the diagonal the labels look wrong. Utterances below "
        "every threshold are left out.",
        columns=(*text_columns("label"), *number_columns("threshold", *names)),
        rows=tuple(
            make_row(
                name,
                f"{found.thresholds[name]:.2f}",
                *(str(found.confident.get((name, other), 0)) for other in names),
            )
            for name in names
        ),
    )


def format_csv(found: SuspectList) -> str:
    """Return all suspects as CSV, most suspicious first."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["id", "speaker", "fold", "label", "suggestion", "p_label", "p_suggestion", "margin"]
    )
    for one in found.suspects:
        numbers = (one.label_probability, one.suggestion_probability, one.margin)
        row = [one.id, one.speaker or "", one.fold, one.label, one.suggestion]
        writer.writerow([*row, *(f"{number:.4f}" for number in numbers)])
    return text.getvalue()
