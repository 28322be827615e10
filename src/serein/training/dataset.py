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

from serein import audio, registry
from serein.augment.offline import OfflineAugmentation
from serein.errors import AudioError, StorageError
from serein.features.normalization import moments
from serein.interfaces import FrontEnd
from serein.records import Utterance
from serein.utils.files import cache_folder


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

    def pad_batch(self, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Frames (B, T, F), zeros behind each utterance's end, and their mask (B, T)."""
        return pad_frames([self[id_] for id_ in ids])


def pad_frames(frames: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """(T, F) of each utterance -> (B, T, F), zeros behind each one's end, and their mask (B, T)."""
    length_b = torch.tensor([len(x_tf) for x_tf in frames])
    x_btf = torch.zeros(len(frames), int(length_b.max()), frames[0].shape[1])
    for row_tf, x_tf in zip(x_btf, frames, strict=True):
        row_tf[: len(x_tf)] = torch.from_numpy(x_tf)
    return x_btf, torch.arange(x_btf.shape[1]) < length_b[:, None]


def standardize_by_group(frames: Frames, groups: Mapping[str, str]) -> Frames:
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


def extract_frames(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    contents: Mapping[str, str],
    folder: Path | None = None,
    augmentation: OfflineAugmentation | None = None,
) -> Frames:
    """Give every utterance's frames, from the cache where they are there.

    Args:
        utterances: what to read.
        front_end: what makes frames of a waveform.
        contents: for each id, a hash of its audio and the stretch that it covers.
        folder: the cache; the user's own where None.
        augmentation: what is made of each recording before the front end hears it; None leaves it.

    Raises:
        AudioError: some recordings cannot be read: how many, and the first five.
        StorageError: the cache cannot be written.
    """
    entry = (folder or cache_folder()) / _cache_key(utterances, front_end, contents, augmentation)
    if not _is_complete(entry, len(utterances)):
        _create_entry(entry, utterances, front_end, augmentation)
    ends = np.load(entry / "ends.npy").tolist()
    x_nf = np.load(entry / "frames.npy", mmap_mode="c")
    spans = zip([0, *ends[:-1]], ends, strict=True)
    return Frames(x_nf, {u.id: span for u, span in zip(utterances, spans, strict=True)})


def is_cached(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    contents: Mapping[str, str],
    folder: Path | None = None,
    augmentation: OfflineAugmentation | None = None,
) -> bool:
    """Whether ``extract`` would find these frames in the cache."""
    entry = (folder or cache_folder()) / _cache_key(utterances, front_end, contents, augmentation)
    return _is_complete(entry, len(utterances))


def _create_entry(
    entry: Path,
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    augmentation: OfflineAugmentation | None,
) -> None:
    """Make an entry; of several processes one does, and the others wait for it."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            if not _is_complete(entry, len(utterances)):
                shutil.rmtree(entry, ignore_errors=True)
                _write_entry(
                    entry, _iter_frames(utterances, front_end, augmentation), front_end.width
                )
    except OSError as error:
        raise StorageError(
            f"could not write the feature cache {entry.parent}: {error.strerror or error}; "
            "free some space or set SEREIN_CACHE to a folder with room"
        ) from error


def _is_complete(entry: Path, utterances: int) -> bool:
    """Whether an entry is there and holds what it says; a damaged one is made anew."""
    try:
        ends = np.load(entry / "ends.npy")
        rows = np.load(entry / "frames.npy", mmap_mode="r").shape[0]
    except (OSError, ValueError, EOFError):
        return False
    return len(ends) == utterances and rows == ends[-1]


def _cache_key(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    contents: Mapping[str, str],
    augmentation: OfflineAugmentation | None,
) -> str:
    module = sys.modules[type(front_end).__module__]
    sources = [registry.PACKAGE_ROOT / "audio", Path(str(module.__file__))]
    sources += [registry.PACKAGE_ROOT / place for place in getattr(module, "SOURCES", ())]
    settings = [
        registry.hash_sources(sources),
        module.__name__,
        asdict(front_end.config),
        torch.__version__,
    ]
    settings += [f"{name} {version(name)}" for name in getattr(module, "PACKAGES", ())]
    facts = [settings, [contents[utterance.id] for utterance in utterances]]
    # A copy is drawn by the name of its utterance; frames of the recording itself have none.
    facts += (
        [augmentation.cache_key, [utterance.id for utterance in utterances]] if augmentation else []
    )
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _iter_frames(
    utterances: Sequence[Utterance], front_end: FrontEnd, augmentation: OfflineAugmentation | None
) -> Iterator[np.ndarray]:
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
            x_tf = compute_frames(
                augmentation(wave_s, utterance.id) if augmentation else wave_s, front_end
            )
        except AudioError as error:
            faults.append(f"{utterance.path}: {error}")
            continue
        yield x_tf
    if faults:
        listing = "; ".join(faults[:5]) + ("; ..." if len(faults) > 5 else "")
        raise AudioError(f"{len(faults)} of {len(utterances)} recordings cannot be read: {listing}")


def compute_frames(wave_s: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """One waveform (S,) -> its frames (T, F)."""
    with torch.inference_mode():
        x_btf, _ = front_end(torch.from_numpy(wave_s)[None], torch.tensor([len(wave_s)]))
    return x_btf[0].numpy()


def _write_entry(entry: Path, frames: Iterator[np.ndarray], width: int) -> None:
    temporary = Path(mkdtemp(dir=entry.parent, prefix=f".{entry.name}."))
    try:
        ends = _write_frames(temporary / "frames.npy", frames, width)
        np.save(temporary / "ends.npy", np.array(ends))
        temporary.rename(entry)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_frames(path: Path, frames: Iterator[np.ndarray], width: int) -> list[int]:
    """Write frames as they come, as one .npy of (N, width); return each utterance's end."""
    ends: list[int] = []
    with path.open("wb") as file:
        _write_header(file, 0, width)
        for x_tf in frames:
            file.write(x_tf.astype("<f4").tobytes())
            ends.append((ends[-1] if ends else 0) + len(x_tf))
        file.seek(0)
        _write_header(file, ends[-1], width)
    return ends


def _write_header(file: BinaryIO, rows: int, width: int) -> None:
    """A .npy header; numpy leaves room in it for the row count to grow."""
    facts = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, facts)


@dataclass(frozen=True)
class Batch:
    """What one step sees.

    Attributes:
        ids: of its utterances.
        inputs: what the model receives.
        targets: (B,) class numbers, or values, for each task; (B, L) of words.
    """

    ids: list[str]
    inputs: dict[str, tuple[Tensor, Tensor]]
    targets: dict[str, Tensor]


def trim_padding(target_nl: Tensor) -> Tensor:
    """Of words no more than the longest row has."""
    if target_nl.dim() == 1 or not target_nl.numel():
        return target_nl
    return target_nl[:, : int((target_nl >= 0).sum(dim=1).max())]


@dataclass(frozen=True)
class Subset:
    """One side of a fold, ready to be cut into batches.

    Attributes:
        ids: of its utterances.
        frames: where their frames are.
        targets: (n,) class numbers, or values, for each task, in the order of ``ids``; (n, L) of
            words, -1 behind the end.
        words: (n, L) numbers of the words that a model may read, -1 behind each end.
    """

    ids: tuple[str, ...]
    frames: Frames
    targets: dict[str, Tensor]
    words: Tensor | None = None

    def draw_epoch(self, seed: int) -> "Subset":
        """What one epoch hears; a side that nothing varies is the same in every epoch."""
        return self

    def frames_at(self, place: int) -> np.ndarray:
        """(T, F) frames of the utterance at a place."""
        return self.frames[self.ids[place]]

    def length(self, place: int) -> int:
        """T of the utterance at a place."""
        return self.frames.length(self.ids[place])

    def iter_batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        """Cut into batches, in the order given."""
        places = list(range(len(self.ids))) if order is None else list(order)
        for start in range(0, len(places), size):
            chosen = places[start : start + size]
            ids = [self.ids[place] for place in chosen]
            targets = {name: trim_padding(target[chosen]) for name, target in self.targets.items()}
            inputs = {"frames": pad_frames([self.frames_at(place) for place in chosen])}
            if self.words is not None:
                id_bl = trim_padding(self.words[chosen])
                inputs["words"] = (id_bl.long().clamp(min=0), id_bl >= 0)
            yield Batch(ids, inputs, targets)

    def shuffled_order(self, size: int, bucket: int, seed: int) -> list[int]:
        """A random order; within every ``bucket`` batches, utterances of like length meet."""
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(self.ids))
        if bucket == 1:
            return order.tolist()
        length = np.array([self.length(place) for place in range(len(self.ids))])
        pools = [order[i : i + size * bucket] for i in range(0, len(order), size * bucket)]
        batches = []
        for pool in pools:
            ranked = pool[np.argsort(length[pool], kind="stable")]
            batches += [ranked[i : i + size] for i in range(0, len(ranked), size)]
        # A short batch goes last: elsewhere, all batches after it would be cut at other places.
        short = [batches.pop()] if len(batches[-1]) < size else []
        generator.shuffle(batches)
        return np.concatenate([*batches, *short]).tolist()
