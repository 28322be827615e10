"""Frames and their cache, batches, and the order of utterances."""

import multiprocessing
import resource
import shutil
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from builders.small_systems import CLASSES, random_frames, random_subset, small_recipe
from hypothesis import given, settings
from hypothesis import strategies as st

from serein import audio, corpora
from serein.errors import AudioError, StorageError
from serein.features.logmel import Config, FrontEnd
from serein.records import Corpus, Utterance
from serein.system import System
from serein.training.dataset import Frames, compute_frames, extract_frames, open_frames
from serein.utils.files import cache_folder

FRONT_END = FrontEnd(Config(bands=8, window=400, deltas=0))


@pytest.fixture
def utterances(corpus: Corpus) -> list[Utterance]:
    return list(corpus.utterances[::4])


def extract(utterances: list[Utterance], front_end: FrontEnd = FRONT_END) -> Frames:
    return extract_frames(utterances, front_end, corpora.hash_contents(utterances))


def entries() -> list[Path]:
    """Return the entries of the cache."""
    return sorted(e for e in cache_folder().glob("*") if e.is_dir())


def assert_equal(one: Frames, other: Frames) -> None:
    assert one.index == other.index
    assert np.array_equal(one.x_nf, other.x_nf)


@contextmanager
def forbid_reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let any reading of audio fail."""

    def load(*_: Any, **__: Any) -> None:
        raise AssertionError("audio was read")

    with monkeypatch.context() as patch:
        patch.setattr(audio, "load", load)
        yield


def test_extract_frames_equals_the_front_end(
    utterances: list[Utterance],
) -> None:
    frames = extract(utterances)
    assert list(frames.index) == [one.id for one in utterances]
    assert frames.x_nf.dtype == np.float32
    for one in utterances:
        wanted = compute_frames(audio.load(one.path), FRONT_END)
        assert np.array_equal(frames[one.id], wanted)
        assert frames.length(one.id) == len(wanted)
    assert len(frames.x_nf) == sum(frames.length(one.id) for one in utterances)


def test_extract_frames_of_a_part_of_a_file(utterances: list[Utterance]) -> None:
    part = replace(utterances[0], id="part", start=0.1, end=0.4)
    frames = extract([utterances[0], part])
    wanted = compute_frames(audio.load(part.path, start=0.1, end=0.4), FRONT_END)
    assert np.array_equal(frames["part"], wanted)
    assert frames.length("part") == 13


def test_cached_recordings_are_not_read_again(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract(utterances)
    with forbid_reading(monkeypatch):
        assert_equal(extract(utterances), first)
        with pytest.raises(AssertionError, match="audio was read"):
            extract(utterances[1:])
    assert len(entries()) == 1


def test_the_cache_does_not_depend_on_paths(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract(utterances)
    moved = [replace(one, path=tmp_path / one.path.name) for one in utterances]
    for one, other in zip(utterances, moved, strict=True):
        shutil.copy(one.path, other.path)
    with forbid_reading(monkeypatch):
        assert_equal(extract(moved), first)


@pytest.mark.parametrize(
    "change",
    [{"bands": 9}, {"hop": 401}, {"window": 401}, {"deltas": 1}, {"seconds": 0.5}, {"rate": 8000}],
    ids=str,
)
def test_other_settings_have_another_cache_entry(
    utterances: list[Utterance], change: dict[str, Any]
) -> None:
    extract(utterances[:1])
    extract(utterances[:1], FrontEnd(replace(FRONT_END.config, **change)))
    assert len(entries()) == 2


def test_another_recording_of_the_same_name_has_another_cache_entry(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    one = replace(utterances[0], path=tmp_path / "a.wav")
    shutil.copy(utterances[0].path, one.path)
    first = extract([one])[one.id].copy()
    shutil.copy(utterances[1].path, one.path)
    second = extract([one])[one.id]
    assert first.shape != second.shape or not np.array_equal(first, second)
    assert np.array_equal(second, compute_frames(audio.load(utterances[1].path), FRONT_END))


def test_the_cache_folder_can_be_chosen(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEREIN_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    extract(utterances[:1])
    assert len(entries()) == 1
    extract_frames(
        utterances[:1], FRONT_END, corpora.hash_contents(utterances[:1]), tmp_path / "there"
    )
    assert len([e for e in (tmp_path / "there").iterdir() if e.is_dir()]) == 1
    monkeypatch.delenv("SEREIN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert cache_folder().name == "serein"


def test_frames_can_be_changed_without_changing_the_cache(utterances: list[Utterance]) -> None:
    frames = extract(utterances)
    before = frames.x_nf.copy()
    frames.x_nf[:] = 0
    assert np.array_equal(extract(utterances).x_nf, before)


# Damage


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("frames.npy", None),
        ("ends.npy", None),
        ("frames.npy", b""),
        ("ends.npy", b""),
        ("frames.npy", 0.5),
        ("ends.npy", 0.9),
        ("frames.npy", b"no array"),
        ("ends.npy", b"no array"),
        ("frames.npy", bytes(500)),
    ],
    ids=str,
)
def test_a_damaged_entry_is_replaced(
    utterances: list[Utterance], name: str, content: bytes | float | None
) -> None:
    first = extract(utterances)
    wanted = Frames(first.x_nf.copy(), first.index)
    (entry,) = entries()
    whole = (entry / name).read_bytes()
    (entry / name).unlink()
    if isinstance(content, float):
        (entry / name).write_bytes(whole[: int(len(whole) * content)])
    elif content is not None:
        (entry / name).write_bytes(content)
    assert_equal(extract(utterances), wanted)
    assert entries() == [entry]
    assert (entry / name).read_bytes() == whole


def test_an_entry_of_fewer_utterances_is_replaced(utterances: list[Utterance]) -> None:
    wanted = extract(utterances)
    (entry,) = entries()
    np.save(entry / "ends.npy", np.load(entry / "ends.npy")[:-1])
    assert_equal(extract(utterances), wanted)


def test_one_error_names_all_unreadable_recordings(
    utterances: list[Utterance], tmp_path: Path
) -> None:
    files = {"text.wav": b"no audio here, just words", "none.wav": b"", "cut.wav": b"RIFF\0\0\0\0"}
    bad = []
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
        bad.append(Utterance(id=name, path=tmp_path / name))
    mixed = [utterances[0], bad[0], utterances[1], *bad[1:]]
    with pytest.raises(AudioError, match="3 of 5 recordings cannot be read") as caught:
        extract(mixed)
    assert all(str(tmp_path / name) in str(caught.value) for name in files)
    assert utterances[0].path.name not in str(caught.value)
    assert entries() == []


def test_the_error_names_five_of_many_unreadable_recordings(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"nothing")
    bad = [Utterance(id=f"{n}", path=tmp_path / "a.wav") for n in range(9)]
    with pytest.raises(AudioError, match="9 of 9 recordings") as caught:
        extract(bad)
    assert str(caught.value).count(str(tmp_path)) == 5
    assert str(caught.value).endswith("; ...")


def test_a_full_disk_is_an_error_and_leaves_no_entry(utterances: list[Utterance]) -> None:
    content_hashes = corpora.hash_contents(utterances)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(StorageError, match=r"feature cache .*File too large.*SEREIN_CACHE"):
            extract_frames(utterances, FRONT_END, content_hashes)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert entries() == []
    extract(utterances)
    assert len(entries()) == 1


def test_a_cache_that_cannot_be_created_is_an_error(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SEREIN_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="could not write the feature cache"):
        extract(utterances)


def test_frames_that_are_read_once_are_not_kept(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = corpora.hash_contents(utterances)
    with open_frames(utterances, FRONT_END, hashes) as frames:
        once = Frames(np.array(frames.x_nf), frames.index)
    assert entries() == []
    with (
        pytest.raises(RuntimeError, match="no more"),
        open_frames(utterances, FRONT_END, hashes),
    ):
        raise RuntimeError("no more")
    assert entries() == []
    assert_equal(extract(utterances), once)
    with forbid_reading(monkeypatch), open_frames(utterances, FRONT_END, hashes) as frames:
        assert_equal(frames, once)
    assert len(entries()) == 1, "what was there stays"


# Several processes


BARRIER: dict[str, Any] = {}


def _init_worker(barrier: Any) -> None:
    BARRIER["both"] = barrier


def _extract(utterances: list[Utterance]) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    front_end, content_hashes = FrontEnd(FRONT_END.config), corpora.hash_contents(utterances)
    BARRIER["both"].wait(60)
    frames = extract_frames(utterances, front_end, content_hashes)
    return np.array(frames.x_nf), dict(frames.index)


def test_two_processes_create_one_entry(corpus: Corpus) -> None:
    utterances = list(corpus.utterances)
    context = multiprocessing.get_context("spawn")
    arguments = (context.Barrier(2),)
    with ProcessPoolExecutor(2, context, _init_worker, arguments) as pool:
        futures = [pool.submit(_extract, utterances) for _ in range(2)]
        both = [future.result(90) for future in futures]
    assert len(entries()) == 1
    assert not entries()[0].name.startswith(".")
    whole = extract(utterances)
    assert len(entries()) == 1
    for x_nf, index in both:
        assert np.array_equal(x_nf, whole.x_nf)
        assert index == whole.index


# Batches


def test_pad_batch_pads_with_zeros() -> None:
    frames = random_frames([3, 5, 1], width=2)
    x_btf, mask_bt = frames.pad_batch(["u002", "u000"])
    assert x_btf.shape == (2, 3, 2)
    assert mask_bt.tolist() == [[True, False, False], [True, True, True]]
    assert (x_btf[~mask_bt] == 0).all()
    assert np.array_equal(x_btf[1].numpy(), frames["u000"])
    assert np.array_equal(x_btf[0, :1].numpy(), frames["u002"])


@given(
    st.integers(1, 50),
    st.integers(1, 12),
    st.integers(1, 6),
    st.integers(0, 2**32 - 1),
)
@settings(max_examples=60)
def test_every_utterance_is_in_one_batch_of_an_epoch(
    count: int, size: int, bucket: int, seed: int
) -> None:
    subset = random_subset([1 + (7 * n) % 11 for n in range(count)], width=1)
    order = subset.shuffled_order(size, bucket, seed)
    assert sorted(order) == list(range(count))
    batches = list(subset.iter_batches(size, order))
    assert [len(batch.ids) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert sorted(id_ for batch in batches for id_ in batch.ids) == sorted(subset.ids)
    for batch in batches:
        indices = [subset.ids.index(id_) for id_ in batch.ids]
        for task, target in batch.targets.items():
            assert target.tolist() == subset.targets[task][indices].tolist()
        x_btf, mask_bt = batch.inputs["frames"]
        for b, id_ in enumerate(batch.ids):
            assert np.array_equal(x_btf[b, mask_bt[b]].numpy(), subset.frames[id_])


def test_batches_without_order_follow_the_subset() -> None:
    subset = random_subset([2, 3, 4, 5, 6], width=1)
    assert [batch.ids for batch in subset.iter_batches(2)] == [
        ["u000", "u001"],
        ["u002", "u003"],
        ["u004"],
    ]


@pytest.mark.parametrize("bucket", [1, 3])
def test_shuffled_order_depends_only_on_the_seed(bucket: int) -> None:
    subset = random_subset(list(range(1, 41)), width=1)
    one = subset.shuffled_order(4, bucket, 7)
    np.random.default_rng().random(3)
    torch.manual_seed(5)
    assert subset.shuffled_order(4, bucket, 7) == one
    assert subset.shuffled_order(4, bucket, 8) != one


@pytest.mark.parametrize("count", [40, 42, 43])
@pytest.mark.parametrize("seed", range(5))
def test_one_bucket_sorts_the_whole_subset(count: int, seed: int) -> None:
    """The batches are those of the subset sorted by length, in random order."""
    lengths = np.random.default_rng(seed).permutation(np.arange(1, count + 1)).tolist()
    subset = random_subset(lengths, width=1)
    batches = list(subset.iter_batches(4, subset.shuffled_order(4, 100, seed)))
    spans = [sorted(subset.frames.length(id_) for id_ in batch.ids) for batch in batches]
    ranked = list(range(1, count + 1))
    assert sorted(spans) == [ranked[i : i + 4] for i in range(0, count, 4)]
    assert spans != sorted(spans)


def test_buckets_reduce_padding() -> None:
    lengths = np.random.default_rng(0).integers(1, 300, 203).tolist()
    subset = random_subset(lengths, width=1)

    def padding(bucket: int) -> int:
        batches = subset.iter_batches(10, subset.shuffled_order(10, bucket, 0))
        return sum(int((~batch.inputs["frames"][1]).sum()) for batch in batches)

    assert padding(5) < 0.5 * padding(1)
    assert padding(100) < 0.2 * padding(1)


def test_targets_of_a_system(corpus: Corpus) -> None:
    system = System(small_recipe(), CLASSES)
    utterances = list(corpus.utterances[:3])
    targets = system.targets([*utterances, replace(utterances[0], labels={}, gender=None)])
    wanted = [CLASSES["emotion"].index(str(one.labels["emotion"])) for one in utterances]
    assert targets["emotion"].tolist() == [*wanted, -1]
    assert targets["gender"].tolist()[-1] == -1
