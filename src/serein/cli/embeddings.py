"""`serein recognize --embeddings`: vectors of recordings in place of answers."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from serein.cli.common import print_stderr
from serein.errors import ConfigError, SereinError

if TYPE_CHECKING:
    from serein.inference.recognizer import Recognizer


def check_options(**options: object) -> None:
    """Check that no option of answers is given; names are those of the options.

    Raises:
        ConfigError: one is.
    """
    given = [f"--{name}" for name, value in options.items() if value]
    if given:
        raise ConfigError(
            f"--embeddings writes vectors, and {', '.join(given)} is for answers; leave it out, or "
            "run the command once for each"
        )


def embed_files(
    recognizer: "Recognizer",
    files: list[str],
    output: Path,
    part: dict[str, Any],
    words: str | None,
) -> None:
    """Write the vectors of recordings to a table; those that cannot be read are listed and skipped.

    Args:
        recognizer: the model.
        files: recordings; - is stdin.
        output: table to write.
        part: start and end, and settings of windows.
        words: of the only recording, for a model that reads words.

    Raises:
        ConfigError: the model has no vectors, or the settings do not fit it.
        StorageError: the table could not be written.
        typer.Exit: a recording could not be read.
    """
    import pyarrow as pa

    from serein.inference import tables
    from serein.inference.embedding import choose_task, get_width

    choose_task(recognizer, None)
    tables.find_writer(output, embeddings=True)
    settings = {name: value for name, value in part.items() if name not in ("start", "end")}
    if settings:
        recognizer.stream(**settings)  # reports settings that do not fit before any file is read
    else:
        recognizer.check_words(words)
    model = tables.describe_model(recognizer)
    rows: list[tables.Row] = []
    failed = embedded = 0
    for file in files:
        try:
            source = sys.stdin.buffer.read() if file == "-" else file
            embedding = recognizer.embed(source, words=words, **part)
        except SereinError as error:
            failed += 1
            print_stderr(str(error))
            continue
        own = tables.build_embedding_rows(embedding.source, embedding, model)
        rows += [row for row in own if tables.EMBEDDING_COLUMN in row]
        embedded += 1
        if not len(embedding.vectors):
            print_stderr(f"{embedding.source} has no speech, and so no windows")
    width = get_width(recognizer)
    if embedded:
        table = pa.Table.from_pylist(rows, tables.build_embedding_schema(width))
        tables.write_table(table.drop_columns([tables.REASON_COLUMN]), output)
        print(
            f"{output}: {len(rows):,} vectors of {width:,} values from {embedded:,} recordings, "
            f"{failed:,} failed"
        )
    else:
        print_stderr(f"{output} was not written: no recording could be read")
    if failed:
        raise typer.Exit(1)
