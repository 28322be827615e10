"""Commands that use a saved model: `serein recognize`, `card`, `export` and `push`."""

import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from serein.cli.common import (
    MODEL_HELP,
    BackendOption,
    ClassesOption,
    ConfidenceOption,
    DeviceOption,
    TrustOption,
    console,
    count_cores,
    parse_confidence,
    print_paths,
    print_stderr,
    use_renamed_option,
)
from serein.errors import AudioError, ConfigError, SereinError, UnknownName
from serein.inference.stream_config import StreamConfig
from serein.utils.files import write_text

if TYPE_CHECKING:
    from serein.inference.backend import BackendSetting
    from serein.inference.folder import Summary
    from serein.inference.onnx_export import ExportPrecision
    from serein.inference.recognition import Recognition
    from serein.inference.recognizer import Recognizer
    from serein.records import PrecisionSetting


def recognize(
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings, - for stdin, or one folder."),
    ],
    model: Annotated[str | None, typer.Option("-m", "--model", help=f"{MODEL_HELP}.")] = None,
    format: Annotated[
        str, typer.Option("--format", help="table, json, csv, rttm, audformat, vtt, label-studio.")
    ] = "table",
    start: Annotated[float, typer.Option(help="Start, in seconds.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="End, in seconds.")] = None,
    confidence: ConfidenceOption = "0",
    classes: ClassesOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="File for the answers: .json, .csv, .rttm, .vtt; "
            "for a folder: .parquet, .csv, .jsonl.",
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            help="Write the vectors that the model's heads read in place of answers, one for each "
            "recording or window: .parquet, .npz, .csv, .jsonl."
        ),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Processes for a folder; default: one per core.", min=1)
    ] = None,
    engine: Annotated[
        str, typer.Option(help="Where a folder is processed: processes or ray.")
    ] = "processes",
    retry: Annotated[
        bool, typer.Option("--retry", help="Try the files of a folder again that failed before.")
    ] = False,
    window: Annotated[
        float | None,
        typer.Option(help=f"Answer by segments: {StreamConfig.help('window')}."),
    ] = None,
    hop: Annotated[
        float | None, typer.Option(help=f"{StreamConfig.help('hop').capitalize()}.")
    ] = None,
    smooth: Annotated[
        int | None, typer.Option(help=f"{StreamConfig.help('smooth').capitalize()}.")
    ] = None,
    speech: Annotated[
        bool, typer.Option(help=f"Answer by segments: {StreamConfig.help('speech')}.")
    ] = True,
    answer_nonspeech: Annotated[
        bool, typer.Option("--answer-nonspeech", help="Also answer for recordings without speech.")
    ] = False,
    channels: Annotated[str, typer.Option(help="mix, or each separately.")] = "mix",
    words: Annotated[
        str | None,
        typer.Option(help="What is said in the recording, for a model that reads words."),
    ] = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = "auto",
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or auto; default: that of the recipe.")
    ] = None,
    trust: TrustOption = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", help="Print which backend computes the model.")
    ] = False,
    always: Annotated[bool | None, typer.Option("--always", hidden=True)] = None,
) -> None:
    """Recognize emotion in recordings. Files that cannot be read are listed and skipped.

    A recording gets one answer, or none if it has no speech: for one that is
    longer than the model's window, the class of at least half of its speech,
    or "mixed". --window, --hop, --smooth, --no-speech, --channels each, and the
    formats rttm, audformat and vtt give an answer for each segment of speech.
    """
    from serein.cli.embeddings import check_options, embed_files
    from serein.inference import formats
    from serein.inference.model_loading import DEFAULT_MODEL, choose_for_many_windows
    from serein.inference.recognizer import Recognizer

    if format not in formats.FORMATS:
        raise UnknownName("format", format, formats.FORMATS)
    is_folder = any(Path(file).is_dir() for file in files)
    if embeddings is not None:
        check_options(
            output=output,
            format=format != "table",
            channels=channels != "mix",
            classes=classes,
        )
    if output is not None and not is_folder:
        _check_any_exists(files)
        format = formats.find_format(output) if format == "table" else format
    if channels not in ("mix", "each"):
        raise UnknownName("value of --channels", channels, ("mix", "each"))
    answer_nonspeech = use_renamed_option(
        "--always", "--answer-nonspeech", always, answer_nonspeech
    )
    options = {"window": window, "hop": hop, "smooth": smooth, "speech": None if speech else False}
    settings = {name: value for name, value in options.items() if value is not None}
    by_segments = bool(settings) or channels == "each" or format in formats.SEGMENT_FORMATS
    if by_segments and answer_nonspeech:
        settings["speech"] = False
    if is_folder or by_segments:
        backend = choose_for_many_windows(backend, model or DEFAULT_MODEL)
    recognizer = Recognizer(
        model or DEFAULT_MODEL,
        device=device,
        trust=trust or (),
        confidence=parse_confidence(confidence),
        precision=cast("PrecisionSetting | None", precision),
        answer_nonspeech=answer_nonspeech,
        classes=classes,
        backend=cast("BackendSetting", backend),
    )
    for warning in recognizer.warnings:
        print_stderr(warning)
    if verbose:
        print_stderr(
            f"{recognizer.name} is computed by {recognizer.backend.name}, {recognizer.precision}"
        )
    if words is not None and (is_folder or by_segments or len(files) != 1):
        raise ConfigError(
            "--words are those of one recording with one answer; give one file, without options "
            "and formats for segments"
        )
    if is_folder:
        if format != "table" or start or end is not None or channels != "mix":
            raise ConfigError(
                "--format, --start, --end and --channels are for recordings, not for a folder"
            )
        _recognize_folder(recognizer, files, output, embeddings, jobs, engine, retry, settings)
        return
    if embeddings is not None:
        _check_any_exists(files)
        embed_files(recognizer, files, embeddings, {"start": start, "end": end, **settings}, words)
        return
    if by_segments:
        recognizer.stream(**settings)  # reports settings that do not fit before any file is read
        formats.check_format(format, recognizer.classes, len({*files}))
    else:
        recognizer.check_words(words)
    answers: list[Recognition] = []
    failures: dict[str, str] = {}
    for file in files:
        try:
            source = sys.stdin.buffer.read() if file == "-" else file
            if by_segments:
                part: dict[str, Any] = {"start": start, "end": end, **settings}
                answers += [
                    recognizer.timeline(source, channel=channel, **part)
                    for channel in _select_channels(source, channels)
                ]
            else:
                answers.append(recognizer(source, start=start, end=end, words=words))
        except SereinError as error:
            failures[file] = str(error)
            print_stderr(str(error))
    if answers and format == "table":
        console().print(formats.as_table(answers))
        for answer in answers:
            for headline in list(answer.headlines.values())[:1]:
                text = f"{Path(answer.source).name}: {headline}"
                console().print(text, highlight=False, markup=False, soft_wrap=True)
    elif answers or format == "json":
        computed = recognizer.describe_computation()
        _write_or_print(formats.format_answers(format, answers, failures, computed), output)
    elif output is not None:
        print_stderr(f"{output} was not written: no recording could be recognized")
    if failures:
        raise typer.Exit(1)


