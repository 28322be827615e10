"""Failures of the environment: full and read-only disks, clock jumps, concurrent runs, links."""

import json
import os
import shutil
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from builders.audio_folders import small_recognizer, write_recordings
from builders.encoded_audio import encode
from builders.small_disk import fill_disk, mount_small_disk, remount
from builders.small_systems import QUICK, small_system

from serein import bundle, corpora, protocols, synthetic
from serein.bundle import Bundle, Card
from serein.errors import SereinError, StorageError
from serein.evaluation.evaluate import Run, evaluate
from serein.inference.folder import Listing
from serein.inference.onnx_export import to_onnx
from serein.protocols import SplitConfig
from serein.records import Corpus
from serein.report import html
from serein.results import io
from serein.service import config
from serein.service.decoding import DecoderProcess

Write = Callable[[Path, Corpus, Run], object]


def run_evaluation(corpus: Corpus, runs: Path, *, fresh: bool = False) -> Run:
    return evaluate(
        "li2019", corpus, settings=[*QUICK, "training.epochs=1"], runs=runs, fresh=fresh
    )


@pytest.fixture(scope="module")
def done(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_evaluation(corpus, tmp_path_factory.mktemp("runs"))


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mount_small_disk(tmp_path / "disk", 512) as place:
        yield place


def a_bundle(disk: Path, corpus: Corpus, done: Run) -> None:
    bundle.save(Bundle(small_system(), Card(name="small")), disk / "a.safetensors")


def an_export(disk: Path, corpus: Corpus, done: Run) -> None:
    pytest.importorskip("onnxscript")
    to_onnx(Bundle(small_system("features.pad=false").eval(), Card(name="small")), disk / "a.onnx")


def results(disk: Path, corpus: Corpus, done: Run) -> None:
    io.save_record(done.results, disk)


def a_page(disk: Path, corpus: Corpus, done: Run) -> None:
    html.write_page(done.results, disk)


def a_protocol(disk: Path, corpus: Corpus, done: Run) -> None:
    protocols.save(protocols.split(corpus.utterances, SplitConfig(validation=1)), disk / "a.json")


def a_run(disk: Path, corpus: Corpus, done: Run) -> None:
    run_evaluation(corpus, disk)


def a_cache(disk: Path, corpus: Corpus, done: Run) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEREIN_CACHE", str(disk / "cache"))
        run_evaluation(corpus, disk.parent / "runs")


def a_place(disk: Path, corpus: Corpus, done: Run) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEREIN_CONFIG", str(disk / "config"))
        corpora.register("synthetic", corpus.utterances[0].path.parents[1])


def a_corpus(disk: Path, corpus: Corpus, done: Run) -> None:
    synthetic.generate(
        disk, synthetic.SyntheticConfig(speakers=2, emotions=("anger",), sentences=1)
    )


def a_folder(disk: Path, corpus: Corpus, done: Run) -> None:
    voices = disk.parent / "voices"
    if not voices.exists():
        write_recordings(voices, 3)
    small_recognizer().folder(voices, disk / "out.parquet")


WRITERS = (
    *(a_bundle, an_export, results, a_page, a_protocol, a_run, a_cache, a_place, a_corpus),
    a_folder,
)


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_full_disk_is_one_error_and_leaves_no_files(
    write: Write, disk: Path, corpus: Corpus, done: Run
) -> None:
    ballast = fill_disk(disk)
    with pytest.raises(StorageError, match=r"No space left on device|could not"):
        write(disk, corpus, done)
    left = [path for path in disk.rglob("*") if path.is_file() and path.stat().st_size]
    assert left == [ballast]
    ballast.unlink()
    remount(disk, "size=16m")
    write(disk, corpus, done)  # works once there is room


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_read_only_disk_is_one_error(write: Write, disk: Path, corpus: Corpus, done: Run) -> None:
    remount(disk, "ro")
    with pytest.raises(StorageError, match=r"Read-only file system|could not"):
        write(disk, corpus, done)
    assert not list(disk.iterdir())


def test_finished_runs_can_be_read_from_a_full_or_read_only_disk(
    disk: Path, corpus: Corpus, done: Run
) -> None:
    remount(disk, "size=16m")
    voices = disk.parent / "voices"
    write_recordings(voices, 3)
    first = small_recognizer().folder(voices, disk / "out.parquet")
    run = run_evaluation(corpus, disk)
    remount(disk, "ro")
    with pytest.raises(SereinError, match="Read-only"):
        small_recognizer().folder(voices, disk / "out.parquet", retry=True)
    with pytest.raises(SereinError, match="Read-only"):
        run_evaluation(corpus, disk, fresh=True)
    remount(disk, "rw")
    assert not run_evaluation(corpus, disk).is_new
    again = small_recognizer().folder(voices, disk / "out.parquet")
    assert (again.recognized, again.done_before) == (first.recognized, 3)
    assert io.load_results(run.folder).scores == io.load_results(done.folder).scores


def test_clock_jumps_change_nothing(
    corpus: Corpus, done: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = count()

    def jumping() -> float:
        return 1.8e9 + (-1) ** next(ticks) * 1e6 * next(ticks)

    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: round(jumping() * 1e9))
    assert run_evaluation(corpus, tmp_path).results.scores == done.results.scores
    write_recordings(tmp_path / "voices", 3)
    summary = small_recognizer().folder(tmp_path / "voices", tmp_path / "out.csv")
    assert (summary.recognized, summary.failed) == (3, 0)
    assert 0 <= summary.elapsed < 300
    decoder = DecoderProcess(16_000, config.ServiceConfig(), lambda: None)
    try:
        assert len(decoder.decode(encode("flac"))) == 32_000
    finally:
        decoder.close()


def test_two_concurrent_evaluations_give_one_result(
    root: Path, corpus: Corpus, done: Run, tmp_path: Path
) -> None:
    words = ["evaluate", "li2019", "--corpus", f"synthetic={root}", "--runs", str(tmp_path)]
    words += [word for setting in (*QUICK, "training.epochs=1") for word in ("--set", setting)]
    command = [sys.executable, "-m", "serein", *words]
    both = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    told = [process.communicate(timeout=280)[1] for process in both]
    codes = [process.returncode for process in both]
    assert sorted(codes) in ([0, 0], [0, 1]), told
    for code, words_ in zip(codes, told, strict=True):
        assert code == 0 or "is in use by another evaluation; wait for it" in words_
    (folder,) = tmp_path.iterdir()
    assert io.load_results(folder).scores == io.load_results(done.folder).scores
    last = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Traceback" not in last.stderr


def test_circular_links_are_read_once(tmp_path: Path) -> None:
    names = write_recordings(tmp_path / "voices", 3)
    for place in ("a", "b"):
        (tmp_path / "voices" / place / "up").symlink_to(tmp_path / "voices")
        (tmp_path / "voices" / place / "self").symlink_to("self")
    (tmp_path / "voices" / "a" / "b").symlink_to(tmp_path / "voices" / "b")
    (tmp_path / "voices" / "b" / "a").symlink_to(tmp_path / "voices" / "a")
    (tmp_path / "voices" / "loop.wav").symlink_to("loop.wav")
    summary = small_recognizer().folder(tmp_path / "voices", tmp_path / "out.parquet")
    assert (summary.recognized, summary.failed) == (len(names), 1)
    assert list(summary.reasons) == ["loop.wav"]


@pytest.mark.parametrize(("folders", "most"), [(100, 0.5), (1, 8)])
def test_listing_many_files_needs_little_memory(tmp_path: Path, folders: int, most: float) -> None:
    files = 20_000
    for folder in range(folders):
        (tmp_path / f"{folder:03}").mkdir()
        for number in range(files // folders):
            os.mknod(tmp_path / f"{folder:03}" / f"{number:06}.wav")
    tracemalloc.start()
    try:
        assert sum(1 for _ in Listing(tmp_path)) == files
        megabytes = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert megabytes < most
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "[" * 100_000, '{"recognized": 1}'])
def test_damaged_summary_is_rewritten(content: str, tmp_path: Path) -> None:
    write_recordings(tmp_path / "voices", 3)
    recognise = small_recognizer().folder
    recognise(tmp_path / "voices", tmp_path / "out.csv")
    summary = tmp_path / "out.csv.run" / "summary.json"
    before = json.loads(summary.read_text())
    summary.write_text(content)
    assert recognise(tmp_path / "voices", tmp_path / "out.csv").recognized == 3
    assert json.loads(summary.read_text()) == before
