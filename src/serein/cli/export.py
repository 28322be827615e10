"""The command that writes a model for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from serein.cli.common import MODEL_HELP


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
