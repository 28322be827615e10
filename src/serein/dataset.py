"""Utterances to padded batches; the feature cache.

A corpus is read and transformed once. Its frames lie end to end in one file under the cache
folder, named by a hash of the audio's content and the front end's settings, and are read through
memory maps that processes share. Entries appear whole: two processes that write the same one
leave the same one.

B = batch, T = frames, F = bins.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import mkdtemp
from typing import BinaryIO

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from serein import audio, find
from serein.contracts import FrontEnd
from serein.errors import AudioError, StorageError
from serein.features.normalise import moments
from serein.files import cache_folder
from serein.records import Utterance


@dataclass(frozen=True)
class Frames:
    """The frames of many utterances.

    Attributes:
        x_nf: (N, F), all of them end to end, in the order of the index.
        index: for each utterance id, its first row and the one after its last.
    """

    x_nf: np.ndarray
    index: Mapping[str, tuple[int, int]]

    def __getitem__(self, id_: str) -> np.ndarray:
        """(T, F) frames of one utterance."""
        start, end = self.index[id_]
        return self.x_nf[start:end]

    def length(self, id_: str) -> int:
        """How many frames an utterance has."""
        start, end = self.index[id_]
        return end - start

    def batch(self, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F), zeros behind each utterance's end, and their mask (B, T)."""
        length_b = torch.tensor([self.length(id_) for id_ in ids])
        x_btf = torch.zeros(len(ids), int(length_b.max()), self.x_nf.shape[1])
        for x_tf, id_ in zip(x_btf, ids, strict=True):
            x_tf[: self.length(id_)] = torch.from_numpy(self[id_])
        return x_btf, torch.arange(x_btf.shape[1]) < length_b[:, None]


def standardised(frames: Frames, groups: Mapping[str, str]) -> Frames:
    """The same frames, each group's by the mean and deviation of its own; a copy in memory.

    Args:
        frames: of many utterances.
        groups: for each utterance id, the group that it belongs to, such as its speaker.
    """
    x_nf = np.array(frames.x_nf)
    copy = Frames(x_nf, frames.index)
    for group in sorted(set(groups.values())):
        members = [id_ for id_ in frames.index if groups[id_] == group]
        mean_f, deviation_f = moments(copy[id_] for id_ in members)
        for id_ in members:
            copy[id_][:] = (copy[id_] - mean_f) / deviation_f
    return copy


def extract(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    contents: Mapping[str, str],
    folder: Path | None = None,
) -> Frames:
    """Give every utterance's frames, from the cache where they are there.

    Args:
        utterances: what to read.
        front_end: what makes frames of a waveform.
        contents: for each id, a hash of its audio and the stretch that it covers.
        folder: the cache; the user's own where None.

    Raises:
        AudioError: some recordings cannot be read: how many, and the first five.
        StorageError: the cache cannot be written.
    """
    entry = (folder or cache_folder()) / _key(utterances, front_end, contents)
    if not _whole(entry, len(utterances)):
        _fill(entry, utterances, front_end)
    ends = np.load(entry / "ends.npy").tolist()
    x_nf = np.load(entry / "frames.npy", mmap_mode="c")
    spans = zip([0, *ends[:-1]], ends, strict=True)
    return Frames(x_nf, {u.id: span for u, span in zip(utterances, spans, strict=True)})


