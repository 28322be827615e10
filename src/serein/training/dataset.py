"""Subsets of a corpus as padded batches, and the cache of their frames.

The frames of a corpus are extracted once and cached: concatenated in one file of the cache folder,
which is named by a hash of the audio's content and the front end's settings. The file is read
through a memory map that processes share. Cache entries are created atomically.

B = batch, T = frames, F = bins, N = frames of all utterances, n = utterances of a subset,
S = samples, L = words.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
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
from serein.utils.cache import enforce_limit, mark_used, read_limit
from serein.utils.files import cache_folder

UtteranceCallback = Callable[[int, int], None]
"""Called with the number of finished utterances, and the total."""


def ignore_utterance(done: int, total: int) -> None:
    """Do nothing."""


@dataclass(frozen=True)
class Frames:
    """The frames of many utterances.

    Attributes:
        x_nf: (N, F), of all utterances, concatenated in the order of the index.
        index: for each utterance id, its first row and the row after its last one.
    """

    x_nf: np.ndarray
    index: Mapping[str, tuple[int, int]]

    def __getitem__(self, id_: str) -> np.ndarray:
        """Return the (T, F) frames of an utterance."""
        start, end = self.index[id_]
        return self.x_nf[start:end]

    def length(self, id_: str) -> int:
        """Return the number of frames of an utterance."""
        start, end = self.index[id_]
        return end - start

    def pad_batch(self, ids: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return the zero-padded frames (B, T, F) of utterances, and their mask (B, T)."""
        return pad_frames([self[id_] for id_ in ids])


def pad_frames(frames: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad frames (T, F) of different lengths with zeros; return (B, T, F) and the mask (B, T)."""
    length_b = torch.tensor([len(x_tf) for x_tf in frames])
    x_btf = torch.zeros(len(frames), int(length_b.max()), frames[0].shape[1])
    for row_tf, x_tf in zip(x_btf, frames, strict=True):
        row_tf[: len(x_tf)] = torch.from_numpy(x_tf)
    return x_btf, torch.arange(x_btf.shape[1]) < length_b[:, None]


def standardize_by_group(frames: Frames, groups: Mapping[str, str]) -> Frames:
    """Standardise frames by the mean and deviation of each group; return a copy in memory.

    Args:
        frames: of many utterances.
        groups: for each utterance id, its group, such as its speaker.
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
    content_hashes: Mapping[str, str],
    folder: Path | None = None,
    augmentation: OfflineAugmentation | None = None,
    on_utterance: UtteranceCallback = ignore_utterance,
) -> Frames:
    """Return the frames of all utterances, from the cache if they are there.

    Args:
        utterances: whose recordings are read.
        front_end: computes the frames of a waveform.
        content_hashes: for each id, a hash of the recording and of the utterance's start and end.
        folder: of the cache; None is the user's.
        augmentation: applied to each waveform first; None applies nothing.
        on_utterance: called after each utterance that is not in the cache.

    Raises:
        AudioError: some recordings cannot be read; the message counts them and names five.
        StorageError: the cache cannot be written.
        ConfigError: ``SEREIN_CACHE_LIMIT`` is no size.
    """
    entry = (folder or cache_folder()) / _cache_key(
        utterances, front_end, content_hashes, augmentation
    )
    if not _is_complete(entry, len(utterances)):
        limit = read_limit()
        _create_entry(entry, utterances, front_end, augmentation, on_utterance)
        enforce_limit(entry, limit)
    else:
        mark_used(entry)
    ends = np.load(entry / "ends.npy").tolist()
    x_nf = np.load(entry / "frames.npy", mmap_mode="c")
    spans = zip([0, *ends[:-1]], ends, strict=True)
    return Frames(x_nf, {u.id: span for u, span in zip(utterances, spans, strict=True)})


def is_cached(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    content_hashes: Mapping[str, str],
    folder: Path | None = None,
    augmentation: OfflineAugmentation | None = None,
) -> bool:
    """Return whether ``extract_frames`` with these arguments needs no extraction."""
    entry = (folder or cache_folder()) / _cache_key(
        utterances, front_end, content_hashes, augmentation
    )
    return _is_complete(entry, len(utterances))


