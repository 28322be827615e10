"""Hashes of the audio of utterances, and fingerprints of corpora."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from builders.csv_tables import write_csv

from serein import corpora
from serein.corpora import synthetic, table
from serein.errors import CorpusError
from serein.records import Corpus, Utterance
from serein.synthetic import SyntheticConfig, generate
from serein.utils import file_hashes


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    generate(root, SyntheticConfig(speakers=2, emotions=("anger", "fear"), sentences=1, words=1))
    return root


def corpus_of(module: ModuleType, root: Path) -> Corpus:
    return Corpus(name="it", utterances=tuple(module.read(root)))


def test_hash_contents_differs_between_recordings(folder: Path) -> None:
    shutil.copy(folder / "a.wav", folder / "copy.wav")
    soundfile.write(folder / "c.wav", np.full(160, 0.2), 16_000)
    path = write_csv(folder, "id,file,end\na,a.wav,\nb,copy.wav,\nc,c.wav,\nd,a.wav,0.005\n")
    hashes = corpora.hash_contents(table.read(path))
    assert hashes["a"] == hashes["b"]
    assert len(set(hashes.values())) == 3


def test_hash_contents_reads_each_file_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    hashed = file_hashes._hash_file

    def counted(file: str) -> bytes:
        opened.append(file)
        return hashed(file)

    monkeypatch.setattr(file_hashes, "_hash_file", counted)
    path = write_csv(folder, "file,start,end\na.wav,0,1\na.wav,1,2\nc.wav,0,1\n")
    assert len(corpora.hash_contents(table.read(path))) == 3
    assert opened == [str(folder / "a.wav"), str(folder / "c.wav")]


def test_hash_contents_error_names_the_missing_file(folder: Path) -> None:
    utterances = table.read(write_csv(folder, "file\na.wav\n"))
    (folder / "a.wav").unlink()
    with pytest.raises(CorpusError, match=r"a\.wav cannot be read: No such file"):
        corpora.hash_contents(utterances)


def test_fingerprint_changes_only_with_labels_and_samples(made: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    first = corpora.fingerprint(corpus_of(synthetic, made))
    assert re.fullmatch("[0-9a-f]{16}", first)
    assert corpora.fingerprint(corpus_of(synthetic, copy)) == first
    labels = (copy / "labels.csv").read_text()
    (copy / "labels.csv").write_text(labels.replace(",fear,", ",dread,", 1))
    assert corpora.fingerprint(corpus_of(synthetic, copy)) != first
    (copy / "labels.csv").write_text(labels.replace(",female,", ",male,", 1))
    assert corpora.fingerprint(corpus_of(synthetic, copy)) != first
    (copy / "labels.csv").write_text(labels)
    recording = next((copy / "wav").iterdir())
    recording.write_bytes(recording.read_bytes()[:-2] + b"\x01\x00")
    assert corpora.fingerprint(corpus_of(synthetic, copy)) != first


@pytest.mark.parametrize(
    "count", [0, 1, corpora.UTTERANCES_PER_UPDATE, 2 * corpora.UTTERANCES_PER_UPDATE + 1]
)
def test_fingerprint_does_not_depend_on_the_batch_size(count: int) -> None:
    utterances = tuple(
        Utterance(id=f"u{number:05}", path=Path("none.wav"), labels={"emotion": "é", "text": "a"})
        for number in range(count)
    )
    heard = {"another": "", **dict.fromkeys([one.id for one in utterances], "00")}
    names = ("corpus", "dialogue", "gender", "language", "session", "speaker", "text")
    said = [
        [one.id, "00", [["emotion", "é"], ["text", "a"]], [one.label(name) for name in names]]
        for one in utterances
    ]
    text = json.dumps(said) if said else "]"
    wanted = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert corpora.fingerprint(Corpus(name="it", utterances=utterances), heard) == wanted
