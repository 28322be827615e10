"""A saved model that finds words: a recording in, words with their times out.

B = recordings at a time, L = words and an end, T' = steps of the encoder.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from serein import audio, bundle
from serein.audio import Samples, Source
from serein.bundle import Bundle
from serein.errors import AudioError, ConfigError
from serein.inference.predictor import collect_words, pad_waveforms, unbatch
from serein.inference.predictor import torch_threads as threads_of
from serein.labels.vocabulary import tokenize
from serein.metrics.word_error_rate import compute_word_scores
from serein.records import Corpus, Utterance
from serein.results import io
from serein.results.inference import Transcription, Transcriptions, WordScores
from serein.system import TRANSCRIPT, Output, predict_batch
from serein.utils.device import PrecisionSetting, requested_precision, resolve_precision

OnFailure = Callable[[Utterance, AudioError], None]
"""Is told of every recording that cannot be read."""


class Transcriber:
    """Words in recordings."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle,
        *,
        device: str = "cpu",
        threads: int | None = 1,
        precision: PrecisionSetting | None = None,
    ) -> None:
        """Load a model.

        Args:
            model: a bundle, or the path of one.
            device: where to compute: "cpu" or "cuda".
            threads: processor threads; None is torch's own number.
            precision: numbers to compute in; None is what the model's recipe says.

        Raises:
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the model finds no words.
        """
        made = model if isinstance(model, Bundle) else bundle.load(Path(model), device=device)
        self.bundle, self.system, self.threads = made, made.system, threads
        self.name = made.card.name or "model"
        if self.system.transcript_task is None or not self.system.has_transcript_loss:
            raise ConfigError(
                f"{self.name} ({self.system.recipe.name}) finds no words; `serein transcribe` "
                "needs a model that was trained to, such as one of feng2020-asr-an4 or feng2020"
            )
        self.vocabulary = self.system.transcript_task.vocabulary
        self.precision = resolve_precision(
            precision or requested_precision(self.system.recipe), self.system.device
        )

    def __call__(self, source: Source) -> Transcription:
        """The words of one recording.

        Args:
            source: a path, bytes, a file object, or samples and their rate.

        Raises:
            AudioError: it cannot be read.
        """
        path = source if isinstance(source, str | os.PathLike) else ""
        return self._transcribe(audio.load(source, self.system.front_end.rate), str(path))

    def transcribe_each(
        self, utterances: Sequence[Utterance], on_failure: OnFailure
    ) -> Iterator[Transcription]:
        """The words of every utterance that can be read, in their order.

        Args:
            utterances: what to read.
            on_failure: is told of the others.
        """
        rate = self.system.front_end.rate
        for one in utterances:
            try:
                wave_s = audio.load(one.path, rate, start=one.start, end=one.end)
                found = self._transcribe(wave_s, one.id, one.text, one.speaker)
            except AudioError as error:
                on_failure(one, error)
                continue
            yield found

    def compute_scores(self, transcriptions: Sequence[Transcription]) -> WordScores | None:
        """How well words were found; None where nothing had a transcript to compare with."""
        known = [one for one in transcriptions if one.reference is not None]
        if not known:
            return None
        words, texts = set(self.vocabulary.words), [str(one.reference) for one in known]
        return compute_word_scores(
            texts,
            [one.text for one in known],
            [one.speaker for one in known],
            unknown=sum(word not in words for text in texts for word in tokenize(text)),
        )

    def _transcribe(
        self,
        wave_s: Samples,
        name: str,
        reference: str | None = None,
        speaker: str | None = None,
    ) -> Transcription:
        seconds = len(wave_s) / self.system.front_end.rate
        device = self.system.device
        with threads_of(self.threads):
            wave_1s, length_1 = pad_waveforms([wave_s])
            with torch.inference_mode():
                inputs = self.system.extract_features(wave_1s.to(device), length_1.to(device))
            _, output = predict_batch(self.system, inputs, self.precision)
        return self._build_transcription(output, name, seconds, reference, speaker)

    def _build_transcription(
        self, output: Output, name: str, seconds: float, reference: str | None, speaker: str | None
    ) -> Transcription:
        found = output.transcript
        assert found is not None
        assert found.id_bl is not None
        text = self.vocabulary.decode(found.id_bl[0].tolist())
        bounded = found.ended_b is not None and not bool(found.ended_b[0])
        (row,) = unbatch({TRANSCRIPT: found.id_bl}, output.attention)
        words = collect_words(
            [row], [(0.0, seconds)], self.system.transcript_task, self.system.front_end.hop
        )
        return Transcription(
            id=name,
            text=text,
            words=words[: len(words) - bounded],
            score=0.0 if found.score_b is None else float(found.score_b[0]),
            seconds=seconds,
            bounded=bounded,
            reference=reference,
            speaker=speaker,
        )


def build_record(
    transcriber: Transcriber,
    corpus: Corpus,
    rows: Sequence[Transcription],
    failures: Sequence[str],
    *,
    command: str,
    created: str,
) -> Transcriptions:
    """What was heard in a corpus, as one record.

    Args:
        transcriber: that heard it.
        corpus: what was to be heard.
        rows: what was.
        failures: why the rest was not.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
    """
    card = transcriber.bundle.card
    return Transcriptions(
        format=io.FORMAT,
        command=command,
        created=created,
        model=transcriber.name,
        card={"data": card.data, "training": card.training},
        corpus={"name": corpus.name, "utterances": len(corpus.utterances)},
        scores=transcriber.compute_scores(rows),
        rows=list(rows),
        warnings=[*corpus.notes, *failures],
    )