@contextmanager
def open_frames(
    utterances: Sequence[Utterance], front_end: FrontEnd, content_hashes: Mapping[str, str]
) -> Iterator[Frames]:
    """Yield the frames of utterances that are read once; nothing is added to the cache.

    They come from the cache if they are there, else from a temporary folder in it, which is removed
    at the end. Arguments and errors are those of `extract_frames`.
    """
    if is_cached(utterances, front_end, content_hashes):
        yield extract_frames(utterances, front_end, content_hashes)
        return
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        folder = mkdtemp(dir=cache_folder(), prefix=".frames-")
    except OSError as error:
        raise _cache_error(cache_folder(), error) from error
    try:
        yield extract_frames(utterances, front_end, content_hashes, Path(folder))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _cache_error(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"could not write the feature cache {folder}: {error.strerror or error}; "
        "free some space or set SEREIN_CACHE to a folder with room"
    )


def _create_entry(
    entry: Path,
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    augmentation: OfflineAugmentation | None,
    on_utterance: UtteranceCallback,
) -> None:
    """Create a cache entry; of several processes, one writes it and the others wait."""
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(entry.with_suffix(".lock")):
            if not _is_complete(entry, len(utterances)):
                shutil.rmtree(entry, ignore_errors=True)
                frames = _iter_frames(utterances, front_end, augmentation, on_utterance)
                _write_entry(entry, frames, front_end.width)
    except OSError as error:
        raise _cache_error(entry.parent, error) from error


def _is_complete(entry: Path, utterances: int) -> bool:
    """Return whether a cache entry exists and has the expected number of rows."""
    try:
        ends = np.load(entry / "ends.npy")
        rows = np.load(entry / "frames.npy", mmap_mode="r").shape[0]
    except (OSError, ValueError, EOFError):
        return False
    return len(ends) == utterances and rows == ends[-1]


def _cache_key(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    content_hashes: Mapping[str, str],
    augmentation: OfflineAugmentation | None,
) -> str:
    module = sys.modules[type(front_end).__module__]
    sources = [registry.PACKAGE_ROOT / "audio", Path(str(module.__file__))]
    sources += [registry.PACKAGE_ROOT / path for path in getattr(module, "SOURCES", ())]
    front_end_key = [
        registry.hash_sources(sources),
        module.__name__,
        asdict(front_end.config),
        torch.__version__,
    ]
    front_end_key += [f"{name} {version(name)}" for name in getattr(module, "PACKAGES", ())]
    if hasattr(module, "contents"):
        pinned = getattr(front_end, "pinned", {})
        settings = {"name": module.__name__, **asdict(front_end.config), **pinned}
        front_end_key.append(dict(module.contents(settings)))
    key = [front_end_key, [content_hashes[utterance.id] for utterance in utterances]]
    if augmentation:  # its random draws depend on the ids of the utterances
        key += [augmentation.cache_key, [utterance.id for utterance in utterances]]
    return hashlib.sha256(json.dumps(key).encode()).hexdigest()[:32]


def _iter_frames(
    utterances: Sequence[Utterance],
    front_end: FrontEnd,
    augmentation: OfflineAugmentation | None,
    on_utterance: UtteranceCallback,
) -> Iterator[np.ndarray]:
    """Yield the (T, F) frames of each utterance; report all unreadable recordings together."""
    errors = []
    for number, utterance in enumerate(utterances, 1):
        on_utterance(number - 1, len(utterances))
        try:
            wave_s = audio.load(
                utterance.path, front_end.rate, start=utterance.start, end=utterance.end
            )
        except AudioError as error:
            errors.append(str(error))
            continue
        try:
            if augmentation:
                wave_s = augmentation(wave_s, utterance.id)
            x_tf = compute_frames(wave_s, front_end)
        except AudioError as error:
            errors.append(f"{utterance.path}: {error}")
            continue
        yield x_tf
    on_utterance(len(utterances), len(utterances))
    if errors:
        listing = "; ".join(errors[:5]) + ("; ..." if len(errors) > 5 else "")
        raise AudioError(f"{len(errors)} of {len(utterances)} recordings cannot be read: {listing}")


