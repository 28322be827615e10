"""Commands about corpora.

Checks and downloads on a terminal.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from serein.cli.common import PartialOption, SeedOption, console
from serein.download.fetch import ProgressCallback as Told
from serein.download.integrity import IntegrityReport

if TYPE_CHECKING:
    from collections.abc import Iterable


app = typer.Typer(help="What can be read, and where your copies are.")


@app.callback(invoke_without_command=True)
def corpora(context: typer.Context) -> None:
    """What can be read, and where your copies are."""
    if context.invoked_subcommand:
        return
    from rich.table import Table

    from serein.corpora import list_corpora

    table = Table("corpus", "what", "licence", "your copy", box=None, header_style="bold")
    table.columns[-1].overflow = "fold"
    for entry in list_corpora():
        place = str(entry.path) if entry.path else f"not added; get it: {entry.about.home}"
        table.add_row(entry.name, entry.about.title, entry.about.licence, place)
    console().print(table)
    print("Add yours with `serein corpora add NAME PATH`.")


@app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A corpus that serein reads, or a table's name.")],
    path: Annotated[Path, typer.Argument(help="Its folder, or the table.")],
    partial: PartialOption = None,
) -> None:
    """Check a copy of a corpus, count and content, and remember where it is."""
    from serein.corpora import register

    corpus = register(name, path, partial=bool(partial))
    speakers = len({utterance.speaker for utterance in corpus.utterances} - {None})
    print(f"{name}: {len(corpus.utterances)} utterances of {speakers} speakers at {path}")
    _print_notes(corpus.notes)


def _print_notes(notes: "Iterable[str]") -> None:
    for note in notes:
        print(f"note: {note}")


@app.command("check")
def check(
    corpus: Annotated[str, typer.Argument(help="NAME or NAME=PATH.")],
) -> None:
    """Compare a copy with the published corpus, file by file; status 1 if it is not whole."""

    from serein.download.integrity import check_corpus

    found = check_corpus(corpus)
    print(f"{found.corpus}: {found.utterances} utterances of {found.speakers} speakers")
    _print_notes(found.notes)
    console().print(report_table(found))
    if found.incomplete_reason:
        print(f"not whole: {found.incomplete_reason}")
    if not found.is_intact:
        raise typer.Exit(1)


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="emodb, ravdess or librispeech.")],
    part: Annotated[str | None, typer.Argument(help="Such as dev-clean of librispeech.")] = None,
    to: Annotated[Path | None, typer.Option(help="Its folder; default: ./NAME.")] = None,
) -> None:
    """Download a corpus that may be had freely, check it, and remember where it is."""

    from serein.corpora import list_corpora
    from serein.download import fetch as copies

    archive = copies.find_archive(name, part)
    about = next(entry.about for entry in list_corpora() if entry.name == name)
    print(f"{about.title}\nlicence: {about.licence}\nfrom: {copies.archive_url(archive)}")
    folder = (to or Path(name)).expanduser().absolute()
    with progress_bar(archive.part, console(stderr=True)) as tell:
        found = copies.fetch(archive, folder, progress=tell)
    print(f"{found.utterances} utterances of {found.speakers} speakers in {folder}")


@app.command("make")
def make(
    path: Annotated[Path, typer.Argument(help="A new folder.")],
    speakers: Annotated[int, typer.Option(min=1)] = 8,
    sentences: Annotated[int, typer.Option(min=1)] = 3,
    words: Annotated[int, typer.Option(help="Of a sentence, give or take one.", min=1)] = 3,
    takes: Annotated[int, typer.Option(help="How often each says the same.", min=1)] = 1,
    telling: Annotated[
        float, typer.Option(help="Share of words that tell the emotion.", min=0, max=1)
    ] = 0.0,
    emotions: Annotated[str | None, typer.Option(help="Such as anger,sadness; else all.")] = None,
    seed: SeedOption = 0,
) -> None:
    """Generate the synthetic corpus."""
    from serein.synthetic import EMOTION_STYLES, SyntheticConfig, generate

    settings = SyntheticConfig(
        speakers=speakers,
        sentences=sentences,
        words=words,
        takes=takes,
        emotion_word_share=telling,
        emotions=tuple(emotions.split(",")) if emotions else tuple(EMOTION_STYLES),
        seed=seed,
    )
    made = generate(path, settings)
    print(f"{path}: {len(made)} utterances; use it with --corpus synthetic={path}")


MAX_EXAMPLES = 3


def report_table(check: IntegrityReport) -> Table:
    """A line for each thing that was found."""
    table = Table("files", "", box=None, header_style="bold")
    table.add_column("such as", overflow="fold")
    for count, words, examples in report_lines(check):
        table.add_row(str(count), words, examples)
    return table


def report_lines(check: IntegrityReport) -> list[tuple[int, str, str]]:
    """What was found: how many files, what they are, and some of them."""
    found: list[tuple[int, str, tuple[str, ...]]] = [
        (check.intact_count, "as published, byte by byte", ()),
        (len(check.changed), "changed", check.changed),
        (len(check.missing), "missing", check.missing),
        (len(check.extra), "not in the published corpus", check.extra),
        (
            len(check.other_format),
            "in another format: only names and count were compared",
            check.other_format,
        ),
    ]
    if not check.published_count:
        found = [(check.utterances, "utterances read; no hashes are known to compare with", ())]
    pairs = tuple(f"{one} = {other}" for one, other in check.duplicates)
    found.append((len(pairs), "repeat another one, byte by byte", pairs))
    return [
        (
            count,
            words,
            ", ".join(examples[:MAX_EXAMPLES]) + ", ..." * (len(examples) > MAX_EXAMPLES),
        )
        for count, words, examples in found
        if count
    ]


@contextmanager
def progress_bar(name: str, console: Console) -> Iterator[Told]:
    """Show how far a download is, and nothing where no person watches.

    Args:
        name: what is downloaded.
        console: where to show it.

    Yields:
        What is told the bytes that are here, and how many there are.
    """
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    ) as shown:
        task = shown.add_task(name, total=None)
        yield lambda here, total: shown.update(task, completed=here, total=total)
