"""The command line: parse, call, print. What a command does is imported when it runs."""

import signal
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from serein.errors import ConfigError, SereinError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

    from serein.results import Results

app = typer.Typer(
    name="serein",
    help="Speech emotion recognition, end to end and multitask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
corpora_app = typer.Typer(help="What can be read, and where your copies are.")
app.add_typer(corpora_app, name="corpora")

CorpusOption = Annotated[
    str,
    typer.Option("--corpus", help="NAME, NAME=FOLDER, or NAME=TABLE (csv, tsv, jsonl, parquet)."),
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a setting: --set training.epochs=20.")
]
SeedOption = Annotated[int, typer.Option(help="Of weights, order and dropout.", min=0)]
DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto.")]
TrustOption = Annotated[
    list[str] | None, typer.Option(help="A module of your own that the model may import.")
]


class Interrupted(BaseException):
    """Ctrl-C; of a kind that no library takes for its own."""


def main() -> None:
    """Run the command line; a fault is one line and status 1, or 2 where it was asked wrongly."""
    sys.path.append(str(Path.cwd()))  # last: a user's own my_lab/podcast.py, never another torch
    signal.signal(signal.SIGINT, _interrupt)
    try:
        app()
    except SereinError as error:
        _complain(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except Interrupted:
        _complain("interrupted; what was finished is kept: run the same command again to go on")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


@app.command()
def recognize(
    files: Annotated[
        list[str], typer.Argument(metavar="FILE...", help="Recordings, or - for stdin.")
    ],
    model: Annotated[str | None, typer.Option(help="A shipped model's name, or a bundle.")] = None,
    format: Annotated[str, typer.Option("--format", help="table, json or csv.")] = "table",
    start: Annotated[float, typer.Option(help="Where to begin, in seconds.", min=0)] = 0.0,
    end: Annotated[float | None, typer.Option(help="Where to end, in seconds.")] = None,
    device: DeviceOption = "cpu",
    trust: TrustOption = None,
) -> None:
    """Recognise emotion in recordings; what cannot be read is listed and passed over."""
    from serein.errors import UnknownName
    from serein.inference import formats
    from serein.inference.recognizer import DEFAULT, Recognizer

    if format not in formats.FORMATS:
        raise UnknownName("format", format, formats.FORMATS)
    recognizer = Recognizer(model or DEFAULT, device=device, trust=trust or ())
    answers, faults = [], {}
    for file in files:
        try:
            source = sys.stdin.buffer.read() if file == "-" else file
            answers.append(recognizer(source, start=start, end=end))
        except SereinError as error:
            faults[file] = str(error)
            _complain(str(error))
    if format == "json":
        print(formats.as_json(answers, faults))
    elif answers and format == "csv":
        print(formats.as_csv(answers), end="")
    elif answers:
        _console().print(formats.as_table(answers))
    if faults:
        raise typer.Exit(1)


@app.command()
def evaluate(
    corpus: CorpusOption,
    recipe: Annotated[str | None, typer.Argument(help="A recipe's name, or a TOML file.")] = None,
    model: Annotated[str | None, typer.Option(help="Score this saved model instead.")] = None,
    set_: SetOption = None,
    seed: SeedOption = 0,
    jobs: Annotated[
        int | None, typer.Option(help="Folds at a time; default: one a core.", min=1)
    ] = None,
    device: DeviceOption = "cpu",
    runs: Annotated[Path, typer.Option(help="Where run folders are made.")] = Path("runs"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget an earlier run.")] = False,
    trust: TrustOption = None,
) -> None:
    """Train and test a recipe on every fold, or score a saved model; write a report."""
    from serein import store

    if (recipe is None) == (model is None):
        raise ConfigError("give a recipe to train and test, or --model to score a saved one")
    if model is not None:
        import hashlib

        from serein.bundle import load
        from serein.experiment.judge import judge
        from serein.inference.recognizer import located

        path = located(model)
        saved = load(path, device=device, trust=trust or ())
        results = judge(saved, corpus, name=path.stem, settings=set_ or ())
        mark = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        folder = runs / f"{results.name}-{mark}"
        store.save(results, folder)
    else:
        from serein.experiment.evaluate import evaluate as run

        results, folder, anew = run(
            str(recipe),
            corpus,
            settings=set_ or (),
            seed=seed,
            jobs=jobs or _cores(),
            device=device,
            runs=runs,
            fresh=fresh,
            started=_shown,
        )
        if not anew:
            _complain(f"finished {results.created} and read from disk; --fresh runs it again")
    _show(results, folder)


@app.command()
def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name, or a TOML file.")],
    corpus: CorpusOption,
    output: Annotated[Path, typer.Option("-o", "--output", help="The model to write.")],
    set_: SetOption = None,
    seed: SeedOption = 0,
    device: DeviceOption = "cpu",
    run: Annotated[
        Path | None, typer.Option(help="An evaluation whose median epoch and scores to take.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="A TOML file with the card's words.")] = None,
) -> None:
    """Train on a whole corpus and save the model."""
    from serein import config, recipes
    from serein.experiment.train import prepared
    from serein.experiment.train import train as fit
    from serein.report.progress import Course
    from serein.training.settings import Settings

    chosen = prepared(recipes.load(recipe, set_ or ()), run)
    epochs = config.build(Settings, chosen.training, "training").epochs
    with Course(1, epochs, _console(stderr=True)) as course:
        fit(
            chosen,
            corpus,
            output,
            seed=seed,
            device=device,
            run=run,
            card=card,
            progress=lambda epoch: course.tell("all", epoch),
        )
    print(f"{output}: {output.stat().st_size / 1e6:.2f} MB, {epochs} epochs")


@app.command()
def recipes() -> None:
    """List the systems of the papers, with their published scores."""
    from rich.table import Table

    from serein import recipes as shelf

    table = Table("recipe", "paper", "system", "published", box=None, header_style="bold")
    for name in shelf.names():
        about = shelf.load(name).about
        table.add_row(name, *(str(about.get(key, "")) for key in ("paper", "system", "published")))
    _console().print(table)


@app.command()
def card(
    model: Annotated[
        str | None, typer.Argument(help="A shipped model's name, or a bundle.")
    ] = None,
) -> None:
    """Print a model's card: its data, licence, scores, limits and use."""
    from serein.bundle import load
    from serein.inference.formats import as_card
    from serein.inference.recognizer import DEFAULT, located

    path = located(model or DEFAULT)
    print(as_card(load(path)), end="")


@app.command()
def report(
    run: Annotated[Path, typer.Argument(help="A run's folder, or its results.json.")],
) -> None:
    """Show a finished run again, and write its report anew."""
    from serein import store

    _show(store.load(run), store.results_file(run).parent)


@app.command()
def quickstart(
    folder: Annotated[Path, typer.Option(help="Where everything is put.")] = Path(
        "runs/quickstart"
    ),
) -> None:
    """Evaluate, train and recognise on generated speech: no network, no data of yours, a minute."""
    from serein.quickstart import run

    run(folder, _console(), _cores(), _shown)


@corpora_app.callback(invoke_without_command=True)
def corpora(context: typer.Context) -> None:
    """What can be read, and where your copies are."""
    if context.invoked_subcommand:
        return
    from rich.table import Table

    from serein.corpora import listing

    table = Table("corpus", "what", "licence", "your copy", box=None, header_style="bold")
    for entry in listing():
        place = str(entry.place) if entry.place else f"not added; get it: {entry.about.home}"
        table.add_row(entry.name, entry.about.title, entry.about.licence, place)
    _console().print(table)
    print("Add yours with `serein corpora add NAME PATH`.")


@corpora_app.command("add")
def add(
    name: Annotated[str, typer.Argument(help="A corpus that serein reads, or a table's name.")],
    path: Annotated[Path, typer.Argument(help="Its folder, or the table.")],
) -> None:
    """Check a copy of a corpus, count and content, and remember where it is."""
    from serein.corpora import remember

    corpus = remember(name, path)
    speakers = len({utterance.speaker for utterance in corpus.utterances} - {None})
    print(f"{name}: {len(corpus.utterances)} utterances of {speakers} speakers at {path}")


@corpora_app.command("check")
def check(
    corpus: Annotated[str, typer.Argument(help="NAME or NAME=PATH.")],
) -> None:
    """Compare a copy with the published corpus, file by file; status 1 if it is not whole."""
    from serein.copies.check import checked
    from serein.copies.terminal import as_table

    found = checked(corpus)
    print(f"{found.corpus}: {found.utterances} utterances of {found.speakers} speakers")
    _console().print(as_table(found))
    if not found.intact:
        raise typer.Exit(1)


@corpora_app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="emodb, ravdess or librispeech.")],
    part: Annotated[str | None, typer.Argument(help="Such as dev-clean of librispeech.")] = None,
    to: Annotated[Path | None, typer.Option(help="Its folder; default: ./NAME.")] = None,
) -> None:
    """Download a corpus that may be had freely, check it, and remember where it is."""
    from serein.copies import fetch as copies
    from serein.copies.terminal import Bar
    from serein.corpora import listing

    archive = copies.archive(name, part)
    about = next(entry.about for entry in listing() if entry.name == name)
    print(f"{about.title}\nlicence: {about.licence}\nfrom: {copies.address(archive)}")
    folder = (to or Path(name)).expanduser().absolute()
    with Bar(archive.part, _console(stderr=True)) as bar:
        found = copies.fetch(archive, folder, progress=bar.tell)
    print(f"{found.utterances} utterances of {found.speakers} speakers in {folder}")


@corpora_app.command("make")
def make(
    path: Annotated[Path, typer.Argument(help="A new folder.")],
    speakers: Annotated[int, typer.Option(min=1)] = 8,
    sentences: Annotated[int, typer.Option(min=1)] = 3,
    seed: SeedOption = 0,
) -> None:
    """Generate the synthetic corpus."""
    from serein.synthetic import Settings, generate

    made = generate(path, Settings(speakers=speakers, sentences=sentences, seed=seed))
    print(f"{path}: {len(made)} utterances; use it with --corpus synthetic={path}")


def _show(results: "Results", folder: Path) -> None:
    from serein.report import page, terminal

    page.write(results, folder)
    _console().print(terminal.render(results))
    print(f"\n{folder / 'results.json'}\n{folder / 'report.html'}")


@contextmanager
def _shown(plan: Any) -> "Iterator[Callable[..., None]]":
    """Say what will be done, and show how far it is."""
    from serein.report.progress import Course

    console = _console(stderr=True)
    folds, epochs = len(plan.protocol.folds), plan.training.epochs
    console.print(
        f"{plan.recipe.name} on {plan.corpus.name}: {len(plan.corpus.utterances)} utterances, "
        f"{plan.protocol.name}, {folds} folds x {epochs} epochs, in {plan.folder}",
        highlight=False,
        soft_wrap=True,
    )
    with Course(folds, epochs, console) as course:
        yield course.tell


def _console(*, stderr: bool = False) -> "Console":
    from rich.console import Console

    return Console(stderr=stderr)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted


def _complain(words: str) -> None:
    print(f"serein: {' '.join(words.split())}", file=sys.stderr)


def _cores() -> int:
    import os

    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1
