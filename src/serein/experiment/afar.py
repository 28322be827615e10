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
from serein.dataset import is_cached
from serein.errors import ConfigError, CorpusError, SereinError
from serein.experiment.facts import versions
from serein.experiment.folds import run_fold
from serein.experiment.plan import Plan
from serein.files import write_bytes
from serein.records import Fold
from serein.results import Epoch
from serein.training.course import Course

Told = SimpleQueue[Epoch | Course | BaseException]
EVERY = 1.0
"""Seconds after which a state that has changed is sent, without the end of an epoch, too."""


class News(NamedTuple):
    """What a fold tells.

    Attributes:
        epoch: one that has ended, or that was done before.
        state: of the training, where it has changed.
        end: what came of the fold, or what is wrong with it wherever it is trained.
    """

    epoch: Epoch | None = None
    state: bytes | None = None
    end: Course | SereinError | None = None


def packed(todo: Plan) -> bytes:
    """A plan as it is sent: its recordings by their whole paths, with what numbers depend on."""
    utterances = tuple(replace(u, path=u.path.absolute()) for u in todo.corpus.utterances)
    sent = replace(todo, corpus=replace(todo.corpus, utterances=utterances))
    return pickle.dumps((sent, installed(todo)))


def installed(todo: Plan) -> dict[str, str]:
    """What numbers depend on, as it is on this machine: versions, sources, precision."""
    own = {"source": system.source_of(todo.recipe), "precision": todo.numbers}
    return versions() | system.packages_of(todo.recipe) | own


def train(content: bytes, fold: Fold, state: bytes | None) -> Iterator[News]:
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
        told: Told = SimpleQueue()
        known = _mark(place)
        left = Event()
        thread = Thread(target=_work, args=(here, expected, fold, told, left), daemon=True)
        thread.start()
        try:
            yield from _news(told, place, known)
        finally:
            left.set()
            thread.join()


class _Left(BaseException):
    """Nobody listens any more."""


def _work(todo: Plan, expected: dict[str, str], fold: Fold, told: Told, left: Event) -> None:
    def progress(name: str, epoch: Epoch) -> None:
        if left.is_set():
            raise _Left
        told.put(epoch)

    try:
        _check_alike(todo, expected)
        _check_there(todo)
        told.put(run_fold(todo, fold, progress))
    except BaseException as error:
        told.put(error)


def _news(told: Told, place: Path, known: tuple[int, ...]) -> Iterator[News]:
    while True:
        item: Epoch | Course | BaseException | None = None
        with suppress(Empty):
            item = told.get(timeout=EVERY)
        # The state is read after the news, and so never older than what they say.
        found = _mark(place)
        state = place.read_bytes() if found != known else None
        known = found
        if isinstance(item, Course | SereinError):
            yield News(end=item, state=state)
            return
        if isinstance(item, BaseException):
            raise item
        if item is not None or state is not None:
            yield News(epoch=item, state=state)


def _mark(place: Path) -> tuple[int, ...]:
    """What changes whenever the file is written."""
    try:
        found = place.stat()
    except FileNotFoundError:
        return ()
    return found.st_ino, found.st_mtime_ns, found.st_size


def _check_alike(todo: Plan, expected: dict[str, str]) -> None:
    """Other versions would give other numbers under the run's name."""
    found = installed(todo)
    for name, version in expected.items():
        if found.get(name) != version:
            raise ConfigError(
                f"{socket.gethostname()} has {name} {found.get(name)}, and the run began with "
                f"{version}; every machine of the cluster must have the same"
            )


def _check_there(todo: Plan) -> None:
    """The recordings must be those of the plan, unless their frames are in this machine's cache."""
    utterances = todo.corpus.utterances
    forms, front_end = (None, *todo.copies), todo.front_end()
    if all(is_cached(utterances, front_end, todo.contents, copy=form) for form in forms):
        return
    advice = (
        "every machine of the cluster needs the corpus at the same path, or SEREIN_CACHE on a disk "
        "that they share"
    )
    try:
        found = corpora.contents(utterances)
    except CorpusError as error:
        raise CorpusError(f"on {socket.gethostname()}: {error}; {advice}") from error
    other = [one.path for one in utterances if found[one.id] != todo.contents[one.id]]
    if other:
        raise CorpusError(
            f"on {socket.gethostname()} {len(other)} of {len(utterances)} recordings differ from "
            f"those that the run began with, {other[0]} first; {advice}"
        )