def _check_any_exists(files: list[str]) -> None:
    """Fail early if none of the files exists; they may be meant as recordings or as a folder.

    Raises:
        AudioError: none of them exists.
    """
    if not any(file == "-" or Path(file).exists() for file in files):
        raise AudioError(f"there is no file or folder {', '.join(files)}. Check the path")


def _select_channels(source: str | bytes, channels: str) -> Iterator[int | None]:
    """Yield the number of each channel, or None for the mean of all channels."""
    from serein import audio

    if channels == "mix":
        yield None
    else:
        yield from range(1, audio.channel_count(source) + 1)


def _write_or_print(text: str, output: Path | None) -> None:
    if output is None:
        print(text, end="")
        return
    write_text(output, text)
    print(output)


def _recognize_folder(
    recognizer: "Recognizer",
    files: list[str],
    output: Path | None,
    embeddings: Path | None,
    jobs: int | None,
    engine: str,
    retry: bool,
    settings: dict[str, Any],
) -> None:
    """Recognize or embed the recordings of a folder, with a progress bar, and print a summary.

    Raises:
        ConfigError: several folders, or no output.
        typer.Exit: some files could not be read.
    """
    from serein.report.progress import FolderProgressBar

    if len(files) != 1:
        raise ConfigError(f"{len(files)} files and folders were given; give one folder at a time")
    path = output if embeddings is None else embeddings
    if path is None:
        raise ConfigError(
            f"{files[0]} is a folder; give the file of its table: -o out.parquet (or .csv, .jsonl)"
        )
    process = recognizer.folder if embeddings is None else recognizer.embed_folder
    with FolderProgressBar(console(stderr=True)) as progress:
        summary = process(
            files[0],
            path,
            jobs=jobs or (count_cores() if engine == "processes" else None),
            engine=engine,
            retry=retry,
            progress=progress.update,
            **settings,
        )
    done = "recognized" if embeddings is None else "embedded"
    counts = f"{summary.recognized:,} {done}, {summary.failed:,} failed"
    print(f"{path}: {counts}, {_describe_run(summary)}")
    for reason in summary.reasons.values():
        print_stderr(reason)
    if summary.errors:
        print_stderr(
            f"could not be read: {summary.failed:,}; {summary.errors} lists them with reasons"
        )
        raise typer.Exit(1)


