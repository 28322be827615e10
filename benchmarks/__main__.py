"""Run every benchmark and write the table: `python -m benchmarks`."""

import argparse
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from time import perf_counter

from benchmarks.timing import Row
from serein.evaluation.provenance import describe_machine, package_versions, utc_now
from serein.inference.recognizer import DEFAULT_MODEL

NAMES = (
    *("frontend", "audio", "training", "raw", "fu2020", "feng2020", "apply", "judging", "commands"),
    *("folder", "alternatives", "service", "live", "augment", "loader", "large"),
)
PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
HEAD = """# Benchmarks

Ours and a peer's in turns in one run, one thread unless said: medians, and the median of the
pairwise ratios (above 1 we are better; machines and their neighbours change speed, ratios less).
`make bench` writes this page; Keras runs in the interpreter that SEREIN_KERAS names
(CONTRIBUTING.md).
"""


def main() -> int:
    """Run them; the status is 1 where one failed, whose line says why."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, help=f"some of {', '.join(NAMES)}")
    names = parser.parse_args().names
    lines = ["| what | ours | peer | peer is | ratio | asked |", "|---|---|---|---|---|---|"]
    begun, failed = perf_counter(), 0
    for name in names:
        try:
            for line in _lines(name):
                lines.append(line)
                print(line, flush=True)
        except Exception as error:
            lines.append(f"| {name} | failed: {' '.join(str(error).split())} | | | | |")
            print(lines[-1], file=sys.stderr, flush=True)
            failed = 1
    if tuple(names) == NAMES:
        used = ", ".join(f"{name} {version}" for name, version in package_versions().items())
        minutes = (perf_counter() - begun) / 60
        facts = f"Measured {utc_now()}, in {minutes:.0f} minutes, on {describe_machine()}; {used}. "
        facts += f"Where no model is named, it is the one that comes first: `{DEFAULT_MODEL}`."
        PAGE.write_text("\n".join([HEAD, facts, "", *lines, ""]), encoding="utf-8")
    return failed


def _lines(name: str) -> Iterator[str]:
    yield from map(_line, import_module(f"benchmarks.{name}").main())


def _line(row: Row) -> str:
    ratio = "" if row.ratio is None else f"{row.ratio:.2f}"
    peer = "" if row.peer is None else f"{_number(row.peer)} {row.unit}"
    cells = row.what, f"{_number(row.ours)} {row.unit}", peer, row.peer_name, ratio, row.asked
    return f"| {' | '.join(cells)} |"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


if __name__ == "__main__":
    sys.exit(main())
