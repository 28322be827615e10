"""A saved model that finds words: a recording in, words with their times out.

B = recordings at a time, L = words and an end, T' = steps of the encoder.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from serein import audio, bundle, store
from serein.audio import Samples, Source
from serein.bundle import Bundle
from serein.errors import AudioError, ConfigError
from serein.inference.hearing import threads as threads_of
from serein.inference.together import padded, rows_of, words_of
from serein.metrics.words import word_scores
from serein.precision import Precision, asked, settled
from serein.predict import answer
from serein.records import Corpus, Utterance
from serein.system import SPOKEN, Output
from serein.transcripts import Transcription, Transcriptions, WordScores
from serein.vocabulary import spoken

Failed = Callable[[Utterance, AudioError], None]
"""Is told of every recording that cannot be read."""


class Transcriber:
    """Words in recordings."""

    def __init__(
        self,
        model: str | os.PathLike[str] | Bundle,
        *,
        device: str = "cpu",
        threads: int | None = 1,
        precision: Precision | None = None,
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
        if self.system.text is None or not self.system.transcribes:
            raise ConfigError(
                f"{self.name} ({self.system.recipe.name}) finds no words; `serein transcribe` "
                "needs a model that was trained to, such as one of feng2020-asr-an4 or feng2020"
            )
        self.vocabulary = self.system.text.vocabulary
        self.numbers = settled(precision or asked(self.system.recipe), self.system.device)

    def __call__(self, source: Source) -> Transcription:
        """The words of one recording.

        Args:
            source: a path, bytes, a file object, or samples and their rate.

        Raises:
            AudioError: it cannot be read.
        """
        path = source if isinstance(source, str | os.PathLike) else ""
        return self._heard(audio.load(source, self.system.front_end.rate), str(path))

    def each(self, utterances: Sequence[Utterance], failed: Failed) -> Iterator[Transcription]:
        """The words of every utterance that can be read, in their order.

        Args:
            utterances: what to read.
            failed: is told of the others.
        """
        rate = self.system.front_end.rate
        for one in utterances:
            try:
                wave_s = audio.load(one.path, rate, start=one.start, end=one.end)
                found = self._heard(wave_s, one.id, one.text, one.speaker)
            except AudioError as error:
                failed(one, error)
                continue
            yield found

    def scores(self, found: Sequence[Transcription]) -> WordScores | None:
        """How well words were found; None where nothing had a transcript to compare with."""
        known = [one for one in found if one.reference is not None]
        if not known:
            return None
        words, texts = set(self.vocabulary.words), [str(one.reference) for one in known]
        return word_scores(
            texts,
            [one.text for one in known],
            [one.speaker for one in known],
            unknown=sum(word not in words for text in texts for word in spoken(text)),
        )

    def _heard(
        self,
        wave_s: Samples,
        name: str,
        reference: str | None = None,
        speaker: str | None = None,
    ) -> Transcription:
        seconds = len(wave_s) / self.system.front_end.rate
        device = self.system.device
        with threads_of(self.threads):
            wave_1s, length_1 = padded([wave_s])
            with torch.inference_mode():
                inputs = self.system.hear(wave_1s.to(device), length_1.to(device))
            _, output = answer(self.system, inputs, self.numbers)
        return self._told(output, name, seconds, reference, speaker)

    def _told(
        self, output: Output, name: str, seconds: float, reference: str | None, speaker: str | None
    ) -> Transcription:
        found = output.transcript
        assert found is not None
        assert found.id_bl is not None
        text = self.vocabulary.text(found.id_bl[0].tolist())
        bounded = found.ended_b is not None and not bool(found.ended_b[0])
        (row,) = rows_of({SPOKEN: found.id_bl}, output.attention)
        words = words_of([row], [(0.0, seconds)], self.system.text, self.system.front_end.hop)
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


def transcriptions(
    transcriber: Transcriber,
    corpus: Corpus,
    found: Sequence[Transcription],
    faults: Sequence[str],
    *,
    command: str,
    created: str,
) -> Transcriptions:
    """What was heard in a corpus, as one record.

    Args:
        transcriber: that heard it.
        corpus: what was to be heard.
        found: what was.
        faults: why the rest was not.
        command: what was typed.
        created: when it ended, ISO 8601, UTC.
    """
    card = transcriber.bundle.card
    return Transcriptions(
        format=store.FORMAT,
        command=command,
        created=created,
        model=transcriber.name,
        card={"data": card.data, "training": card.training},
        corpus={"name": corpus.name, "utterances": len(corpus.utterances)},
        scores=transcriber.scores(found),
        rows=list(found),
        warnings=[*corpus.notes, *faults],
    )
