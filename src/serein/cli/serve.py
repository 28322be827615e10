"""The command that serves a saved model over HTTP."""

from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from serein.cli.common import MODEL_HELP, DeviceOption, TrustOption, print_stderr
from serein.cli.recognize import parse_confidence
from serein.errors import ConfigError


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help=f"{MODEL_HELP}; several are chosen by name."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.", min=0, max=65535)] = 8000,
    key_file: Annotated[
        Path | None, typer.Option(help="Who may call: lines of NAME HASH; default: everybody.")
    ] = None,
    new_key: Annotated[
        str | None, typer.Option(help="Make a key of this name, add it to --key-file, and end.")
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="Of audio in a request.")] = 300.0,
    max_megabytes: Annotated[float, typer.Option(help="Of a request's body.")] = 32.0,
    queue: Annotated[int, typer.Option(help="Requests at a time; more are told to wait.")] = 64,
    batch: Annotated[int, typer.Option(help="Windows in a forward pass; 1: no batches.")] = 16,
    wait: Annotated[float, typer.Option(help="Seconds to wait for a batch's others.")] = 0.004,
    decoders: Annotated[int, typer.Option(help="Processes that decode.")] = 1,
    decode_seconds: Annotated[float, typer.Option(help="That decoding a file may take.")] = 20.0,
    decode_megabytes: Annotated[int, typer.Option(help="That decoding a file may take.")] = 1024,
    body_seconds: Annotated[float, typer.Option(help="In which a request must come.")] = 30.0,
    answer_seconds: Annotated[float, typer.Option(help="In which it is answered.")] = 60.0,
    origin: Annotated[
        list[str] | None, typer.Option(help="Let pages of this origin call (CORS).")
    ] = None,
    streams: Annotated[int, typer.Option(help="Streams at a time; 0: none.")] = 64,
    stream_seconds: Annotated[float, typer.Option(help="Of audio in a stream.")] = 3600.0,
    stream_idle: Annotated[float, typer.Option(help="In which a stream must go on.")] = 30.0,
    stream_megabytes: Annotated[float, typer.Option(help="Of a stream's message.")] = 1.0,
    threads: Annotated[int, typer.Option(help="Processor threads of the model.", min=1)] = 1,
    confidence: Annotated[
        str, typer.Option(help="Withhold less confident answers: 0 to 1, or auto.")
    ] = "0",
    device: DeviceOption = "cpu",
    trust: TrustOption = None,
) -> None:
    """Serve models over HTTP, with a page at /, until it is told to end (extra: serve)."""
    from serein import config
    from serein.inference.recognizer import DEFAULT_MODEL, Recognizer
    from serein.service import auth as key_files
    from serein.service.config import ServiceConfig

    if new_key is not None:
        print(key_files.add_key(_require_key_file(key_file), new_key))
        return
    server = _import_server()
    chosen = {
        "max_seconds": max_seconds,
        "max_megabytes": max_megabytes,
        "queue": queue,
        "batch": batch,
        "wait": wait,
        "decoders": decoders,
        "decode_seconds": decode_seconds,
        "decode_megabytes": decode_megabytes,
        "body_seconds": body_seconds,
        "answer_seconds": answer_seconds,
        "origins": tuple(origin or ()),
        "streams": streams,
        "stream_seconds": stream_seconds,
        "stream_idle": stream_idle,
        "stream_megabytes": stream_megabytes,
    }
    settings = config.build_config(ServiceConfig, chosen, "serve")
    keys = None if key_file is None else key_files.read_keys(key_file)
    if keys is None and host not in ("127.0.0.1", "::1", "localhost"):
        print_stderr(f"everybody who reaches {host} may use this service; --key-file says who may")
    recognizer, *others = (
        Recognizer(
            one,
            device=device,
            trust=trust or (),
            threads=threads,
            confidence=parse_confidence(confidence),
        )
        for one in model or [DEFAULT_MODEL]
    )
    server.serve(recognizer, settings, keys, others=others, host=host, port=port)


def _require_key_file(key_file: Path | None) -> Path:
    if key_file is None:
        raise ConfigError("--new-key needs --key-file, where the key's hash is kept")
    return key_file


def _import_server() -> ModuleType:
    """What serves, if all that it needs is installed."""
    try:
        from serein.service import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("serein"):
            raise
        raise ConfigError(
            f"serein serve needs {error.name}, which is not installed: pip install 'serein[serve]'"
        ) from error
    return app