def _describe_run(summary: "Summary") -> str:
    """Describe what this run did, as opposed to earlier runs on the same folder."""
    if summary.done_before and summary.done_before >= summary.recognized + summary.failed:
        return "all of them in earlier runs"
    earlier = f", {summary.done_before:,} of them in earlier runs" if summary.done_before else ""
    counts = f"{summary.ignored:,} ignored{earlier}"
    if not summary.seconds:
        return counts
    speed = summary.seconds / max(summary.elapsed, 1e-9)
    return f"{counts}; {speed:,.0f} times real time"


def card(
    model: Annotated[str | None, typer.Argument(help=f"{MODEL_HELP}.")] = None,
    trust: TrustOption = None,
) -> None:
    """Print the card of a model: data, licence, scores, limits and use."""
    from serein.inference.formats import as_card
    from serein.inference.model_loading import DEFAULT_MODEL, find_model_file, open_backend

    opened = open_backend(find_model_file(model or DEFAULT_MODEL), trust=trust or ())
    print(as_card(opened.description), end="")


def export(
    model: Annotated[str, typer.Argument(help=f"{MODEL_HELP}.")],
    onnx: Annotated[
        Path,
        typer.Option(
            "-o", "--output", "--onnx", help="ONNX file to write; it maps samples to answers."
        ),
    ],
    precision: Annotated[
        str,
        typer.Option(
            help="fp32; fp16, of half the size; int8, smaller and faster, with some loss."
        ),
    ] = "fp32",
    trust: TrustOption = None,
) -> None:
    """Write a model with its front end as ONNX, and check that both give the same answers."""
    from serein.inference.model_loading import find_model_file, open_model
    from serein.inference.onnx_export import to_onnx
    from serein.inference.standalone_graph import build_exported_file

    path = find_model_file(model)
    opened, exported = open_model(path, trust=trust or ()), build_exported_file(path)
    difference = to_onnx(opened, onnx, cast("ExportPrecision", precision), exported=exported)
    print(
        f"{onnx}: {onnx.stat().st_size / 1e6:.2f} MB, {precision}; "
        f"its outputs differ by at most {difference:.1g} on noise"
    )


def push(
    model: Annotated[str, typer.Argument(help=f"{MODEL_HELP}.")],
    repository: Annotated[str, typer.Argument(help="Repository on the hub: ORG/NAME.")],
    revision: Annotated[str, typer.Option(help="Branch; a new one is created.")] = "main",
    run: Annotated[
        list[Path] | None,
        typer.Option(help="Evaluation of the model's recipe, whose scores become metrics."),
    ] = None,
    licence: Annotated[
        str, typer.Option(help="The hub's identifier of the licence, such as mit.")
    ] = "",
    language: Annotated[
        list[str] | None, typer.Option(help="Language of the training data, such as de.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="The hub's name of a training corpus.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Make a new repository private.")
    ] = False,
    message: Annotated[str, typer.Option(help="Message of the commit.")] = "Upload a serein model",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Write the files to this folder; upload nothing."),
    ] = None,
    trust: TrustOption = None,
) -> None:
    """Upload a model with its card, its ONNX form if it has one, and hashes of the files.

    The token is the one of `hf auth login`, or HF_TOKEN.
    """
    from serein.inference.hub import import_hub, parse_hub_name, upload_folder
    from serein.inference.hub_card import HubMetadata, write_hub_files
    from serein.inference.model_loading import find_model_file, open_model
    from serein.results.io import load_results

    name = parse_hub_name(repository)
    if name.revision != "main" and revision != "main":
        raise ConfigError(f"{repository} and --revision {revision}: give the branch once")
    name = name._replace(revision=revision) if revision != "main" else name
    import_hub()
    results = tuple(load_results(folder) for folder in run or ())
    metadata = HubMetadata(licence, tuple(language or ()), tuple(dataset or ()), results)
    source = find_model_file(model)
    bundle = open_model(source, trust=trust or ())
    with TemporaryDirectory(prefix="serein-push-") as temporary:
        folder = output or Path(temporary)
        files, notes = write_hub_files(bundle, source, folder, name.repository, metadata)
        for note in notes:
            print_stderr(note)
        if output is not None:
            print_paths(folder / file for file in files)
            return
        address = upload_folder(folder, files, name, private=private, message=message)
    print(f"{name}: {', '.join(files)}")
    print(address)
