"""Transcribe recordings with a saved model that recognises speech, or Whisper: words and times.

L = tokens of a transcript, the end token included.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from serein import audio, bundle
from serein.audio import Samples, Source
from serein.bundle import Bundle, Card
from serein.errors import AudioError, ConfigError
from serein.features import whisper_asr
from serein.inference.torch_backend import pad_waveforms, torch_threads, unbatch
from serein.inference.words import collect_words
from serein.labels.vocabulary import END, normalize_text, tokenize
from serein.layers import ssl_encoder
from serein.metrics.word_error_rate import compute_word_scores, count_unknown_words
from serein.records import Corpus, Finding, LeftOut, Recipe, Utterance
from serein.results import io
from serein.results.inference import RecognizedWord, Transcription, Transcriptions, WordScores
from serein.system import TRANSCRIPT, Output, predict_batch
from serein.utils.device import PrecisionSetting, requested_precision, resolve_precision

OnFailure = Callable[[Utterance, AudioError], None]
"""A function that is called for every recording that cannot be read."""


class Transcriber:
    """Transcribe recordings with a saved model.

    Attributes:
        name: name of the model in its transcriptions.
        card: of the model.
        recipe: of the model.
        rate: sampling rate that it reads, in Hz.
        words: that it may write; None is any.
        threads: processor threads; None is torch's own number.
    """

    name: str
    card: Card
    recipe: Recipe
    rate: int
    words: frozenset[str] | None
    threads: int | None

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
        self.card, self.recipe = self.bundle.card, self.system.recipe
        self.name, self.rate = self.card.name or "model", self.system.front_end.rate
        recipe, task = self.recipe, self.system.transcript_task
        if task is None or not self.system.has_transcript_loss:
            raise ConfigError(
                f"{self.name} ({recipe.name}) does not recognise words; `serein transcribe` needs "
                "a model that was trained to, such as one of feng2020-asr-an4 or feng2020"
            )
        self.vocabulary = task.vocabulary
        self.words = frozenset(self.vocabulary.words)
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
        return self._transcribe(audio.load(source, self.rate), str(path))

    def transcribe_each(
        self, utterances: Sequence[Utterance], on_failure: OnFailure
    ) -> Iterator[Transcription]:
        """Transcribe utterances in their order.

        Args:
            utterances: the utterances.
            on_failure: is called for every utterance that cannot be read.
        """
        for utterance in utterances:
            try:
                transcription = self.transcribe_utterance(utterance)
            except AudioError as error:
                on_failure(utterance, error)
                continue
            yield transcription

    def transcribe_utterance(self, utterance: Utterance) -> Transcription:
        """Transcribe an utterance of a corpus.

        Raises:
            AudioError: the recording cannot be read.
        """
        wave_s = audio.load(utterance.path, self.rate, start=utterance.start, end=utterance.end)
        return self._transcribe(wave_s, utterance.id, utterance.text, utterance.speaker)

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
            unknown=0 if self.words is None else count_unknown_words(references, {*self.words}),
        )

    def _transcribe(
        self,
        wave_s: Samples,
        name: str,
        reference: str | None = None,
        speaker: str | None = None,
    ) -> Transcription:
        seconds = len(wave_s) / self.rate
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
            predictions, [(0.0, seconds)], self.vocabulary.words, self.system.front_end.hop
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


class WhisperTranscriber(Transcriber):
    """Transcribe recordings with a whole Whisper, in parts of 30 s.

    Attributes:
        language: of the speech; empty detects it in each part.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        device: str = "cpu",
        threads: int | None = 1,
        language: str = "",
    ) -> None:
        """Load a Whisper.

        Args:
            folder: of the whole model, or its name in the folder that SEREIN_ENCODERS names.
            device: where to compute: "cpu" or "cuda".
            threads: processor threads; None is torch's own number.
            language: of the speech, such as "de"; empty detects it.

        Raises:
            EncoderError: the folder lacks a part.
            ConfigError: the language is unknown.
        """
        path = whisper_asr.find_recognizer(str(folder))
        whisper_asr.check_language(path, language)
        sha256 = whisper_asr.verify_recognizer(str(folder), path, "")
        self.recognizer = whisper_asr.load_recognizer(path, sha256)
        self.name, self.rate, self.words = path.name, ssl_encoder.SAMPLE_RATE, None
        self.card = Card(name=path.name, data=whisper_asr.NOTE, training={"sha256": sha256})
        self.recipe = Recipe(
            name="whisper",
            about={},
            features={},
            normalise={},
            model={},
            tasks={},
            training={},
            protocol={},
        )
        self.device, self.threads, self.language = device, threads, language

    def _transcribe(
        self,
        wave_s: Samples,
        name: str,
        reference: str | None = None,
        speaker: str | None = None,
    ) -> Transcription:
        with torch_threads(self.threads):
            wave_tensor_s = torch.from_numpy(wave_s).to(self.device)
            parts = self.recognizer.recognize_parts(wave_tensor_s, self.language)
        words = [
            word
            for number, transcript in enumerate(parts)
            for word in _list_words(transcript, number * float(whisper_asr.MAX_SECONDS))
        ]
        ended = all(transcript.ended for transcript in parts)
        seconds = len(wave_s) / self.rate
        end = [RecognizedWord(word=END, time=round(seconds, 3))] if ended else []
        return Transcription(
            id=name,
            text=normalize_text(" ".join(transcript.text for transcript in parts)),
            words=[*words, *end],
            score=sum(transcript.score for transcript in parts),
            seconds=seconds,
            bounded=not ended,
            reference=reference,
            speaker=speaker,
        )


def _list_words(transcript: whisper_asr.WhisperTranscript, start: float) -> list[RecognizedWord]:
    """Return the words of a part with the time at which each begins.

    Args:
        transcript: with a row for each frame.
        start: of the part, in seconds.
    """
    token_r = transcript.token_r.tolist()
    return [
        RecognizedWord(
            word=word,
            time=round(start + token_r.index(first) * whisper_asr.FRAME_SECONDS, 3),
        )
        for text, first, _ in transcript.spans
        for word in tokenize(text)
    ]


def open_transcriber(
    model: str, *, device: str = "cpu", threads: int | None = 1, language: str = ""
) -> Transcriber:
    """Load a saved model that recognises speech, or a Whisper.

    Args:
        model: file of a saved model, or folder of a Whisper.
        device: where to compute: "cpu" or "cuda".
        threads: processor threads; None is torch's own number.
        language: of the speech, for Whisper.

    Raises:
        BundleError: the saved model cannot be read.
        EncoderError: the Whisper lacks a part.
        ConfigError: the model does not recognise speech, or takes no language.
    """
    if whisper_asr.is_recognizer(model):
        return WhisperTranscriber(model, device=device, threads=threads, language=language)
    if language:
        raise ConfigError(
            f"a language was given, and {model} is no folder of Whisper; leave --language out"
        )
    return Transcriber(model, device=device, threads=threads)


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
    card = transcriber.card
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
