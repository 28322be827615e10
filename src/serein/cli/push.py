"""`serein push`: upload a model to the Hugging Face hub."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from serein.cli.common import MODEL_HELP, TrustOption, print_paths, print_stderr
from serein.errors import ConfigError


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
