"""`serein serve` and `serein page`: the service, and its page without a service."""

from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, cast

import typer

from serein.cli.common import (
    MODEL_HELP,
    BackendOption,
    ClassesOption,
    ConfidenceOption,
    DeviceOption,
    TrustOption,
    parse_confidence,
    print_stderr,
    use_renamed_option,
)
from serein.errors import ConfigError

if TYPE_CHECKING:
    from serein.inference.backend import BackendSetting
    from serein.records import PrecisionSetting


def serve(
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help=f"{MODEL_HELP}; may be given several times."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="Port to listen at; 0 selects a free one.", min=0, max=65535)
    ] = 8000,
    key_file: Annotated[
        Path | None,
        typer.Option(help="File of API keys, lines of NAME HASH; default: no key is required."),
    ] = None,
    new_key: Annotated[
        str | None, typer.Option(help="Create a key of this name, add it to --key-file, and exit.")
    ] = None,
    max_seconds: Annotated[float, typer.Option(help="Longest audio of a request.")] = 300.0,
    max_megabytes: Annotated[float, typer.Option(help="Largest body of a request.")] = 32.0,
    max_requests: Annotated[
        int, typer.Option(help="Requests at a time; further ones get status 429.")
    ] = 64,
    max_window_seconds: Annotated[
        float, typer.Option(help="Longest sum of the windows of an answer by segments.")
    ] = 10_000.0,
    connections: Annotated[int, typer.Option(help="Open connections at a time.")] = 4096,
    head_seconds: Annotated[
        float, typer.Option(help="Time in which the head of a request must arrive.")
    ] = 15.0,
    batch: Annotated[
        int, typer.Option(help="Windows in a forward pass; 1 turns batching off.")
    ] = 16,
    wait: Annotated[
        float, typer.Option(help="Seconds to wait for further requests of a batch.")
    ] = 0.004,
    decoders: Annotated[int, typer.Option(help="Decoding processes.")] = 2,
    decode_seconds: Annotated[float, typer.Option(help="Time limit for decoding a file.")] = 20.0,
    decode_megabytes: Annotated[int, typer.Option(help="Memory limit for decoding a file.")] = 1024,
    decode_megasamples: Annotated[
        float, typer.Option(help="Most samples of a file, in millions, over all channels.")
    ] = 128.0,
    body_seconds: Annotated[float, typer.Option(help="Time in which a request may stall.")] = 30.0,
    answer_seconds: Annotated[
        float, typer.Option(help="Time in which a request must be answered.")
    ] = 60.0,
    origin: Annotated[
        list[str] | None, typer.Option(help="Allow requests of web pages of this origin (CORS).")
    ] = None,
    streams: Annotated[int, typer.Option(help="Open streams at a time; 0: none.")] = 64,
    stream_seconds: Annotated[
        float, typer.Option(help="Longest audio of a stream, and time that it may be open.")
    ] = 3600.0,
    stream_idle: Annotated[
        float, typer.Option(help="Seconds after which an idle stream is closed.")
    ] = 30.0,
    stream_megabytes: Annotated[float, typer.Option(help="Largest message of a stream.")] = 1.0,
    root_path: Annotated[
        str, typer.Option(help="Path of the service behind a proxy that removes it: /speech.")
    ] = "",
    threads: Annotated[int, typer.Option(help="CPU threads of the model.", min=1)] = 1,
    confidence: ConfidenceOption = "0",
    classes: ClassesOption = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or auto; default: that of the model's recipe.")
    ] = None,
    device: DeviceOption = "cpu",
    backend: BackendOption = "auto",
    trust: TrustOption = None,
    queue: Annotated[int | None, typer.Option("--queue", hidden=True)] = None,
) -> None:
    """Serve models over HTTP, with a web page at /."""
    from serein.config import build_config
    from serein.inference.model_loading import DEFAULT_MODEL, choose_for_many_windows
    from serein.inference.recognizer import Recognizer
    from serein.service.auth import add_key, read_keys
    from serein.service.config import ServiceConfig

    if new_key is not None:
        if key_file is None:
            raise ConfigError("--new-key needs --key-file, the file for the hash of the key")
        print(add_key(key_file, new_key))
        return
    max_requests = use_renamed_option("--queue", "--max-requests", queue, max_requests)
    service = _import_service()
    settings = {
        "max_seconds": max_seconds,
        "max_megabytes": max_megabytes,
        "max_requests": max_requests,
        "max_window_seconds": max_window_seconds,
        "connections": connections,
        "head_seconds": head_seconds,
        "batch": batch,
        "wait": wait,
        "decoders": decoders,
        "decode_seconds": decode_seconds,
        "decode_megabytes": decode_megabytes,
        "decode_megasamples": decode_megasamples,
        "body_seconds": body_seconds,
        "answer_seconds": answer_seconds,
        "origins": tuple(origin or ()),
        "streams": streams,
        "stream_seconds": stream_seconds,
        "stream_idle": stream_idle,
        "stream_megabytes": stream_megabytes,
    }
    config = build_config(ServiceConfig, settings, "serve")
    keys = None if key_file is None else read_keys(key_file)
    if keys is None and host not in ("127.0.0.1", "::1", "localhost"):
        print_stderr(f"everyone who can reach {host} may use this service; --key-file limits that")
    recognizer, *others = (
        Recognizer(
            name,
            device=device,
            trust=trust or (),
            threads=threads,
            confidence=parse_confidence(confidence),
            precision=cast("PrecisionSetting | None", precision),
            backend=cast("BackendSetting", choose_for_many_windows(backend, name)),
            classes=classes,
        )
        for name in model or [DEFAULT_MODEL]
    )
    for one in (recognizer, *others):
        for warning in one.warnings:
            print_stderr(f"{one.name}: {warning}")
    service.serve(
        recognizer, config, keys, others=others, host=host, port=port, root_path=root_path
    )


def page(
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write.")],
    model: Annotated[
        list[str] | None,
        typer.Option("-m", "--model", help=f"{MODEL_HELP}; may be given several times."),
    ] = None,
    confidence: ConfidenceOption = "0",
    classes: ClassesOption = None,
    ort_web: Annotated[
        Path | None,
        typer.Option(
            help="Archive (.tgz) of the npm package onnxruntime-web, or a folder with its files; "
            "default: fetched once from the npm registry."
        ),
    ] = None,
) -> None:
    """Write the web page as a folder of static files: the browser computes the model."""
    from serein.inference.model_loading import DEFAULT_MODEL
    from serein.service.static_page import (
        ORT_WEB_URL,
        is_ort_web_cached,
        write_static_page,
    )

    if ort_web is None and not is_ort_web_cached():
        print_stderr(f"fetching {ORT_WEB_URL} (33 MB) once; --ort-web names a local copy")
    written = write_static_page(
        output,
        model or [DEFAULT_MODEL],
        confidence=parse_confidence(confidence),
        classes=classes,
        ort_web=ort_web,
    )
    print(f"{written.folder}: {written.files} files, {written.size / 1e6:.1f} MB")
    print(f"any web server can serve it: python -m http.server -d {written.folder}")


def _import_service() -> ModuleType:
    """Import the service.

    Raises:
        ConfigError: a package of the extra ``serve`` is not installed.
    """
    try:
        from serein.service import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("serein"):
            raise
        raise ConfigError(
            f"serein serve needs {error.name}, which is not installed: pip install 'serein[serve]'"
        ) from error
    return app
