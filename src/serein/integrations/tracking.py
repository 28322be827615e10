"""Send settings, losses, scores and files of a training to MLflow, Trackio or Weights & Biases.

Each tool's own client is used, with its own settings (``MLFLOW_TRACKING_URI``, ``TRACKIO_DIR``,
``WANDB_MODE``, ...). A run has the settings, of every epoch the loss and the scores of each fold,
the final scores, and the files. The client works in a thread of its own: a server that is away
costs one warning, and the training goes on.
"""

import queue
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import Any, Protocol

from serein.errors import ConfigError, SereinError, UnknownName
from serein.metrics.scoring import get_scorer
from serein.records import Recipe
from serein.results.evaluation import Epoch, Results
from serein.results.io import load_results

PROJECT = "serein"
"""The experiment or project in which runs are created."""
TRACKERS = ("mlflow", "trackio", "wandb")
FINISH_SECONDS = 60.0
"""How long the end of a training waits for the client."""
MAX_VALUE_LENGTH = 500
"""Longest value of a setting in MLflow's oldest servers."""

Scores = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Scores by subset or selection, task and name."""
OpenPlanProgress = Callable[[Any], AbstractContextManager[Callable[[str, Epoch], None]]]
"""Opens a progress display for a plan of an evaluation."""
OpenTrainingProgress = Callable[[int], AbstractContextManager[Callable[[Epoch], None]]]
"""Opens a progress display for a number of epochs."""


class Client(Protocol):
    """What a tool's client must do."""

    def start(self, name: str, settings: Mapping[str, str]) -> None:
        """Create a run."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values of an epoch; step 0 are final scores."""

    def save(self, files: Sequence[Path]) -> None:
        """Send files."""

    def finish(self) -> None:
        """End the run."""


class MLflowClient:
    """A run in MLflow."""

    def __init__(self) -> None:
        """Connect to ``MLFLOW_TRACKING_URI``."""
        self.client = import_module("mlflow.tracking").MlflowClient()
        self.entities = import_module("mlflow.entities")
        self.run_id = ""

    def start(self, name: str, settings: Mapping[str, str]) -> None:
        """Create a run in the experiment "serein"."""
        experiment = self.client.get_experiment_by_name(PROJECT)
        experiment_id = (
            self.client.create_experiment(PROJECT)
            if experiment is None
            else experiment.experiment_id
        )
        self.run_id = self.client.create_run(experiment_id, run_name=name).info.run_id
        params = [
            self.entities.Param(clean_name(key), value[:MAX_VALUE_LENGTH])
            for key, value in settings.items()
        ]
        for start in range(0, len(params), 100):  # the most that a request may have
            self.client.log_batch(self.run_id, params=params[start : start + 100])

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values of an epoch."""
        now = int(1000 * time.time())
        metrics = [self.entities.Metric(key, value, now, step) for key, value in values.items()]
        for start in range(0, len(metrics), 1000):
            self.client.log_batch(self.run_id, metrics=metrics[start : start + 1000])

    def save(self, files: Sequence[Path]) -> None:
        """Send files as artifacts."""
        for file in files:
            self.client.log_artifact(self.run_id, str(file))

    def finish(self) -> None:
        """End the run."""
        self.client.set_terminated(self.run_id)


class TrackioClient:
    """A run in Trackio."""

    def __init__(self) -> None:
        """Import the client."""
        self.trackio = import_module("trackio")
        self.run: Any = None

    def start(self, name: str, settings: Mapping[str, str]) -> None:
        """Create a run in the project "serein"."""
        self.run = self.trackio.init(project=PROJECT, name=name, config=dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values of an epoch."""
        self.run.log(dict(values), step=step)

    def save(self, files: Sequence[Path]) -> None:
        """Send files as an artifact of the run; files of a project would replace each other."""
        if not files:
            return
        name = re.sub(r"[^\w.-]", "_", self.run.name, flags=re.ASCII)
        artifact = self.trackio.Artifact(name=name, type=PROJECT)
        for file in files:
            artifact.add_file(str(file))
        self.run.log_artifact(artifact)

    def finish(self) -> None:
        """End the run."""
        self.run.finish()


