"""The command line. A command imports what it needs when it runs, so that --help stays fast."""

import signal
import sys
import warnings
from pathlib import Path
from typing import Annotated, TextIO

import typer

from serein.cli import (
    cache,
    corpora,
    evaluate,
    explain,
    plan,
    recognize,
    reproduce,
    search,
    serve,
    sweep,
    train,
    transcribe,
)
from serein.cli.common import print_stderr
from serein.errors import ConfigError, SereinError, SereinWarning, describe_missing_package

app = typer.Typer(
    name="serein",
    help="Speech emotion recognition, end to end and multitask.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
COMMANDS = (
    recognize.recognize,
    explain.explain,
    transcribe.transcribe,
    plan.plan,
    evaluate.evaluate,
    evaluate.compare,
    reproduce.reproduce,
    search.search,
    sweep.sweep,
    evaluate.report,
    train.train,
    train.recipes,
    evaluate.protocols,
    recognize.card,
    recognize.export,
    recognize.push,
    serve.serve,
    serve.page,
    train.quickstart,
)

TRAINING_COMMANDS = {"evaluate", "plan", "quickstart", "reproduce", "search", "sweep", "train"}
"""Commands that train networks in their own process."""


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        import serein

        print(f"serein {serein.__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", help="Print it.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """Speech emotion recognition, end to end and multitask."""
    from serein.utils.distributed import tune_process

    tune_process(trains=context.invoked_subcommand in TRAINING_COMMANDS)


for command in COMMANDS:
    app.command()(command)
app.add_typer(corpora.app, name="corpora")
app.add_typer(cache.app, name="cache")


class Interrupted(BaseException):
    """Ctrl-C. A BaseException of our own, so that no library catches it."""


def main() -> None:
    """Run a command. An error is printed as one line; the exit status is then 1, or 2 for usage."""
    # Last, so that a user's my_lab/podcast.py is found, but no file there replaces a library.
    sys.path.append(str(Path.cwd()))
    signal.signal(signal.SIGINT, _interrupt)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("default", category=FutureWarning)
            warnings.showwarning = _show_warning
            app()
    except SereinError as error:
        print_stderr(str(error))
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except ModuleNotFoundError as error:
        if not (message := describe_missing_package(error)):
            raise
        print_stderr(message)
        sys.exit(2)
    except Interrupted:
        print_stderr("interrupted; finished parts are kept: run the same command again to continue")
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)


def _interrupt(number: int, frame: object) -> None:
    raise Interrupted


_show_warning_in_full = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print warnings that are for users as one line, without their location in the source."""
    if issubclass(category, FutureWarning | SereinWarning):
        print_stderr(str(message))
    else:
        _show_warning_in_full(message, category, filename, lineno, file, line)
