"""The command that writes down words."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import (
    DeviceOption,
    OptionalCorporaOption,
    PartialOption,
    print_stderr,
    resolve_corpus,
)
from serein.errors import ConfigError

if TYPE_CHECKING:
    from serein.results.inference import Transcription, WordScores


def transcribe(
    model: Annotated[str, typer.Option("-m", "--model", help="A model that finds words.")],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Recordings.")
    ] = None,
    corpus: OptionalCorporaOption = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="A .json for words, times and scores.")
    ] = None,
    times: Annotated[bool, typer.Option(help="Print when each word is said.")] = False,
    device: DeviceOption = "cpu",
    partial: PartialOption = None,
) -> None:
    """Write down the words of recordings, or of a corpus with its word error rate."""
    from serein.evaluation.provenance import command_line, utc_now
    from serein.inference.transcribe import Transcriber, build_record
    from serein.records import Corpus, Utterance
    from serein.results import io

    if bool(files) == bool(corpus):
        raise ConfigError("give recordings, or a corpus with --corpus; found both or neither")
    transcriber = Transcriber(model, device=device)
    if files:
        recordings = tuple(Utterance(id=name, path=Path(name)) for name in files)
        read = Corpus(name="files", utterances=recordings)
    else:
        from serein import corpora

        read = corpora.read(resolve_corpus(corpus or [], partial))
    faults: list[str] = []
    found: list[Transcription] = []
    for one in transcriber.transcribe_each(
        read.utterances, lambda _, error: faults.append(str(error))
    ):
        print(_format_transcription(one, times=times), flush=True)
        found.append(one)
    told = build_record(transcriber, read, found, faults, command=command_line(), created=utc_now())
    if told.scores:
        print(_format_scores(told.scores))
    if output:
        io.save_transcriptions(told, output)
    for fault in faults:
        print_stderr(fault)
    if faults:
        print_stderr(f"{len(faults)} of {len(read.utterances)} recordings could not be read")
        sys.exit(1)


def _format_transcription(transcription: "Transcription", *, times: bool) -> str:
    words = transcription.text
    if times:
        words = " ".join(
            word.word if word.time is None else f"{word.word}@{word.time:.2f}"
            for word in transcription.words
        )
    return (
        f"{transcription.id}: {words}{' (stopped: the words did not end)' * transcription.bounded}"
    )


def _format_scores(scores: "WordScores") -> str:
    low, high = scores.wer_interval or (None, None)
    rate = "undefined" if scores.wer is None else f"{scores.wer:.1%}"
    between = "" if low is None else f" ({low:.1%} to {high:.1%})"
    return (
        f"WER {rate}{between}: {scores.substitutions} substitutions, {scores.deletions} deletions, "
        f"{scores.insertions} insertions in {scores.words} words of {scores.utterances} "
        f"utterances, {scores.unknown} of them unknown to the model; {scores.interval}"
    )
