"""Commands that apply a saved model.

A folder of recordings to a table, as `serein recognize` does it.

The command that writes a model for other programs.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from serein.cli.common import (
    MODEL_HELP,
    DeviceOption,
    TrustOption,
    console,
    count_cores,
    print_stderr,
)
from serein.errors import AudioError, ConfigError, SereinError
from serein.utils.files import write_text

if TYPE_CHECKING:
    from serein.inference.folder import Summary
    from serein.inference.recognizer import Recognizer


OutputOption = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--output",
        help="Where answers go: .json, .csv, .rttm, .vtt; a folder's: .parquet, .csv, .jsonl.",
    ),
]
JobsOption = Annotated[
    int | None,
    typer.Option(help="Processes for a folder; default: one a core.", min=1),
]
EngineOption = Annotated[str, typer.Option(help="Who works on a folder: processes, or ray.")]
RetryOption = Annotated[
    bool, typer.Option("--retry", help="Try again what could not be read in a folder before.")
]


def recognize_folder(
    recognizer: "Recognizer",
    files: list[str],
    output: Path | None,
    jobs: int | None,
    engine: str,
    retry: bool,
    settings: dict[str, Any],
) -> None:
    """Recognise one folder, show how far it is, and say what came of it.

    Raises:
        ConfigError: several folders, or no output.
        typer.Exit: some files could not be read.
    """
    from serein.report.progress import FolderProgressBar

    if len(files) != 1:
        raise ConfigError(f"{len(files)} files and folders were given; give one folder at a time")
    if output is None:
        raise ConfigError(
            f"{files[0]} is a folder; say where its table goes: -o out.parquet (or .csv, .jsonl)"
        )
    with FolderProgressBar(console(stderr=True)) as tally:
        done = recognizer.folder(
            files[0],
            output,
            jobs=jobs or (count_cores() if engine == "processes" else None),
            engine=engine,
            retry=retry,
            progress=tally.update,
            **settings,
        )
    print(
        f"{output}: {done.recognized:,} recognised, {done.failed:,} failed, {_describe_run(done)}"
    )
    for reason in done.reasons.values():
        print_stderr(reason)
    if done.errors:
        print_stderr(f"{done.failed:,} files could not be read; {done.errors} says which and why")
        raise typer.Exit(1)


def _describe_run(summary: "Summary") -> str:
    """What this run had to do with it."""
    if not summary.seconds and summary.done_before:
        return "finished before"
    times = summary.seconds / max(summary.elapsed, 1e-9)
    earlier = f", {summary.done_before:,} of them before" if summary.done_before else ""
    return f"{summary.ignored:,} ignored{earlier}; {times:,.0f} times as fast as they were spoken"


def recognize(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings, or - for stdin; or one folder."),
    ],
    model: Annotated[str | None, typer.Option("-m", "--model", help=f"{MODEL_HELP}.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="table, json, csv, rttm, audformat or vtt.")
    ] = "table",
    start: Annotated[float, typer.Option(help="Where to begin, in seconds.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end, in seconds.")] = None,
    confidence: Annotated[
        str, typer.Option(help="Withhold less confident answers: 0 to 1, or auto.")
    ] = "0",
    output: OutputOption = None,
    jobs: JobsOption = None,
    engine: EngineOption = "processes",
    retry: RetryOption = False,
    window: Annotated[
        float | None, typer.Option(help="Segment by segment, heard by windows of so many seconds.")
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help="Seconds from one window to the next; 1 if not given.")
    ] = None,
    smooth: Annotated[
        int | None, typer.Option(help="Average so many hops, an odd number; 1 if not given.")
    ] = None,
    speech: Annotated[
        bool, typer.Option(help="Whether windows lie in speech alone, as silero-vad finds it.")
    ] = True,
    always: Annotated[
        bool, typer.Option("--always", help="Answer for recordings in which nobody speaks, too.")
    ] = False,
    channels: Annotated[str, typer.Option(help="mix, or each by itself.")] = "mix",
    device: DeviceOption = "cpu",
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or auto; else what the model's recipe says.")
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Recognise emotion in recordings; what cannot be read is listed and passed over.

    A recording gets one answer, or none where nobody speaks. --window, --hop, --smooth,
    --no-speech, --channels each, and the formats rttm, audformat and vtt give one for each segment
    of speech instead.
    """
    from serein.errors import UnknownName
    from serein.inference import formats
    from serein.inference.recognizer import DEFAULT_MODEL, Recognizer
    from serein.utils.device import PrecisionSetting

    if format not in formats.FORMATS:
        raise UnknownName("format", format, formats.FORMATS)
    of_folder = any(Path(file).is_dir() for file in files)
    if output is not None and not of_folder:
        _check_any_exists(files)
        format = formats.find_format(output) if format == "table" else format
    if channels not in ("mix", "each"):
        raise UnknownName("way to hear channels", channels, ("mix", "each"))
    given = {"window": window, "hop": hop, "smooth": smooth, "speech": None if speech else False}
    settings: dict[str, Any] = {name: one for name, one in given.items() if one is not None}
    timed = bool(settings) or channels == "each" or format in formats.SEGMENT_FORMATS
    if timed and always:
        settings["speech"] = False
    recognizer = Recognizer(
        model or DEFAULT_MODEL,
        device=device,
        trust=trust or (),
        confidence=parse_confidence(confidence),
        precision=cast(PrecisionSetting | None, precision),
        answer_nonspeech=always,
    )
    for words in recognizer.warnings:
        print_stderr(words)
    if of_folder:
        if format != "table" or start or end is not None or channels != "mix":
            raise ConfigError(
                "--format, --start, --end and --channels are for recordings, not for a folder"
            )
        recognize_folder(recognizer, files, output, jobs, engine, retry, settings)
        return
    if timed:
        recognizer.stream(**settings)  # settings that do not fit are told of once
        formats.check_format(format, recognizer.classes, len({*files}))
    answers, faults = [], {}
    for file in files:
        try:
            source = sys.stdin.buffer.read() if file == "-" else file
            if not timed:
                answers.append(recognizer(source, start=start, end=end))
                continue
            part: dict[str, Any] = {"start": start, "end": end, **settings}
            answers += [
                recognizer.timeline(source, **part, **one)
                for one in _channel_options(source, channels)
            ]
        except SereinError as error:
            faults[file] = str(error)
            print_stderr(str(error))
    if answers and format == "table":
        console().print(formats.as_table(answers))
    elif answers or format == "json":
        _write_or_print(formats.format_answers(format, answers, faults), output)
    elif output is not None:
        print_stderr(f"{output} was not written: nothing was recognised")
    if faults:
        raise typer.Exit(1)


