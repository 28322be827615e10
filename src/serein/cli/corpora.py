"""`serein corpora`: list, register, check, download and generate corpora."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from serein.cli.common import (
    CorporaOption,
    PartialOption,
    SeedOption,
    console,
    is_given,
    print_paths,
    use_renamed_option,
)
from serein.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    from rich.table import Table

    from serein.download.fetch import ProgressCallback
    from serein.download.integrity import IntegrityReport

MAX_EXAMPLES = 3
"""Files that ``check`` names of each kind."""

app = typer.Typer(help="List the corpora that can be read, and manage your copies.")


@app.callback(invoke_without_command=True)
def corpora(context: typer.Context) -> None:
    """List the corpora that can be read, and manage your copies."""
    if context.invoked_subcommand:
        return
    from rich.table import Table

    from serein.corpora import list_corpora

    table = Table("corpus", "content", "licence", "your copy", box=None, header_style="bold")
    table.columns[-1].overflow = "fold"
    for entry in list_corpora():
        location = str(entry.path) if entry.path else f"not added; available at {entry.about.home}"
        table.add_row(entry.name, entry.about.title, entry.about.licence, location)
    console().print(table)
    print("Add yours with `serein corpora add NAME PATH`.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A corpus with a reader, or a name for a table.")],
    path: Annotated[Path, typer.Argument(help="Folder of the corpus, or the table.")],
    partial: PartialOption = None,
) -> None:
    """Read a copy of a corpus, count its utterances and speakers, and remember its location."""
    from serein.corpora import register

    corpus = register(name, path, partial=bool(partial))
    speakers = len({utterance.speaker for utterance in corpus.utterances} - {None})
    print(f"{name}: {len(corpus.utterances)} utterances of {speakers} speakers at {path}")
    _print_notes(corpus.notes)


@app.command("check")
def check(
    corpus: Annotated[str, typer.Argument(help="NAME or NAME=PATH.")],
) -> None:
    """Compare a copy with the published corpus file by file; status 1 if they differ."""
    from serein.download.integrity import check_corpus

    report = check_corpus(corpus)
    print(f"{report.corpus}: {report.utterances} utterances of {report.speakers} speakers")
    _print_notes(report.notes)
    console().print(report_table(report))
    if report.incomplete_reason:
        print(f"incomplete: {report.incomplete_reason}")
    _print_content(corpus)
    _print_agreement(corpus)
    _print_nuisance(corpus)
    if not report.is_intact:
        raise typer.Exit(1)


def _print_content(name: str) -> None:
    """Print classes, speakers, durations and rates of a corpus, and what looks like a slip."""
    from serein import corpora as readers
    from serein.corpora._summary import summarize
    from serein.errors import SereinError

    try:
        for line in summarize(readers.load(name, partial=True).utterances):
            print(line)
    except SereinError as error:
        print(f"content: not described; {error}")


def _print_agreement(name: str) -> None:
    """Print the agreement on each label of which a corpus has several raters' answers."""
    from serein import corpora as readers
    from serein.errors import SereinError
    from serein.metrics.agreement import measure_agreement

    try:
        for agreement in measure_agreement(readers.load(name, partial=True).utterances):
            print(agreement)
    except SereinError as error:
        print(f"agreement of the raters: not computed; {error}")


@app.command("suspects")
def suspects(
    run: Annotated[Path, typer.Argument(help="Folder of an evaluation with folds.")],
    corpus: CorporaOption,
    task: Annotated[
        str | None, typer.Option(help="A classification task; default: the first.")
    ] = None,
    count: Annotated[
        int, typer.Option("-n", "--count", help="Recordings on the page.", min=1)
    ] = 100,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page to write; default: suspects.html in the run."),
    ] = None,
) -> None:
    """List labels that look wrong to models that were not trained on them, with their audio.

    The page has the most suspicious ones to listen to; the table beside it has all.
    """
    from serein import corpora as readers
    from serein.errors import CorpusError
    from serein.evaluation.suspects import encode_clip, find_suspects
    from serein.report.suspects import write_suspects
    from serein.results.io import load_results, resolve_results_file

    path = output or resolve_results_file(run).with_name("suspects.html")
    if path.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"-o {path}: expected a page, such as {path.with_suffix('.html')}")
    found = find_suspects(load_results(run), task)
    utterances = {one.id: one for one in readers.as_corpus(corpus, partial=True).utterances}
    missing = [one.id for one in found.suspects if one.id not in utterances]
    if missing:
        raise CorpusError(
            f"{', '.join(corpus)} lacks {missing[0]} of {run}, as {len(missing) - 1} more; "
            f"give the corpus of the run: {found.corpus}"
        )
    paths = write_suspects(found, path, count, lambda id_: encode_clip(utterances[id_]))
    print(
        f"{len(found.suspects)} of {found.utterances} labels of {found.task} look wrong to models "
        "that were not trained on them"
    )
    print_paths(paths)


