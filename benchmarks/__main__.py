"""Run all benchmarks and write the table: `python -m benchmarks`."""

import argparse
import csv
import re
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter

from benchmarks.timing import MODEL, Row
from serein.evaluation.provenance import describe_machine, package_versions, utc_now

NAMES = (
    *("logmel", "audio", "li2019", "zhang2019", "fu2020", "feng2020", "long_audio", "evaluation"),
    *("evaluate_command", "commands", "folder", "alternatives", "service", "live_streams"),
    *("augment", "data_loading", "large_corpus", "iemocap", "whisper_encoder"),
)
FIRST_VERSION = Path(__file__).parent / "first_version.csv"
"""Rows of the page of 2026-11-22, with the names that they have now."""
CHANGING = re.compile(
    r": [\d,]+ x real time|\([\d,]+ ms\)|of [\d,]+ segments|; the FFT's share: \d+%"
)
"""Parts of a row's name that hold a measured number."""
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Each row measures serein and, where there is one, a peer alternately in one run, on one thread
unless stated otherwise. The table shows medians and the median of the pairwise ratios; above 1,
serein is better. Ratios depend less on the load of the machine than times do. The last column has
what the first version measured on 2026-11-22 on an Intel Xeon, which multiplies bf16 matrices five
times as fast, and the ratio then. `make bench` writes this page; Keras runs in the interpreter
named by SEREIN_KERAS (CONTRIBUTING.md).
"""

BOUNDS = ("", "What bounds some of these rows:", "")


def main() -> int:
    """Run the benchmarks; return 1 if one failed, whose row gives the reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"some of {', '.join(NAMES)}")
    names = parser.parse_args().names
    lines = ["| what | serein | peer | peer is | ratio | target | first version |"]
    lines.append("|---|---|---|---|---|---|---|")
    earlier = _load_first_version()
    bounds: list[str] = []
    start, failed = perf_counter(), 0
    for name in names:
        try:
            for row in import_module(f"benchmarks.{name}").main():
                line = _format_row(row, earlier.get(_find_key(row.what, row.peer_name), ""))
                lines.append(line)
                print(line, flush=True)
                if row.bound:
                    bounds.append(f"- {row.what}: {row.bound}.")
                    print(bounds[-1], flush=True)
        except Exception as error:
            lines.append(f"| {name} | failed: {' '.join(str(error).split())} | | | | | |")
            print(lines[-1], file=sys.stderr, flush=True)
            failed = 1
    if tuple(names) == NAMES:
        versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
        minutes = (perf_counter() - start) / 60
        conditions = (
            f"Measured {utc_now()}, in {minutes:.0f} minutes, on {describe_machine()}; {versions}. "
            f"Rows that name no model use `{MODEL}`."
        )
        PAGE.write_text(
            "\n".join([HEAD, conditions, "", *lines, *BOUNDS, *bounds, ""]), encoding="utf-8"
        )
    return failed


def _load_first_version() -> dict[tuple[str, str], str]:
    """Return what the first version measured, by ``_find_key``."""
    with FIRST_VERSION.open(encoding="utf-8", newline="") as file:
        return {
            _find_key(row["what"], row["peer"]): row["serein"]
            + (f", ratio {row['ratio']}" if row["ratio"] else "")
            for row in csv.DictReader(file)
        }


def _find_key(what: str, peer_name: str) -> tuple[str, str]:
    """Return the name of a row without its numbers, and that of its peer without versions."""
    return CHANGING.sub("", what), re.sub(r"[\d.,]+", "", peer_name)


def _format_row(row: Row, earlier: str) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    peer = "" if row.peer is None else f"{_format_number(row.peer)} {row.unit}"
    cells = (
        row.what,
        f"{_format_number(row.ours)} {row.unit}",
        peer,
        row.peer_name,
        ratio,
        row.target,
        earlier,
    )
    return f"| {' | '.join(cells)} |"


def _format_number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