def _fill(entry: Path, utterances: Sequence[Utterance], front_end: FrontEnd) -> None:
    """Make an entry; of several processes one does, and the others wait for it."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            if not _whole(entry, len(utterances)):
                shutil.rmtree(entry, ignore_errors=True)
                _write(entry, _heard(utterances, front_end), front_end.width)
    except OSError as error:
        raise StorageError(
            f"could not write the feature cache {entry.parent}: {error.strerror or error}; "
            "free some space or set SEREIN_CACHE to a folder with room"
        ) from error


def _whole(entry: Path, utterances: int) -> bool:
    """Whether an entry is there and holds what it says; a damaged one is made anew."""
    try:
        ends = np.load(entry / "ends.npy")
        rows = np.load(entry / "frames.npy", mmap_mode="r").shape[0]
    except (OSError, ValueError, EOFError):
        return False
    return len(ends) == utterances and rows == ends[-1]


def _key(utterances: Sequence[Utterance], front_end: FrontEnd, contents: Mapping[str, str]) -> str:
    module = sys.modules[type(front_end).__module__]
    sources = [find.HOUSE / "audio", Path(str(module.__file__))]
    settings = [find.digest(sources), module.__name__, asdict(front_end.config), torch.__version__]
    settings += [f"{name} {version(name)}" for name in getattr(module, "PACKAGES", ())]
    audio_ = [contents[utterance.id] for utterance in utterances]
    return hashlib.sha256(json.dumps([settings, audio_]).encode()).hexdigest()[:32]


def _heard(utterances: Sequence[Utterance], front_end: FrontEnd) -> Iterator[np.ndarray]:
    """(T, F) for each utterance; all that cannot be read are told of together."""
    faults = []
    for utterance in utterances:
        try:
            wave_s = audio.load(
                utterance.path, front_end.rate, start=utterance.start, end=utterance.end
            )
        except AudioError as error:
            faults.append(str(error))
            continue
        try:
            x_tf = frames_of(wave_s, front_end)
        except AudioError as error:
            faults.append(f"{utterance.path}: {error}")
            continue
        yield x_tf
    if faults:
        listing = "; ".join(faults[:5]) + ("; ..." if len(faults) > 5 else "")
        raise AudioError(f"{len(faults)} of {len(utterances)} recordings cannot be read: {listing}")


def seconds_of(utterance: Utterance) -> float:
    """How long an utterance is."""
    end = audio.duration(utterance.path) if utterance.end is None else utterance.end
    return end - utterance.start


def frames_of(wave_s: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """One waveform (S,) -> its frames (T, F)."""
    with torch.inference_mode():
        x_btf, _ = front_end(torch.from_numpy(wave_s)[None], torch.tensor([len(wave_s)]))
    return x_btf[0].numpy()


def _write(entry: Path, frames: Iterator[np.ndarray], width: int) -> None:
    temporary = Path(mkdtemp(dir=entry.parent, prefix=f".{entry.name}."))
    try:
        ends = _stream(temporary / "frames.npy", frames, width)
        np.save(temporary / "ends.npy", np.array(ends))
        temporary.rename(entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _stream(path: Path, frames: Iterator[np.ndarray], width: int) -> list[int]:
    """Write frames as they come, as one .npy of (N, width); return each utterance's end."""
    ends: list[int] = []
    with path.open("wb") as file:
        _header(file, 0, width)
        for x_tf in frames:
            file.write(x_tf.astype("<f4").tobytes())
            ends.append((ends[-1] if ends else 0) + len(x_tf))
        file.seek(0)
        _header(file, ends[-1], width)
    return ends


def _header(file: BinaryIO, rows: int, width: int) -> None:
    """A .npy header; numpy leaves room in it for the row count to grow."""
    facts = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, facts)


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        ids: of its utterances.
        inputs: what the model receives.
        targets: (B,) class numbers, or values, for each task.
    """

    ids: list[str]
    inputs: dict[str, tuple[Tensor, Tensor]]
    targets: dict[str, Tensor]


@dataclass(frozen=True)
class Side:
    """One side of a fold, ready to be cut into batches.

    Attributes:
        ids: of its utterances.
        frames: where their frames are.
        targets: (n,) class numbers, or values, for each task, in the order of ``ids``.
    """

    ids: tuple[str, ...]
    frames: Frames
    targets: dict[str, Tensor]

    def batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        """Cut into batches, in the order given."""
        places = list(range(len(self.ids))) if order is None else list(order)
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            ids = [self.ids[place] for place in chosen]
            targets = {name: target[chosen] for name, target in self.targets.items()}
            yield Batch(ids, {"frames": self.frames.batch(ids)}, targets)

    def shuffled(self, size: int, bucket: int, seed: int) -> list[int]:
        """A random order; within every ``bucket`` batches, utterances of like length meet."""
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(self.ids))
        if bucket == 1:
            return order.tolist()
        length = np.array([self.frames.length(id_) for id_ in self.ids])
        pools = [order[i : i + size * bucket] for i in range(0, len(order), size * bucket)]
        batches = []
        for pool in pools:
            ranked = pool[np.argsort(length[pool], kind="stable")]
            batches += [ranked[i : i + size] for i in range(0, len(ranked), size)]
        # A short batch goes last: elsewhere, all batches after it would be cut at other places.
        short = [batches.pop()] if len(batches[-1]) < size else []
        generator.shuffle(batches)
        return np.concatenate([*batches, *short]).tolist()
