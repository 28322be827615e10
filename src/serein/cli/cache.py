"""`serein cache`: place and size of the cache, and removal of what is in it."""

from typing import Annotated

import typer

from serein.cli.common import console
from serein.errors import ConfigError

SECONDS_PER_DAY = 86_400

app = typer.Typer(help="Show the cache of features, and clear it.")


@app.callback(invoke_without_command=True)
def cache(context: typer.Context) -> None:
    """Show the cache of features, and clear it."""
    if context.invoked_subcommand:
        return
    import os
    import time

    from rich.table import Table

    from serein.utils.cache import LIMIT_VARIABLE, format_size, list_entries
    from serein.utils.files import cache_folder

    entries = list_entries()
    table = Table("content", "entries", "size", "last used", box=None, header_style="bold")
    for kind in sorted({entry.kind for entry in entries}):
        own = [entry for entry in entries if entry.kind == kind]
        last = time.strftime("%Y-%m-%d", time.localtime(max(entry.used_at for entry in own)))
        table.add_row(kind, str(len(own)), format_size(sum(entry.size for entry in own)), last)
    print(f"{cache_folder()}: {format_size(sum(entry.size for entry in entries))}")
    if entries:
        console().print(table)
    limit = os.environ.get(LIMIT_VARIABLE)
    print(f"limit: {limit or 'none'} ({LIMIT_VARIABLE}=5GB sets one; SEREIN_CACHE sets the folder)")
    print("`serein cache clear` removes everything, with --keep 5GB the least recently used")


@app.command("clear")
def clear(
    keep: Annotated[
        str | None, typer.Option(help="Keep this much, the most recently used: 5GB.")
    ] = None,
    older_than: Annotated[
        float, typer.Option(help="Remove only what was not used for so many days.", min=0)
    ] = 0,
) -> None:
    """Remove entries of the cache; they are computed again when they are needed."""
    from serein.utils import cache as entries
    from serein.utils.files import cache_folder

    folder = cache_folder()
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is no folder; SEREIN_CACHE must name one")
    removed = entries.clear(
        keep_bytes=entries.parse_size(keep, "--keep") if keep else 0,
        older_than_seconds=older_than * SECONDS_PER_DAY,
    )
    freed = entries.format_size(sum(entry.size for entry in removed))
    left = entries.format_size(sum(entry.size for entry in entries.list_entries()))
    print(f"{folder}: removed {len(removed)} entries, {freed}; {left} left")
