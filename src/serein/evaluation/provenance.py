"""Facts that stand beside scores, so that they can be had again."""

import platform
import shlex
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from serein import corpora
from serein.records import Corpus, Recipe
from serein.system import collect_packages
from serein.utils.device import Precision


def command_line() -> str:
    """What was typed, as a shell would take it."""
    name = Path(sys.argv[0]).name or "python"
    program = "python -m serein" if name == "__main__.py" else shlex.quote(name)
    return f"{program} {shlex.join(sys.argv[1:])}".strip()


def utc_now() -> str:
    """ISO 8601, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_corpus(corpus: Corpus, contents: dict[str, str]) -> dict[str, Any]:
    """A corpus in a few numbers."""
    return {
        "name": corpus.name,
        "utterances": len(corpus.utterances),
        "speakers": len({u.speaker for u in corpus.utterances} - {None}),
        "hash": corpora.fingerprint(corpus, contents),
    }


def describe_environment(
    recipe: Recipe, seed: int, threads: int, device: str, precision: Precision
) -> dict[str, Any]:
    """What a repetition needs to have alike."""
    return {
        "seed": seed,
        "threads": threads,
        "device": device,
        "precision": precision,
        "machine": describe_machine(),
        "versions": package_versions() | collect_packages(recipe),
    }


def flatten(table: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within a table laid beside its other rows: "versions torch"."""
    rows: dict[str, Any] = {}
    for key, value in table.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        rows |= {f"{key} {name}".strip(): item for name, item in inner}
    return rows


def package_versions() -> dict[str, str]:
    """Of everything that numbers depend on."""
    return {
        "serein": version("serein"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "soxr": version("soxr"),
        "soundfile": version("soundfile"),
    }


def describe_machine() -> str:
    """Processor and system in words."""
    return f"{platform.machine()} {processor_name()}, {platform.system()} {platform.release()}"


def processor_name() -> str:
    """The processor's own name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_megabytes() -> float | None:
    """The most memory that one process of this program has held; None where nobody tells."""
    try:
        import resource
    except ImportError:
        return None
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(one).ru_maxrss for one in who)
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
