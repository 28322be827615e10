"""`serein transcribe`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import (
    DeviceOption,
    OptionalCorporaOption,
    PartialOption,
    console,
    print_stderr,
    resolve_corpus,
)
from serein.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from serein.inference.transcribe import Transcriber
    from serein.records import Corpus, Finding, LeftOut
    from serein.results.inference import Transcription, WordScores


def transcribe(
    model: Annotated[
        str,
        typer.Option(
            "-m", "--model", help="A model with a transcript task, or the folder of a Whisper."
        ),
    ],
    files: Annotated[
        list[str] | None, typer.Argument(metavar="[FILE]...", help="Recordings.")
    ] = None,
    corpus: OptionalCorporaOption = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="File (.json) for words, times and scores."),
    ] = None,
    language: Annotated[
        str,
        typer.Option(help="Language of the speech for Whisper, such as de; without, detected."),
    ] = "",
    times: Annotated[bool, typer.Option(help="Print the time of each word.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Select utterances of the corpus: --set protocol.only.style=improvised, "
            "--set protocol.max_duration=20, --set tasks.emotion.scheme=four.",
        ),
    ] = None,
    device: DeviceOption = "cpu",
    partial: PartialOption = None,
) -> None:
    """Transcribe recordings, or a corpus and score its word error rate."""
    from serein.evaluation.provenance import command_line, utc_now
    from serein.inference.transcribe import build_record, open_transcriber
    from serein.records import Corpus, Utterance
    from serein.results import io

    if bool(files) == bool(corpus):
        raise ConfigError("found both recordings and --corpus, or neither; give one of the two")
    transcriber = open_transcriber(model, device=device, language=language)
    left_out: Sequence[LeftOut] = ()
    leakage: list[Finding] = []
    if files:
        if set_:
            raise ConfigError("--set selects utterances of a corpus; give it with --corpus")
        utterances = tuple(Utterance(id=name, path=Path(name)) for name in files)
        source = Corpus(name="files", utterances=utterances)
    else:
        source, left_out, leakage = _select_corpus(
            transcriber, resolve_corpus(corpus or [], partial), set_ or []
        )
    failures: list[str] = []
    transcriptions: list[Transcription] = []
    for transcription in transcriber.transcribe_each(
        source.utterances, lambda _, error: failures.append(str(error))
    ):
        print(_format_transcription(transcription, times=times), flush=True)
        transcriptions.append(transcription)
    record = build_record(
        transcriber,
        source,
        transcriptions,
        failures,
        command=command_line(),
        created=utc_now(),
        left_out=left_out,
        leakage=leakage,
    )
    if record.scores:
        print(_format_scores(record.scores))
    if output:
        io.save_record(record, output)
    for failure in failures:
        print_stderr(failure)
    if failures:
        print_stderr(f"{len(failures)} of {len(source.utterances)} recordings could not be read")
        sys.exit(1)


def _select_corpus(
    transcriber: "Transcriber", corpus: "list[str] | Corpus", settings: list[str]
) -> "tuple[Corpus, Sequence[LeftOut], list[Finding]]":
    """Select the utterances to transcribe, and check them against the model's training data."""
    from serein import corpora
    from serein.evaluation.training_overlap import check_training_overlap
    from serein.evaluation.utterance_filter import (
        describe_filtered_corpus,
        select_for_transcription,
    )

    filtered = select_for_transcription(corpora.as_corpus(corpus), transcriber.recipe, settings)
    if filtered.left_out:
        line = f"transcribes {describe_filtered_corpus(filtered)}"
        console(stderr=True).print(line, highlight=False, soft_wrap=True, markup=False)
    leakage = check_training_overlap(transcriber.card, filtered.corpus)
    for finding in leakage:
        if finding.verdict == "warning":
            print_stderr(f"warning: {finding.description}, such as {', '.join(finding.examples)}")
    return filtered.corpus, filtered.left_out, leakage


def _format_transcription(transcription: "Transcription", *, times: bool) -> str:
    words = transcription.text
    if times:
        words = " ".join(
            word.word if word.time is None else f"{word.word}@{word.time:.2f}"
            for word in transcription.words
        )
    cut = " (cut: no end of the text was predicted)" if transcription.bounded else ""
    return f"{transcription.id}: {words}{cut}"


def _format_scores(scores: "WordScores") -> str:
    low, high = scores.wer_interval or (None, None)
    rate = "undefined" if scores.wer is None else f"{scores.wer:.1%}"
    interval = "" if low is None else f" ({low:.1%} to {high:.1%})"
    return (
        f"WER {rate}{interval}: {scores.substitutions} substitutions, "
        f"{scores.deletions} deletions, {scores.insertions} insertions in {scores.words} words "
        f"of {scores.utterances} utterances, {scores.unknown} of them not in the vocabulary; "
        f"{scores.interval}"
    )
