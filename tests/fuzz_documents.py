"""Read mutated documents in a process with limited memory that records forbidden events.

`python tests/fuzz_documents.py FOLDER COUNT SEED [KIND ...]` prints the outcomes as JSON.
"""

import gzip
import io
import json
import resource
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import yaml
from builders.corpus_layouts import write_audformat
from builders.example_results import example_results
from builders.mutations import mutate
from builders.odd_values import TRAP, odd_document, odd_json, odd_lines, odd_table
from builders.small_systems import small_recipe, small_system
from builders.word_systems import small_asr, small_text_model
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed

from serein import bundle, corpora, protocols, recipes
from serein.corpora import audformat, table
from serein.errors import SereinError
from serein.evaluation.plan import build_plan
from serein.inference.tables import PartStore, check_plan
from serein.records import Corpus, Fold, Protocol, Utterance
from serein.results import io as store
from serein.results.studies import Search, Sweep, SweepPoint, SweepSeed, Trial

MEMORY = 2**30
"""Bytes that a reader may use beyond those of the process at its start."""
FORBIDDEN_EVENTS = (
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "subprocess.",
    "socket.",
    "pickle.",
)
"""Audit events of Python that no document may cause."""
IMPORTING_KINDS = ("recipe",)
"""Documents that import the modules that they name, by design: docs/own-parts.md."""


SEEDED = SweepSeed(seed=0, run="a", wa=0.5, ua=None)
SCORED: dict[str, Any] = {
    "wa": 0.5,
    "ua": 0.5,
    "wa_interval": (0.1, 0.9),
    "ua_interval": (0.1, 0.9),
}
POINT = SweepPoint(value=1, split="a", training_utterances=9.0, seeds=[SEEDED], **SCORED)


class Kind(NamedTuple):
    """A document that can be read.

    Attributes:
        name: of its file.
        valid: a valid document.
        odd: returns the document with an odd value.
        read: the reader, which must raise only SereinError for any content.
    """

    name: str
    valid: bytes
    odd: Callable[[Random], bytes]
    read: Callable[[Path], object]


def kinds(folder: Path) -> dict[str, Kind]:
    """Return all documents that are read from a disk and may come from others."""
    (folder / "a.wav").write_bytes(b"a")
    return {
        **_bundles(),
        "bundle, recogniser": _bundle_with_asr(),
        "recipe": _recipe(folder),
        **_results(),
        **_tables(),
        **_protocols(),
        "audformat": _audformat(folder),
        **_parts(),
    }


def _bundles() -> dict[str, Kind]:
    system = small_system()
    confidence = {"emotion": bundle.ConfidenceCalibration(temperature=2.0)}
    whole = bundle.Bundle(system, bundle.Card(name="small"), confidence)
    text, tensors = bundle.bundle_to_json(whole), bundle._state_tensors(system)

    def build_file(text: str, tensors: dict[str, torch.Tensor]) -> bytes:
        digest = bundle._compute_digest(text, tensors)
        return sort_header(packed(tensors, {"serein": text, "sha256": digest}))

    def with_odd_card(rng: Random) -> bytes:
        return build_file(json.dumps(odd_document(json.loads(text), rng)), tensors)

    def with_deep_card(rng: Random) -> bytes:
        odd = odd_json(json.loads(text), rng).decode("utf-8", "replace")
        return build_file(odd, tensors)

    def with_odd_header(rng: Random) -> bytes:
        """Change the header of safetensors: types, shapes and offsets of the weights."""
        content = build_file(text, tensors)
        size = int.from_bytes(content[:8], "little")
        odd = odd_json(json.loads(content[8 : 8 + size]), rng)
        length = len(odd) if rng.random() < 0.8 else rng.choice((0, 2**32, 10**11, 2**63))
        return length.to_bytes(8, "little") + odd + content[8 + size :]

    valid = build_file(text, tensors)
    assert unpacked(valid)
    return {
        name: Kind("a.safetensors", valid, odd, bundle.load)
        for name, odd in {
            "bundle": with_odd_card,
            "bundle, deep": with_deep_card,
            "bundle, header": with_odd_header,
        }.items()
    }


def sort_header(content: bytes) -> bytes:
    """Sort the names in the header of safetensors, which does not define their order."""
    size = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + size]), sort_keys=True).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _bundle_with_asr() -> Kind:
    """Change the document of a speech recogniser in a bundle, with hashes that fit."""
    asr = small_asr()
    whole = small_text_model(asr=asr)
    asr_text, asr_tensors = bundle.bundle_to_json(asr), bundle._state_tensors(asr.system)
    document, tensors = (
        json.loads(bundle.bundle_to_json(whole)),
        bundle._state_tensors(whole.system),
    )
    weights = tensors | {f"{bundle.ASR_PREFIX}{name}": x for name, x in asr_tensors.items()}

    def build_file(asr_text: str) -> bytes:
        digest = bundle._compute_digest(asr_text, asr_tensors)
        text = json.dumps(document | {"asr": {"sha256": digest}})
        metadata = {"serein": text, "sha256": bundle._compute_digest(text, tensors)}
        return sort_header(packed(weights, metadata | {"asr": asr_text}))

    def with_odd_asr(rng: Random) -> bytes:
        return build_file(json.dumps(odd_document(json.loads(asr_text), rng)))

    return Kind("a.safetensors", build_file(asr_text), with_odd_asr, bundle.load)


