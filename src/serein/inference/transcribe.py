"""Transcribe recordings with a saved model that recognises speech: words with their times.

L = tokens of a transcript, the end token included.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from serein import audio, bundle
from serein.audio import Samples, Source
from serein.bundle import Bundle
from serein.errors import AudioError, ConfigError
from serein.inference.predictor import collect_words, pad_waveforms, torch_threads, unbatch
from serein.metrics.word_error_rate import compute_word_scores, count_unknown_words
from serein.records import Corpus, Finding, LeftOut, Utterance
from serein.results import io
from serein.results.inference import Transcription, Transcriptions, WordScores
from serein.system import TRANSCRIPT, Output, predict_batch
from serein.utils.device import PrecisionSetting, requested_precision, resolve_precision

OnFailure = Callable[[Utterance, AudioError], None]
"""A function that is called for every recording that cannot be read."""


class Transcriber:
    """Transcribe recordings with a saved model.

    Attributes:
        bundle: the saved model.
        name: name of the model in its transcriptions.
        system: the network.
        vocabulary: words of the model.
        precision: precision that it computes in.
        threads: processor threads; None is torch's own number.
    """

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
            precision: precision to compute in; None is the precision of the model's recipe.

        Raises:
            BundleError: the file is missing, corrupt, tampered with, or too new.
            ConfigError: the model was not trained to recognise speech.
        """
        self.bundle = (
            model if isinstance(model, Bundle) else bundle.load(Path(model), device=device)
        )
        self.system, self.threads = self.bundle.system, threads
        self.name = self.bundle.card.name or "model"
        recipe, task = self.system.recipe, self.system.transcript_task
        if task is None or not self.system.has_transcript_loss:
            raise ConfigError(
                f"{self.name} ({recipe.name}) does not recognise words; `serein transcribe` needs "
                "a model that was trained to, such as one of feng2020-asr-an4 or feng2020"
            )
        self.vocabulary = task.vocabulary
        self.precision = resolve_precision(
            precision or requested_precision(recipe), self.system.device
        )

    def __call__(self, source: Source) -> Transcription:
        """Transcribe one recording.

        Args:
            source: path, bytes, binary file, or (samples, rate in Hz).

        Raises:
            AudioError: the recording cannot be read.
        """
        path = source if isinstance(source, str | os.PathLike) else ""
        return self._transcribe(audio.load(source, self.system.front_end.rate), str(path))

    def transcribe_each(
        self, utterances: Sequence[Utterance], on_failure: OnFailure
    ) -> Iterator[Transcription]:
        """Transcribe utterances in their order.

        Args:
            utterances: the utterances.
            on_failure: is called for every utterance that cannot be read.
        """
        rate = self.system.front_end.rate
        for utterance in utterances:
            try:
                wave_s = audio.load(utterance.path, rate, start=utterance.start, end=utterance.end)
                transcription = self._transcribe(
                    wave_s, utterance.id, utterance.text, utterance.speaker
                )
            except AudioError as error:
                on_failure(utterance, error)
                continue
            yield transcription

    def compute_scores(self, transcriptions: Sequence[Transcription]) -> WordScores | None:
        """Compute the word error rate; None if no transcription has a reference."""
        scored = [one for one in transcriptions if one.reference is not None]
        if not scored:
            return None
        references = [str(one.reference) for one in scored]
        return compute_word_scores(
            references,
            [one.text for one in scored],
            [one.speaker for one in scored],
            unknown=count_unknown_words(references, set(self.vocabulary.words)),
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
        with torch_threads(self.threads):
            wave_1s, length_1 = pad_waveforms([wave_s])
            with torch.inference_mode():
                inputs = self.system.extract_features(wave_1s.to(device), length_1.to(device))
            _, output = predict_batch(self.system, inputs, self.precision)
        return self._build_transcription(output, name, seconds, reference, speaker)

    def _build_transcription(
        self, output: Output, name: str, seconds: float, reference: str | None, speaker: str | None
    ) -> Transcription:
        transcript = output.transcript
        assert transcript is not None
        assert transcript.id_bl is not None
        bounded = transcript.ended_b is not None and not bool(transcript.ended_b[0])
        predictions = unbatch({TRANSCRIPT: transcript.id_bl}, output.attention)
        words = collect_words(
            predictions, [(0.0, seconds)], self.system.transcript_task, self.system.front_end.hop
        )
        return Transcription(
            id=name,
            text=self.vocabulary.decode(transcript.id_bl[0].tolist()),
            words=words[: len(words) - bounded],
            score=0.0 if transcript.score_b is None else float(transcript.score_b[0]),
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
    left_out: Sequence[LeftOut] = (),
    leakage: Sequence[Finding] = (),
) -> Transcriptions:
    """Build the record of a transcribed corpus.

    Args:
        transcriber: the model.
        corpus: with the selected utterances.
        rows: transcriptions of its utterances.
        failures: reasons of the utterances that could not be read.
        command: command line that was typed.
        created: when the transcription ended, ISO 8601, UTC.
        left_out: utterances of the corpus that were not selected, by reason.
        leakage: what the model's training data shares with the corpus; warnings repeat it.
    """
    card = transcriber.bundle.card
    return Transcriptions(
        format=io.FORMAT,
        command=command,
        created=created,
        model=transcriber.name,
        card={"data": card.data, "training": card.training},
        corpus={
            "name": corpus.name,
            "utterances": len(corpus.utterances),
            "total": len(corpus.utterances) + sum(reason.count for reason in left_out),
        },
        scores=transcriber.compute_scores(rows),
        rows=list(rows),
        warnings=[
            *corpus.notes,
            *(finding.description for finding in leakage if finding.verdict == "warning"),
            *failures,
        ],
        left_out=list(left_out),
        leakage=list(leakage),
    )