def compute_frames(wave_s: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """Compute the frames (T, F) of one waveform (S,)."""
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
    """Write frames to one .npy file of shape (N, width); return the end row of each utterance."""
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
    """Write a .npy header; NumPy reserves space in it for a larger row count."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (rows, width)}
    np.lib.format.write_array_header_1_0(file, header)


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of several utterances.

    Attributes:
        ids: of the utterances.
        inputs: of the model: values and mask, by name.
        targets: for each task, (B,) class numbers or values, and for one that trains on votes their
            (B, K) distributions; (B, L) word ids of transcripts.
    """

    ids: list[str]
    inputs: dict[str, tuple[Tensor, Tensor]]
    targets: dict[str, Tensor]


def trim_padding(target_nl: Tensor) -> Tensor:
    """Remove columns that are padding in every row of word ids; other targets have none."""
    if target_nl.dim() == 1 or target_nl.is_floating_point() or not target_nl.numel():
        return target_nl
    return target_nl[:, : int((target_nl >= 0).sum(dim=1).max())]


@dataclass(frozen=True)
class Subset:
    """A subset of a corpus (train, validation, test) as batches.

    Attributes:
        ids: of the utterances.
        frames: of these and possibly other utterances.
        targets: for each task, (n,) class numbers or values in the order of ``ids``, and for one
            that trains on votes their (n, K) distributions; (n, L) word ids of transcripts, padded
            with -1.
        words: (n, L) word ids that the model takes as input, padded with -1; None without text.
    """

    ids: tuple[str, ...]
    frames: Frames
    targets: dict[str, Tensor]
    words: Tensor | None = None

    def draw_epoch(self, seed: int) -> "Subset":
        """Return the utterances of one epoch; without augmentation, the subset itself."""
        return self

    def frames_at(self, index: int) -> np.ndarray:
        """Return the (T, F) frames of the utterance at an index of ``ids``."""
        return self.frames[self.ids[index]]

    def length(self, index: int) -> int:
        """Return the number of frames of the utterance at an index of ``ids``."""
        return self.frames.length(self.ids[index])

    def iter_batches(self, size: int, order: Sequence[int] | None = None) -> Iterator[Batch]:
        """Yield batches of ``size`` utterances.

        Args:
            size: of each batch but the last.
            order: indices of utterances; None is the order of ``ids``.
        """
        indices = list(range(len(self.ids))) if order is None else list(order)
        for start in range(0, len(indices), size):
            batch = indices[start : start + size]
            ids = [self.ids[index] for index in batch]
            targets = {name: trim_padding(target[batch]) for name, target in self.targets.items()}
            inputs = {"frames": pad_frames([self.frames_at(index) for index in batch])}
            if self.words is not None:
                id_bl = trim_padding(self.words[batch])
                inputs["words"] = (id_bl.long().clamp(min=0), id_bl >= 0)
            yield Batch(ids, inputs, targets)

    def shuffled_order(self, size: int, bucket: int, seed: int) -> list[int]:
        """Return a random order of indices, with utterances of similar length in one batch.

        Args:
            size: of a batch.
            bucket: number of batches within which utterances are sorted by length; 1 sorts none.
            seed: of the order.
        """
        generator = np.random.default_rng(seed)
        order = generator.permutation(len(self.ids))
        if bucket == 1:
            return order.tolist()
        length = np.array([self.length(index) for index in range(len(self.ids))])
        pools = [order[i : i + size * bucket] for i in range(0, len(order), size * bucket)]
        batches = []
        for pool in pools:
            by_length = pool[np.argsort(length[pool], kind="stable")]
            batches += [by_length[i : i + size] for i in range(0, len(by_length), size)]
        # A short batch must be the last one: elsewhere, it would shift the start of later batches.
        short = [batches.pop()] if len(batches[-1]) < size else []
        generator.shuffle(batches)
        return np.concatenate([*batches, *short]).tolist()