def _recipe(folder: Path) -> Kind:
    parts = small_recipe("training.precision=fp32")
    files = [folder / f"{number}.wav" for number in range(8)]
    for number, file in enumerate(files):
        file.write_bytes(bytes([number]))
    people = [
        Utterance(
            id=file.stem,
            path=file,
            speaker=file.stem,
            gender=("female", "male")[number % 2],
            labels={"emotion": ("anger", "sadness")[number // 4]},
        )
        for number, file in enumerate(files)
    ]
    corpus = Corpus(name="few", utterances=tuple(people))

    def read(path: Path) -> object:
        recipe = recipes.load(str(path))
        return build_plan(recipe, corpus, seed=0, device="cpu", runs=folder)

    text = "\n".join(_toml({key: getattr(parts, key) for key in recipes.DEFAULTS}))
    return Kind("a.toml", text.encode(), lambda rng: odd_lines(text, rng), read)


def _toml(tables: dict[str, Any], above: str = "") -> Iterator[str]:
    for name, held in tables.items():
        if isinstance(held, dict):
            yield f"[{above}{name}]"
            flat = {key: value for key, value in held.items() if not isinstance(value, dict)}
            yield from (f"{key} = {json.dumps(value)}" for key, value in flat.items())
            inner = {key: value for key, value in held.items() if isinstance(value, dict)}
            yield from _toml(inner, f"{above}{name}.")


def _results() -> dict[str, Kind]:
    results = json.loads(store.to_json(example_results(utterances=40, epochs=3)))
    trial = Trial(number=0, settings={"model.name": "li2019"}, state="finished", score=0.5)
    words = dict.fromkeys(("name", "command", "created", "task"), "a")
    tables: dict[str, Any] = {"format": 2, "recipe": {"name": "li2019"}, "corpus": {"name": "a"}}
    search = tables | words | {"protocol": {"name": "a"}, "space": {"model.name": "li2019"}}
    search |= {"seed": 0, "trials": [asdict(trial)], "best": 0, "evaluation": "", "warnings": []}
    sweep = tables | words | dict.fromkeys(("protocol", "selection", "setting", "interval"), "a")
    sweep |= {
        "utterances": 9,
        "points": [asdict(POINT)],
        "contests": [],
        "trend": None,
        "warnings": [],
    }

    def packed_json(rng: Random) -> bytes:
        return gzip.compress(odd_json(results, rng), mtime=0)

    return {
        "results": _json("results.json", results, store.load_results),
        "results, packed": Kind(
            "results.json.gz",
            gzip.compress(json.dumps(results).encode(), mtime=0),
            packed_json,
            store.load_results,
        ),
        "search": _json(
            store.SEARCH_FILE, search, lambda path: store.load_record(Search, path.parent)
        ),
        "sweep": _json(store.SWEEP_FILE, sweep, lambda path: store.load_record(Sweep, path.parent)),
    }


def _json(name: str, document: Any, read: Callable[[Path], object]) -> Kind:
    made = json.dumps(document).encode()
    return Kind(name, made, lambda rng: odd_json(document, rng), read)


ROWS: list[dict[str, Any]] = [
    {"file": "a.wav", "start": float(i), "end": i + 1.0, "speaker": f"s{i}", "gender": "f"}
    | {"emotion": "anger", "arousal": 0.5}
    for i in range(6)
]


def _tables() -> dict[str, Kind]:
    header = ",".join(ROWS[0])
    text = "\n".join([header, *(",".join(map(str, row.values())) for row in ROWS)])

    def lines(rng: Random) -> bytes:
        return b"\n".join(odd_json(row, rng) for row in ROWS[: rng.randrange(1, 6)])

    def parquet(rng: Random) -> bytes:
        return mutate(whole, text.encode(), rng)[1]

    whole = _parquet(pa.Table.from_pylist(ROWS))
    return {
        "CSV": Kind("a.csv", text.encode(), lambda rng: odd_table(text, rng), table.read),
        "JSON Lines": Kind("a.jsonl", json.dumps(ROWS[0]).encode(), lines, table.read),
        "Parquet": Kind("a.parquet", whole, parquet, table.read),
    }


def _parquet(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink, compression="zstd")
    return sink.getvalue()


def _audformat(folder: Path) -> Kind:
    """Return the header of a database with valid tables."""
    root = folder / "audformat"
    write_audformat(root, speakers=2, words=1)
    text = (root / "db.yaml").read_text()

    def odd(rng: Random) -> bytes:
        if rng.random() < 0.5:
            return odd_lines(text.replace(": ", " = "), rng).replace(b" = ", b": ")
        return odd_json(yaml.safe_load(text), rng)

    return Kind("db.yaml", text.encode(), odd, lambda path: audformat.read(path.parent))


def _protocols() -> dict[str, Kind]:
    fold = Fold(name="a", train=("1", "2"), validation=("3",), test=("4",))
    whole = Protocol(name="a", validation="", folds=(fold, replace(fold, name="b")))
    document = {"format": 2, "hash": whole.hash, **asdict(whole)}
    text = "fold,side,id\n01,train,a\n01,validation,b\n01,test,c\n02,train,b\n02,test,a\n"
    places = {"emodb": "/data/emodb", "mine": {"path": "/data/mine.csv", "partial": True}}

    def remembered(path: Path) -> object:
        assert path.parent == corpora.config_folder()
        return corpora.saved_paths()

    return {
        "protocol": _json("a.json", document, protocols.load),
        "protocol, CSV": Kind(
            "p.csv", text.encode(), lambda rng: odd_table(text, rng), protocols.load
        ),
        "places": _json("corpora.json", places, remembered),
    }


def _parts() -> dict[str, Kind]:
    schema = pa.schema([("file", pa.string()), ("reason", pa.string()), ("start", pa.float64())])
    rows = [{"file": f"{i}.wav", "reason": None, "start": 0.5} for i in range(50)]
    whole, begun = _parquet(pa.Table.from_pylist(rows, schema)), {"model": "a", "folder": "b"}

    def part(rng: Random) -> bytes:
        return mutate(whole, b"PAR1", rng)[1]

    return {
        "part": Kind(
            "part-000000.parquet",
            whole,
            part,
            lambda path: PartStore(path.parent, schema).read_table(),
        ),
        "plan": _json("plan.json", begun, lambda path: check_plan(path.parent, path, begun)),
    }


def content(kind: Kind, number: int, seed: int) -> bytes:
    """Return a case: two of three have odd values, the others mutated bytes."""
    rng = Random(f"{seed} {number} {kind.name}")
    if rng.random() < 2 / 3:
        return kind.odd(rng)
    return mutate(kind.valid, np.arange(256, dtype=np.uint8).tobytes() * 4, rng)[1]


class AuditWatch:
    """Records forbidden audit events while a document is read."""

    def __init__(self) -> None:
        self.is_active = False
        self.events: list[str] = []
        sys.addaudithook(self._record)

    def _record(self, event: str, _: tuple[Any, ...]) -> None:
        if self.is_active and event.startswith(FORBIDDEN_EVENTS):
            self.events.append(event)


def run(folder: Path, count: int, seed: int, names: list[str], log: Path) -> dict[str, Any]:
    """Read all mutated documents.

    Args:
        folder: to write them to.
        count: number of documents of each kind.
        seed: of the mutations.
        names: of kinds; all kinds if empty.
        log: file that gets the case before it is read, in case the process dies.
    """
    watch, outcomes = AuditWatch(), dict[str, Counter[str]]()
    faults, imports = list[str](), list[str]()
    for name, kind in kinds(folder).items():
        if names and name not in names:
            continue
        place = folder / name.replace(", ", "-").replace(" ", "-")
        place.mkdir(exist_ok=True)
        path = _document_path(place, kind)
        path.write_bytes(kind.valid)
        kind.read(path)  # also imports what it needs
        outcomes[name] = Counter()
        for number in range(count):
            log.write_text(f"{name} {number}")
            path.write_bytes(content(kind, number, seed))
            watch.is_active = True
            outcome = _outcome(kind, path)
            watch.is_active = False
            outcomes[name][
                "read" if not outcome else "refused" if outcome[0] == "!" else "fault"
            ] += 1
            if outcome and outcome[0] != "!":
                faults.append(f"{name} {number}: {outcome}")
            if sys.modules.pop(TRAP, None) and name not in IMPORTING_KINDS:
                imports.append(f"{name} {number}: {TRAP}")
    return {
        "outcomes": outcomes,
        "faults": faults,
        "harm": watch.events + imports,
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def _document_path(place: Path, kind: Kind) -> Path:
    (place / "a.wav").write_bytes(b"a")
    if kind.name != "corpora.json":
        return place / kind.name
    corpora.config_folder().mkdir(parents=True, exist_ok=True)
    return corpora.config_folder() / kind.name


def _outcome(kind: Kind, path: Path) -> str:
    """Return "" if the document was read, and "!" with the message for a SereinError."""
    try:
        kind.read(path)
    except SereinError as error:
        return f"!{error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:200]
    return ""


def main() -> None:
    folder, count, seed, *names = sys.argv[1:]
    place = Path(folder)
    (place / "trapped").mkdir(exist_ok=True)
    (place / "trapped" / "code.py").write_text("")
    sys.path.append(folder)
    torch.set_num_threads(1)
    with open("/proc/self/statm", encoding="ascii") as file:
        most = int(file.read().split()[0]) * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    print(json.dumps(run(place, int(count), int(seed), names, place / "log")))


if __name__ == "__main__":
    main()
