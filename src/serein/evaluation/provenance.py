"""Provenance of scores: command, time, corpus, machine and versions, to reproduce them."""

import hashlib
import json
import platform
import shlex
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from serein import corpora
from serein.records import Corpus, Precision, Recipe


def command_line() -> str:
    """Return the command that was typed, quoted for a shell."""
    name = Path(sys.argv[0]).name or "python"
    program = "python -m serein" if name == "__main__.py" else shlex.quote(name)
    return f"{program} {shlex.join(sys.argv[1:])}".strip()


def utc_now() -> str:
    """Return the current time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hash_dependencies(dependencies: Sequence[Any]) -> str:
    """Return the SHA-256 of everything that a run depends on, for its name; values as in JSON."""
    return hashlib.sha256(json.dumps(dependencies, sort_keys=True).encode()).hexdigest()


def describe_corpus(corpus: Corpus, content_hashes: dict[str, str]) -> dict[str, Any]:
    """Return a corpus's name, its numbers of utterances and speakers, and its hashes.

    ``hash`` depends on the ids, which may contain paths and the name of the corpus; ``identity``
    does not.
    """
    return {
        "name": corpus.name,
        "utterances": len(corpus.utterances),
        "speakers": len({u.speaker for u in corpus.utterances} - {None}),
        "hash": corpora.fingerprint(corpus, content_hashes),
        "identity": corpora.identify(corpus, content_hashes),
    }


def describe_environment(
    recipe: Recipe, seed: int, threads: int, device: str, precision: Precision
) -> dict[str, Any]:
    """Return everything outside recipe and corpus that the numbers depend on.

    ``source`` is the hash of the source code, a user's own modules included.
    """
    from serein.system import collect_packages, hash_recipe_sources  # here: it imports torch

    return {
        "seed": seed,
        "threads": threads,
        "device": device,
        "precision": precision,
        "source": hash_recipe_sources(recipe),
        "machine": describe_machine(),
        "versions": package_versions() | collect_packages(recipe),
    }


def flatten(table: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten nested tables; keys are joined by a space, such as "versions torch"."""
    rows: dict[str, Any] = {}
    for key, value in table.items():
        inner = value.items() if isinstance(value, Mapping) else [("", value)]
        rows |= {f"{key} {name}".strip(): item for name, item in inner}
    return rows


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the numbers depend on."""
    import torch  # here: `serein explain` runs without

    return {
        "serein": version("serein"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "soxr": version("soxr"),
        "soundfile": version("soundfile"),
    }


def describe_machine() -> str:
    """Describe the processor and the operating system."""
    return f"{platform.machine()} {processor_name()}, {platform.system()} {platform.release()}"


def processor_name() -> str:
    """Return the processor's model name, if the system has it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def peak_megabytes() -> float | None:
    """Return the peak memory of the largest process of this program; None if it is unknown."""
    try:
        import resource
    except ImportError:
        return None
    processes = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(process).ru_maxrss for process in processes)
    return round(peak / (1e6 if sys.platform == "darwin" else 1e3), 1)
