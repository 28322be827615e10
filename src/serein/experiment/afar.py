"""A fold on another machine: what is sent there, what it does, and what it tells.

The state of its training lies there in a folder of its own and comes back whenever it changes, so
that whoever takes the fold over goes on from it.
"""

import pickle
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import NamedTuple

from serein import corpora, system
from serein.errors import ConfigError, CorpusError, SereinError
from serein.evaluation.folds import run_fold
from serein.evaluation.plan import Plan
from serein.evaluation.provenance import package_versions
from serein.records import Fold
from serein.results.evaluation import Epoch
from serein.training.checkpoint import TrainingRun
from serein.training.dataset import is_cached
from serein.utils.files import write_bytes

UpdateQueue = SimpleQueue[Epoch | TrainingRun | BaseException]
STATE_POLL_SECONDS = 1.0
"""Seconds after which a state that has changed is sent, without the end of an epoch, too."""


class FoldUpdate(NamedTuple):
    """What a fold tells.

    Attributes:
        epoch: one that has ended, or that was done before.
        state: of the training, where it has changed.
        end: what came of the fold, or what is wrong with it wherever it is trained.
    """

    epoch: Epoch | None = None
    state: bytes | None = None
    outcome: TrainingRun | SereinError | None = None


def pack_plan(plan: Plan) -> bytes:
    """A plan as it is sent: its recordings by their whole paths, with what numbers depend on."""
    utterances = tuple(replace(u, path=u.path.absolute()) for u in plan.corpus.utterances)
    sent = replace(plan, corpus=replace(plan.corpus, utterances=utterances))
    return pickle.dumps((sent, collect_dependencies(plan)))


def collect_dependencies(plan: Plan) -> dict[str, str]:
    """What numbers depend on, as it is on this machine: versions, sources, precision."""
    own = {"source": system.hash_recipe_sources(plan.recipe), "precision": plan.precision}
    return package_versions() | system.collect_packages(plan.recipe) | own


def train_fold(content: bytes, fold: Fold, state: bytes | None) -> Iterator[FoldUpdate]:
    """Train a fold, and tell of it as it goes on; the last news are its end.

    Args:
        content: what ``packed`` gave.
        fold: of its plan.
        state: what an earlier training of the fold left.
    """
    todo, expected = pickle.loads(content)
    with TemporaryDirectory(prefix="serein-") as folder:
        here = replace(todo, folder=Path(folder))
        place = here.state(fold)
        if state is not None:
            write_bytes(place, state)
        told: UpdateQueue = SimpleQueue()
        known = _file_stamp(place)
        left = Event()
        thread = Thread(
            target=_train_in_thread, args=(here, expected, fold, told, left), daemon=True
        )
        thread.start()
        try:
            yield from _iter_updates(told, place, known)
        finally:
            left.set()
            thread.join()


class _Cancelled(BaseException):
    """Nobody listens any more."""


def _train_in_thread(
    plan: Plan, expected: dict[str, str], fold: Fold, updates: UpdateQueue, cancelled: Event
) -> None:
    def progress(name: str, epoch: Epoch) -> None:
        if cancelled.is_set():
            raise _Cancelled
        updates.put(epoch)

    try:
        _check_dependencies(plan, expected)
        _check_recordings(plan)
        updates.put(run_fold(plan, fold, progress))
    except BaseException as error:
        updates.put(error)


def _iter_updates(
    updates: UpdateQueue, state_path: Path, stamp: tuple[int, ...]
) -> Iterator[FoldUpdate]:
    while True:
        item: Epoch | TrainingRun | BaseException | None = None
        with suppress(Empty):
            item = updates.get(timeout=STATE_POLL_SECONDS)
        # The state is read after the news, and so never older than what they say.
        found = _file_stamp(state_path)
        state = state_path.read_bytes() if found != stamp else None
        stamp = found
        if isinstance(item, TrainingRun | SereinError):
            yield FoldUpdate(outcome=item, state=state)
            return
        if isinstance(item, BaseException):
            raise item
        if item is not None or state is not None:
            yield FoldUpdate(epoch=item, state=state)


def _file_stamp(path: Path) -> tuple[int, ...]:
    """What changes whenever the file is written."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check_dependencies(plan: Plan, expected: dict[str, str]) -> None:
    """Other versions would give other numbers under the run's name."""
    found = collect_dependencies(plan)
    for name, version in expected.items():
        if found.get(name) != version:
            raise ConfigError(
                f"{socket.gethostname()} has {name} {found.get(name)}, and the run began with "
                f"{version}; every machine of the cluster must have the same"
            )


def _check_recordings(plan: Plan) -> None:
    """The recordings must be those of the plan, unless their frames are in this machine's cache."""
    utterances = plan.corpus.utterances
    forms, front_end = (None, *plan.augmentations), plan.build_front_end()
    if all(is_cached(utterances, front_end, plan.contents, augmentation=form) for form in forms):
        return
    advice = (
        "every machine of the cluster needs the corpus at the same path, or SEREIN_CACHE on a disk "
        "that they share"
    )
    try:
        found = corpora.contents(utterances)
    except CorpusError as error:
        raise CorpusError(f"on {socket.gethostname()}: {error}; {advice}") from error
    other = [one.path for one in utterances if found[one.id] != plan.contents[one.id]]
    if other:
        raise CorpusError(
            f"on {socket.gethostname()} {len(other)} of {len(utterances)} recordings differ from "
            f"those that the run began with, {other[0]} first; {advice}"
        )
