"""The recognizer: recordings, streams, long recordings and folders in, answers out."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from serein import audio
from serein.audio import Source
from serein.config import build_config
from serein.errors import ConfigError
from serein.inference.hub import parse_hub_name
from serein.inference.long_form import recognize_recordings, recognize_timeline
from serein.inference.model_loading import list_models
from serein.inference.predictor import Predictor
from serein.inference.recognition import Recognition, get_source_name
from serein.inference.stream_config import StreamConfig
from serein.inference.streaming import Stream

if TYPE_CHECKING:
    from serein.inference.embedding import Embedding
    from serein.inference.folder import Summary
    from serein.results.evaluation import FolderProgress


class Recognizer(Predictor):
    """Recognize emotion in recordings with a saved model.

    >>> import numpy as np
    >>> recognizer = Recognizer()
    >>> silence = np.zeros(16000, dtype=np.float32)
    >>> answer = recognizer((silence, 16000))
    >>> sorted(answer.tasks), answer.speech, answer.label
    (['emotion', 'gender'], False, None)
    """

    @classmethod
    def from_pretrained(
        cls, model: str | os.PathLike[str], *, revision: str | None = None, **options: Any
    ) -> Self:
        """Load a shipped model, one in a folder, or one of the Hugging Face hub.

        A model of the hub is downloaded once; ``HF_HUB_OFFLINE=1`` reads the hub's cache only.

        Args:
            model: name of a shipped model, a folder or file, or ``ORG/NAME`` on the hub.
            revision: branch, tag or commit on the hub; None is its main branch.
            options: further arguments of ``Recognizer``.

        Raises:
            HubError: the hub is away, or has no such model or revision.
            BundleError: it is not a model of this package, or was changed.
            ConfigError: a revision of a model that is not on the hub, or the extra ``hub`` is not
                installed.
        """
        is_local = str(model) in list_models() or Path(model).expanduser().exists()
        if not is_local and not str(model).endswith((".onnx", ".safetensors")):
            name = parse_hub_name(str(model))
            model = str(name if revision is None else name._replace(revision=revision))
        elif revision is not None:
            raise ConfigError(
                f"revision {revision!r}: only models of the hub have revisions, and {model} is "
                "shipped with serein or on this machine; leave the revision out"
            )
        return cls(model, **options)

    def __call__(
        self,
        source: Source,
        *,
        start: float = 0.0,
        end: float | None = None,
        words: str | None = None,
    ) -> Recognition:
        """Recognize a recording with one answer.

        The answer to a recording that is longer than the model's window is that of its timeline:
        the class of at least half of the speech, or "mixed" (``LongRecognition``). With given words
        it is the mean over the windows.

        Args:
            source: path, bytes, binary file, or (samples, rate in Hz).
            start: start of the part to recognize, in seconds.
            end: end of the part, in seconds; None is the end of the recording.
            words: what is said in the part, for a model that reads words; it replaces the words of
                the model's own recogniser.

        Raises:
            AudioError: the recording cannot be read, or is too short.
            ConfigError: the model needs words and has none, or is given words and reads none.
        """
        self.check_words(words)
        start, end = audio.parse_part("the recording", start, end)
        wave_s = audio.load(source, self.rate, start=start, end=end)
        recordings = [(get_source_name(source), wave_s)]
        return recognize_recordings(self, recordings, start=start, words=[words])[0]

    def stream(self, rate: float = 16_000, **settings: Any) -> Stream:
        """Open a stream: ``feed`` it blocks of samples of any size, then ``close`` it.

        Args:
            rate: sampling rate of the samples, in Hz.
            settings: fields of ``StreamConfig``, such as ``window=4.0``.

        Raises:
            ConfigError: the settings do not fit each other or the model.
            AudioError: the rate is out of range.
        """
        return Stream(self, rate, build_config(StreamConfig, settings, "stream"))

    def timeline(
        self,
        source: Source,
        *,
        start: float = 0.0,
        end: float | None = None,
        channel: int | None = None,
        shard: tuple[int, int] | None = None,
        **settings: Any,
    ) -> Recognition:
        """Recognize a recording of any length segment by segment; it is read in blocks.

        Args:
            source: path, bytes, binary file, or (samples, rate in Hz).
            start: start of the part to recognize, in seconds.
            end: end of the part, in seconds; None is the end of the recording.
            channel: number of a channel, counted from 1; None is the mean of all channels.
            shard: number of the shard, counted from 0, and number of shards: (2, 10) is the third
                of ten. ``long_form.join_shards`` joins their answers.
            settings: fields of ``StreamConfig``, such as ``window=4.0``.

        Returns:
            An answer with ``segments``. Its labels are the classes of at least half of the speech,
            or "mixed"; probabilities and values are means of the segments, weighted by length.

        Raises:
            AudioError: the recording cannot be read, or is too short.
            ConfigError: the settings do not fit each other or the model.
        """
        config = build_config(StreamConfig, settings, "timeline")
        span = audio.parse_part("the recording", start, end)
        return recognize_timeline(self, source, span, channel, shard, config)

    def embed(
        self,
        source: Source,
        *,
        start: float = 0.0,
        end: float | None = None,
        task: str | None = None,
        words: str | None = None,
        **settings: Any,
    ) -> "Embedding":
        """Return the vector that the model's heads read: one for a recording or for each window.

        ``embedding.vector`` is one vector; ``embedding.vectors`` has one for each window.

        Args:
            source: path, bytes, binary file, or (samples, rate in Hz).
            start: start of the part to embed, in seconds.
            end: end of the part, in seconds; None is the end of the recording.
            task: whose vector it is, for models with one for each task; default: the first.
            words: what is said in the part, for a model that reads words.
            settings: fields of ``StreamConfig``, such as ``window=4.0``; with any of them, each
                window has a vector.

        Raises:
            AudioError: the recording cannot be read, or is too short.
            UnknownName: the model has no such task.
            ConfigError: the settings do not fit the model, the model is exported, or words are
                missing or given in vain.
        """
        from serein.inference.embedding import choose_task, embed_many, embed_windows

        task = choose_task(self, task)
        if settings:
            if words is not None:
                raise ConfigError("words are of a whole recording, and windows have none")
            config = build_config(StreamConfig, settings, "embed")
            return embed_windows(self, source, task, config, span=(start, end))
        self.check_words(words)
        start, end = audio.parse_part("the recording", start, end)
        wave_s = audio.load(source, self.rate, start=start, end=end)
        recordings = [(get_source_name(source), wave_s)]
        return embed_many(self, recordings, task, start=start, words=[words])[0]

    def embed_folder(
        self,
        folder: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        task: str | None = None,
        jobs: int | None = None,
        engine: str = "processes",
        retry: bool = False,
        progress: "Callable[[FolderProgress], None] | None" = None,
        **settings: Any,
    ) -> "Summary":
        """Write the vectors of all recordings below a folder; an interrupted run is resumed.

        Args:
            folder: as for ``folder``.
            output: table to write: .parquet, .npz, .csv or .jsonl.
            task: as for ``embed``.
            jobs: as for ``folder``.
            engine: as for ``folder``.
            retry: as for ``folder``.
            progress: as for ``folder``.
            settings: as for ``embed``.

        Raises:
            SereinError: as ``folder`` and ``embed``.
        """
        from serein.inference.embedding import choose_task
        from serein.inference.folder import recognize_folder  # here: it imports pyarrow

        return recognize_folder(
            self,
            Path(folder),
            Path(output),
            jobs=jobs,
            engine=engine,
            retry=retry,
            progress=progress,
            stream_config=build_config(StreamConfig, settings, "embed") if settings else None,
            embedded_task=choose_task(self, task),
        )

    def folder(
        self,
        folder: str | os.PathLike[str],
        output: str | os.PathLike[str],
        *,
        jobs: int | None = None,
        engine: str = "processes",
        retry: bool = False,
        progress: "Callable[[FolderProgress], None] | None" = None,
        **settings: Any,
    ) -> "Summary":
        """Recognize all recordings below a folder; an interrupted run is resumed.

        Long recordings are read in blocks.

        Args:
            folder: folder of the recordings; links to other folders are followed once.
            output: table to write: .parquet, .csv or .jsonl.
            jobs: number of processes; 1 uses only this process. None is 1, or all of a cluster.
            engine: "processes", or "ray" for a cluster (extra ``ray``).
            retry: whether to try files again that failed in an earlier run.
            progress: is called with the progress of the run.
            settings: fields of ``StreamConfig``; with any of them, each segment is a row.

        Raises:
            AudioError: the folder does not exist, or has no recordings.
            ConfigError: the output belongs to other settings or to no run, or the settings do not
                fit.
            StorageError: another process writes the output, or it could not be written.
        """
        from serein.inference.folder import recognize_folder  # here: it imports pyarrow

        return recognize_folder(
            self,
            Path(folder),
            Path(output),
            jobs=jobs,
            engine=engine,
            retry=retry,
            progress=progress,
            stream_config=build_config(StreamConfig, settings, "folder") if settings else None,
        )