class WandbClient:
    """A run in Weights & Biases."""

    def __init__(self) -> None:
        """Import the client."""
        self.wandb = import_module("wandb")
        self.run: Any = None

    def start(self, name: str, settings: Mapping[str, str]) -> None:
        """Create a run in the project "serein"."""
        self.run = self.wandb.init(project=PROJECT, name=name, config=dict(settings))

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Send values of an epoch; the epoch is a value, since folds are not in its order."""
        self.run.log({**values, "epoch": step})

    def save(self, files: Sequence[Path]) -> None:
        """Send files."""
        for file in files:
            self.run.save(str(file), base_path=str(file.parent), policy="now")

    def finish(self) -> None:
        """End the run."""
        self.run.finish()


CLIENTS: dict[str, Callable[[], Client]] = {
    "mlflow": MLflowClient,
    "trackio": TrackioClient,
    "wandb": WandbClient,
}


class Tracker:
    """Sends a run to a tool from a thread; the first error is the last thing that is sent."""

    def __init__(
        self, tool: str, warn: Callable[[str], None], client: Callable[[], Client] | None = None
    ) -> None:
        """Start the thread.

        Args:
            tool: one of ``TRACKERS``.
            warn: is called once with a message if the client fails.
            client: builds the client; None is the tool's.
        """
        self.tool, self._warn = tool, warn
        self._build_client = client or CLIENTS[tool]
        self._has_failed = False
        self._queue: queue.SimpleQueue[Callable[[Client], None] | None] = queue.SimpleQueue()
        self._thread = Thread(target=self._work, name=f"tracking by {tool}", daemon=True)
        self._thread.start()

    def start(self, name: str, recipe: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Create a run with the settings of a recipe, and further facts, such as the seed."""
        settings = {**flatten_settings(recipe), **flatten_settings(facts)}
        self._queue.put(lambda client: client.start(name, settings))

    def log_epoch(self, fold: str, epoch: Epoch) -> None:
        """Send loss, seconds and scores of an epoch."""
        values = {"loss": epoch.loss, "seconds": epoch.seconds, **flatten_scores(epoch.scores)}
        prefix = f"fold {clean_name(fold)}/" if fold else ""
        named = {f"{prefix}{name}": value for name, value in values.items()}
        self._queue.put(lambda client: client.log(named, epoch.epoch))

    def finish(self, scores: Scores, files: Sequence[Path]) -> None:
        """Send the final scores and the files, end the run, and wait until all is sent.

        Args:
            scores: by selection, task and name.
            files: those that exist are sent.
        """
        values = {f"final/{name}": value for name, value in flatten_scores(scores).items()}
        existing = [file for file in files if file.is_file()]
        self._queue.put(lambda client: client.log(values, 0))
        self._queue.put(lambda client: client.save(existing))
        self.close()

    def close(self) -> None:
        """End the run, and wait until all is sent."""
        self._queue.put(lambda client: client.finish())
        self._queue.put(None)
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._fail(f"it did not answer within {FINISH_SECONDS:.0f} s")

    def _work(self) -> None:
        """Do what is queued, until the end or the first error."""
        try:
            client = self._build_client()
            while (action := self._queue.get()) is not None:
                action(client)
        except (Exception, SystemExit) as error:  # of any client; a training does not end by it
            self._fail(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")

    def _fail(self, reason: str) -> None:
        """Warn once."""
        if not self._has_failed:
            self._has_failed = True
            self._warn(f"tracking by {self.tool} ended ({reason}); the training goes on without it")


def clean_name(text: str) -> str:
    """Replace characters that a name in MLflow may not have.

    >>> clean_name("emodb+cremad, 3rd")
    'emodb_cremad_ 3rd'
    """
    return re.sub(r"[^\w .:/-]", "_", text, flags=re.ASCII)


def flatten_settings(table: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the settings of nested tables by dotted names, as text.

    >>> flatten_settings({"model": {"name": "li2019"}, "seed": 0})
    {'model.name': 'li2019', 'seed': '0'}
    """
    flat: dict[str, str] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= flatten_settings(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = str(value)
    return flat


def flatten_scores(scores: Scores) -> dict[str, float]:
    """Return the defined scores by names such as ``validation/emotion/ua``."""
    return {
        clean_name(f"{subset}/{task}/{name}"): value
        for subset, by_task in scores.items()
        for task, own in by_task.items()
        for name, value in own.items()
        if value is not None
    }


def list_final_scores(results: Results) -> dict[str, dict[str, dict[str, float | None]]]:
    """Return the scores over all folds by selection, task and name."""
    return {
        selection: {
            task: {
                metric.name: scores.score(metric.name)
                for metric in get_scorer(results.classes[task]).metrics
            }
            for task, scores in results.scores_by_task(selection).items()
        }
        for selection in results.selections
    }


class _Both:
    """A progress display that calls a second function, too; ``show_step`` is the display's."""

    def __init__(self, display: Callable[..., None], other: Callable[..., None]) -> None:
        self.display, self.other = display, other
        self.show_step = getattr(display, "show_step", None)

    def __call__(self, *arguments: Any) -> None:
        self.display(*arguments)
        self.other(*arguments)


class Tracking:
    """The runs of a command: one for each plan of an evaluation, or one for a training."""

    def __init__(self, tool: str | None, warn: Callable[[str], None]) -> None:
        """Check the tool; nothing is sent before a run starts.

        Args:
            tool: one of ``TRACKERS``; None tracks nothing.
            warn: is called with a message if a client fails.

        Raises:
            UnknownName: there is no such tool.
            ConfigError: it is not installed.
        """
        if tool is not None:
            check_tool(tool)
        self.tool, self._warn = tool, warn
        self._trackers: dict[Path, Tracker] = {}

    def follow_plans(self, open_progress: OpenPlanProgress) -> OpenPlanProgress:
        """Return a progress display for plans that sends every epoch, too."""
        return open_progress if self.tool is None else partial(self._follow_plan, open_progress)

    @contextmanager
    def _follow_plan(
        self, open_progress: OpenPlanProgress, plan: Any
    ) -> Iterator[Callable[[str, Epoch], None]]:
        tracker = self._open(plan.folder)
        facts = {
            "run": plan.folder.name,
            "corpus": plan.corpus.name,
            "utterances": len(plan.corpus.utterances),
            "folds": len(plan.protocol.folds),
            "seed": plan.seed,
        }
        tracker.start(plan.folder.name, asdict(plan.recipe), facts)
        with open_progress(plan) as on_epoch:
            yield _Both(on_epoch, tracker.log_epoch)

    def follow_training(
        self,
        open_progress: OpenTrainingProgress,
        output: Path,
        build_recipe: Callable[[], Recipe],
        facts: Mapping[str, Any],
    ) -> OpenTrainingProgress:
        """Return a progress display for a training that sends every epoch, too.

        Args:
            open_progress: opens the display for a number of epochs.
            output: the saved model, which is sent at the end.
            build_recipe: returns all settings; called when the training starts.
            facts: such as corpus and seed, by name.
        """
        if self.tool is None:
            return open_progress

        @contextmanager
        def follow(epochs: int) -> Iterator[Callable[[Epoch], None]]:
            tracker = self._open(output)
            tracker.start(output.stem, asdict(build_recipe()), facts)
            with open_progress(epochs) as on_epoch:
                yield _Both(on_epoch, partial(tracker.log_epoch, ""))

        return follow

    def _open(self, place: Path) -> Tracker:
        assert self.tool is not None
        if place not in self._trackers:
            self._trackers[place] = Tracker(self.tool, self._warn)
        return self._trackers[place]

    def finish(self) -> None:
        """Send final scores and files of every run, and wait until all is sent."""
        for place, tracker in self._trackers.items():
            if place.is_file():  # a saved model
                tracker.finish({}, [place])
                continue
            try:
                scores = list_final_scores(load_results(place))
            except SereinError:  # it did not end
                scores = {}
            tracker.finish(scores, sorted(place.glob("re[ps]*.*")))  # results and report


@contextmanager
def open_tracking(tool: str | None, warn: Callable[[str], None]) -> Iterator[Tracking]:
    """Track the runs of a block, and finish them at its end, also after an error."""
    tracking = Tracking(tool, warn)
    try:
        yield tracking
    finally:
        tracking.finish()


def check_tool(tool: str) -> None:
    """Check the name of a tool, and that it is installed.

    Raises:
        UnknownName: there is no such tool.
        ConfigError: it is not installed.
    """
    if tool not in TRACKERS:
        raise UnknownName("tracker", tool, TRACKERS)
    if find_spec(tool) is None:
        raise ConfigError(f"--track {tool}: it is not installed: pip install 'serein[{tool}]'")