def _check_any_exists(files: list[str]) -> None:
    """Where nothing of what was named is there, nobody knows whether a folder was meant."""
    if not any(file == "-" or Path(file).exists() for file in files):
        raise AudioError(f"there is no file or folder {', '.join(files)}. Check the path")


def _write_or_print(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    write_text(output, text)
    print(output)


def _channel_options(source: str | bytes, channels: str) -> list[dict[str, Any]]:
    """What is heard of a recording: each of its channels, or their mean."""
    from serein import audio

    if channels == "mix":
        return [{}]
    return [{"channel": number} for number in range(1, audio.channel_count(source) + 1)]


def parse_confidence(text: str) -> float | Literal["auto"]:
    """What ``--confidence`` says."""
    if text == "auto":
        return "auto"
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--confidence is {text!r}; expected 0 to 1, or auto") from None


def card(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP}.")] = None,
) -> None:
    """Print a model's card: its data, licence, scores, limits and use."""
    from serein.inference.formats import as_card
    from serein.inference.onnx_runtime import open_model
    from serein.inference.recognizer import DEFAULT_MODEL, find_model_file

    path = find_model_file(model or DEFAULT_MODEL)
    print(as_card(open_model(path)), end="")


def export(
    model: Annotated[str, typer.Argument(help=f"{MODEL_HELP}.")],
    onnx: Annotated[Path, typer.Option(help="The ONNX file to write: waveform in, answers out.")],
) -> None:
    """Write a model as ONNX, front end inside, once it answers there as it does here."""
    from serein.inference.onnx_export import to_onnx
    from serein.inference.onnx_runtime import open_model
    from serein.inference.recognizer import find_model_file

    to_onnx(open_model(find_model_file(model)), onnx)
    print(f"{onnx}: {onnx.stat().st_size / 1e6:.2f} MB")