def _print_nuisance(name: str) -> None:
    """Print how well numbers that are hardly voice tell the emotions of a corpus."""
    from serein import corpora as readers
    from serein.errors import SereinError
    from serein.evaluation.nuisance import NUMBERS, score_corpus

    numbers = f"a random forest on {', '.join(NUMBERS)}"
    try:
        utterances = readers.load(name, partial=True).utterances
        ua = score_corpus(utterances, readers.hash_contents(utterances))
    except ImportError:
        print(f"{numbers}: not computed; it needs scikit-learn, pip install 'serein[svm]'")
        return
    except SereinError as error:
        print(f"{numbers}: not computed; {error}")
        return
    if ua is not None:
        print(f"{numbers}: emotion with a UA of {100 * ua:.1f} %, tested on other speakers")


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="emodb, ravdess or librispeech.")],
    part: Annotated[str | None, typer.Argument(help="Such as dev-clean of librispeech.")] = None,
    to: Annotated[Path | None, typer.Option(help="Folder to create; default: ./NAME.")] = None,
) -> None:
    """Download a freely available corpus, check it, and remember its location."""
    from serein.corpora import list_corpora
    from serein.download import fetch as download

    archive = download.find_archive(name, part)
    about = next(entry.about for entry in list_corpora() if entry.name == name)
    print(f"{about.title}\nlicence: {about.licence}\nfrom: {download.archive_url(archive)}")
    folder = (to or Path(name)).expanduser().absolute()
    with progress_bar(archive.part) as update:
        report = download.fetch(archive, folder, progress=update)
    print(f"{report.utterances} utterances of {report.speakers} speakers in {folder}")


@app.command("make")
def make(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(help="A new folder.")],
    layout: Annotated[
        str | None,
        typer.Option(
            help="iemocap: noise in IEMOCAP's layout, with its 10,039 names, labels and durations."
        ),
    ] = None,
    speakers: Annotated[int, typer.Option(min=1)] = 8,
    sentences: Annotated[int, typer.Option(min=1)] = 3,
    words: Annotated[int, typer.Option(help="Words per sentence, one more or less.", min=1)] = 3,
    takes: Annotated[
        int, typer.Option(help="Recordings per speaker, sentence and emotion.", min=1)
    ] = 1,
    emotion_word_share: Annotated[
        float, typer.Option(help="Share of words that depend on the emotion.", min=0, max=1)
    ] = 0.0,
    emotions: Annotated[
        str | None, typer.Option(help="Such as anger,sadness; default: all.")
    ] = None,
    seed: SeedOption = 0,
    telling: Annotated[float | None, typer.Option("--telling", hidden=True, min=0, max=1)] = None,
) -> None:
    """Generate the synthetic corpus, or noise in the layout of a published corpus."""
    if layout is not None:
        _make_layout(context, layout, path, seed)
        return
    from serein.synthetic import EMOTION_STYLES, SyntheticConfig, generate

    config = SyntheticConfig(
        speakers=speakers,
        sentences=sentences,
        words=words,
        takes=takes,
        emotion_word_share=use_renamed_option(
            "--telling", "--emotion-word-share", telling, emotion_word_share
        ),
        emotions=tuple(emotions.split(",")) if emotions else tuple(EMOTION_STYLES),
        seed=seed,
    )
    utterances = generate(path, config)
    print(f"{path}: {len(utterances)} utterances; use it with --corpus synthetic={path}")


def _make_layout(context: typer.Context, layout: str, path: Path, seed: int) -> None:
    """Write a generated copy of a published corpus; only ``--seed`` applies to it."""
    if layout != "iemocap":
        raise UnknownName("layout", layout, ("iemocap",))
    speech_options = [
        f"--{name.replace('_', '-')}"
        for name in context.params
        if name not in ("path", "layout", "seed") and is_given(context, name)
    ]
    if speech_options:
        raise ConfigError(
            f"{', '.join(speech_options)}: --layout {layout} has the published corpus's own "
            "numbers; leave this out"
        )
    from serein.synthetic.iemocap import write_iemocap

    write_iemocap(path, seed=seed)
    print(f"{path}: 10,039 utterances of noise; use it with --corpus iemocap={path}")


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print(f"note: {note}")


def report_table(report: "IntegrityReport") -> "Table":
    """Format the result of a check as a table with a row for each kind of finding."""
    from rich.table import Table

    table = Table("files", "", box=None, header_style="bold")
    table.add_column("such as", overflow="fold")
    for count, description, examples in report_lines(report):
        table.add_row(str(count), description, examples)
    return table


def report_lines(report: "IntegrityReport") -> list[tuple[int, str, str]]:
    """List the findings of a check: number of files, description, some of the files."""
    if report.published_count:
        findings: list[tuple[int, str, tuple[str, ...]]] = [
            (report.intact_count, "identical to the published files", ()),
            (len(report.changed), "changed", report.changed),
            (len(report.missing), "missing", report.missing),
            (len(report.extra), "not in the published corpus", report.extra),
            (
                len(report.other_format),
                "in another format: only names and count were compared",
                report.other_format,
            ),
        ]
    else:
        findings = [(report.utterances, "utterances read; no published hashes to compare", ())]
    pairs = tuple(f"{first} = {second}" for first, second in report.duplicates)
    findings.append((len(pairs), "pairs of identical files", pairs))
    findings += [
        (
            len(report.copies),
            "pairs of copies or overlapping stretches of a recording",
            report.copies,
        ),
        (
            len(report.label_conflicts),
            "warning: pairs with the same audio and two labels",
            report.label_conflicts,
        ),
        (
            len(report.speaker_conflicts),
            "warning: pairs from one recording with two speakers",
            report.speaker_conflicts,
        ),
    ]
    return [
        (count, description, _list_examples(files))
        for count, description, files in findings
        if count
    ]


def _list_examples(files: tuple[str, ...]) -> str:
    return ", ".join(files[:MAX_EXAMPLES]) + ", ..." * (len(files) > MAX_EXAMPLES)


@contextmanager
def progress_bar(name: str) -> Iterator["ProgressCallback"]:
    """Show the progress of a download on standard error, if that is a terminal.

    Args:
        name: of the download.

    Yields:
        A function of the bytes received and the bytes in total.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    screen = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        console=screen,
        disable=not screen.is_terminal,
        transient=True,
    ) as progress:
        task = progress.add_task(name, total=None)
        yield lambda received, total: progress.update(task, completed=received, total=total)
