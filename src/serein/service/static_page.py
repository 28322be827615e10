"""Write the web page as a folder of static files, whose models the browser computes.

The folder has the scripts of the service's page (``page``); ``api.js`` and ``live.js``, which send
requests to the service, are replaced by those of ``page/browser``, which compute the same answers
with onnxruntime-web. Its files come from the npm registry once and are kept in the cache.
"""

import gzip
import hashlib
import json
import re
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any, Literal
from urllib.request import urlopen

from serein.errors import ConfigError, StorageError
from serein.inference.formats import as_card
from serein.inference.model_loading import find_model_file, get_model_name
from serein.inference.onnx_backend import ONNXBackend
from serein.inference.predictor import POOLING_FRONT_ENDS
from serein.inference.recognizer import Recognizer
from serein.inference.standalone_graph import build_standalone_graph
from serein.inference.vad import SILERO_FOLDER
from serein.labels.class_sets import ClassSet, find_columns, find_prior_factors
from serein.model_file import read_bytes
from serein.registry import PACKAGE_ROOT
from serein.service.page import CONTENT_SECURITY_POLICY, list_files
from serein.utils.files import cache_folder, write_bytes

ORT_WEB_VERSION = "1.30.0"
ORT_WEB_URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{ORT_WEB_VERSION}.tgz"
ORT_WEB_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
"""Digest of the package's archive."""
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
ORT_WEB_FILES = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""Files of the package that the page needs, in its folder ``dist``, with their digests."""
TIMEOUT_SECONDS = 60
BLOCK_BYTES = 1 << 18

PAGE_FOLDER = PACKAGE_ROOT / "service" / "page"
REPLACED = ("api.js", "live.js")
"""Scripts of the page that the ones of the folder ``browser`` replace."""
LIST = "models/models.json"
POLICY = re.sub(
    "script-src 'self'",
    "script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'",
    CONTENT_SECURITY_POLICY.partition("; frame-ancestors")[0],
)
"""As that of the service, and WebAssembly; a ``meta`` element cannot forbid frames."""
HEAD = f"""<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<script src="page/browser/check.js" defer></script>
"""
CHARSET = '<meta charset="utf-8">\n'
STORED = "Nothing that you send is stored."
KEPT = "Everything is computed in this browser; no recording leaves this device."
MAX_SECONDS = 60.0
"""Longest recording whose answer appears at once; a longer one is drawn while it is computed."""
MAX_STREAM_SECONDS = 3600.0
"""Longest recording; the browser holds all its samples."""
MAX_BYTES = 2**40
"""Larger than any file, which is not sent anywhere."""


@dataclass(frozen=True)
class StaticPage:
    """What was written.

    Attributes:
        folder: of the page.
        files: number of files.
        size: of all files, in bytes.
        models: names of the models.
    """

    folder: Path
    files: int
    size: int
    models: tuple[str, ...]


def write_static_page(
    folder: Path,
    models: Sequence[str],
    *,
    confidence: float | Literal["auto"] = 0.0,
    classes: ClassSet | None = None,
    ort_web: Path | None = None,
) -> StaticPage:
    """Write a page that recognizes recordings in the browser.

    Args:
        folder: to write; it is empty, does not exist, or has an earlier page, which is replaced.
        models: as for ``Recognizer``; the first one is the default.
        confidence: as for ``Recognizer``.
        classes: as for ``Recognizer``.
        ort_web: archive of the npm package onnxruntime-web, or a folder with its files; None
            takes the ones of the cache, or fetches them.

    Raises:
        ConfigError: the folder has other files, a model cannot be exported, or onnxruntime-web
            cannot be fetched or is of another version.
        BundleError: a model is missing or damaged.
        StorageError: a file could not be written.
    """
    _check_folder(folder)
    repeated = [name for name in models if models.count(name) > 1]
    if repeated:
        raise ConfigError(f"the model {repeated[0]} is given twice; name each model once")
    contents = {name: build_standalone_graph(find_model_file(name)) for name in models}
    recognizers = {
        name: _open_recognizer(name, content, confidence, classes)
        for name, content in contents.items()
    }
    runtime = load_ort_web(ort_web)
    files = {f"page/{name}": (PAGE_FOLDER / name).read_bytes() for name in list_files()}
    index = files.pop("page/index.html").decode()
    files["index.html"] = _adapt_index(index).encode()
    for file in sorted((PAGE_FOLDER / "browser").iterdir()):
        place = "page/browser/" if file.suffix == ".js" else ""
        files[f"{place}{file.name}"] = file.read_bytes()
    for name in REPLACED:
        files[f"page/{name}"] = f'export * from "./browser/{name}";\n'.encode()
    files[f"page/onnxruntime-web/{Path(SCRIPT).stem}.js"] = runtime[SCRIPT]  # hosts know .js
    files[f"page/onnxruntime-web/{WASM}.gz"] = gzip.compress(runtime[WASM], 5, mtime=0)
    files["models/speech-encoder.onnx"] = read_bytes(SILERO_FOLDER / "encoder.onnx")
    files["models/speech-recurrence.onnx"] = read_bytes(SILERO_FOLDER / "recurrence.onnx")
    paths = {name: f"models/model-{number}.onnx" for number, name in enumerate(models, 1)}
    files |= {paths[name]: content for name, content in contents.items()}
    document = {
        "runtime": {
            "wasm": _list_file(f"page/onnxruntime-web/{WASM}.gz", files, runtime[WASM]),
            "encoder": _list_file("models/speech-encoder.onnx", files),
            "recurrence": _list_file("models/speech-recurrence.onnx", files),
        },
        "models": [
            _describe_model(recognizers[name]) | {"file": _list_file(paths[name], files)}
            for name in models
        ],
    }
    files[LIST] = json.dumps(document, indent=1).encode()
    _write_files(folder, files)
    size = sum(map(len, files.values()))
    names = tuple(recognizer.name for recognizer in recognizers.values())
    return StaticPage(folder, len(files), size, names)


def _check_folder(folder: Path) -> None:
    """Check that nothing but an earlier page is overwritten.

    Raises:
        ConfigError: the folder has other files.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file; name a folder with -o")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / LIST).is_file():
        raise ConfigError(
            f"{folder} has files that are not of an earlier page; name a new or an empty folder"
        )


def _write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their paths, and remove models of an earlier page.

    Raises:
        StorageError: a file could not be written.
    """
    try:
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        for place in ("models/*.onnx", "page/onnxruntime-web/*"):
            for old in folder.glob(place):
                if old.relative_to(folder).as_posix() not in files:
                    old.unlink()
    except OSError as error:
        raise StorageError(
            f"could not write {error.filename or folder}: {error.strerror or error}; the page in "
            f"{folder} is incomplete. Free some space, or choose another folder, and write it again"
        ) from error


def _open_recognizer(
    model: str, content: bytes, confidence: float | Literal["auto"], classes: ClassSet | None
) -> Recognizer:
    """Open a model with onnxruntime: the bundle with a graph beside it, or what was exported."""
    path = find_model_file(model)
    if path.with_suffix(".graph.json").is_file() or path.suffix == ".onnx":
        return Recognizer(model, confidence=confidence, classes=classes, backend="onnx")
    with TemporaryDirectory() as place:
        exported = Path(place) / "model.onnx"
        exported.write_bytes(content)
        opened = Recognizer(exported, confidence=confidence, classes=classes, backend="onnx")
    opened.name = get_model_name(model)
    return opened


def _describe_model(recognizer: Recognizer) -> dict[str, Any]:
    """Return a model as in the answer of ``/v1/models``, and what the browser computes with."""
    backend, description = recognizer.backend, recognizer.description
    assert isinstance(backend, ONNXBackend)
    class_set = {}
    for task, selected in recognizer.class_set.items():
        classes, fitted = description.classes[task], description.confidence.get(task)
        columns = find_columns(selected, classes)
        temperature = fitted.temperature if fitted else 1.0
        prior_k = find_prior_factors(description.recipe.model, classes, temperature)
        class_set[task] = {"columns": columns, "priors": [prior_k[column] for column in columns]}
    return {
        "name": recognizer.name,
        "classes": {task: list(names) for task, names in recognizer.classes.items()},
        "rate": recognizer.rate,
        "window": recognizer.window,
        "thresholds": recognizer.thresholds,
        "words": recognizer.word_source,
        "max_seconds": MAX_SECONDS,
        "max_bytes": MAX_BYTES,
        "max_stream_seconds": MAX_STREAM_SECONDS,
        "backend": "onnx",
        "precision": backend.precision,
        "card": as_card(description),
        "hop": description.hop,
        "maps": backend.strides,
        "dimensions": {name: asdict(own) for name, own in recognizer.dimension_sources.items()},
        "class_set": class_set,
        "trims_silence": description.recipe.features.get("name") in POOLING_FRONT_ENDS,
    }


def _list_file(
    path: str, files: Mapping[str, bytes], unpacked: bytes | None = None
) -> dict[str, Any]:
    """Return the entry of a file in the list of models, by which the browser checks it."""
    content = files[path] if unpacked is None else unpacked
    digest = hashlib.sha256(content).hexdigest()
    return {"path": path, "bytes": len(files[path]), "size": len(content), "sha256": digest}


def _adapt_index(index: str) -> str:
    """Return the page's document with its policy, and without what only a service has."""
    for text, replacement in ((CHARSET, CHARSET + HEAD), (STORED, KEPT)):
        if index.count(text) != 1:
            raise AssertionError(f"index.html has {text!r} {index.count(text)} times, expected 1")
        index = index.replace(text, replacement)
    return index


def load_ort_web(source: Path | None = None) -> dict[str, bytes]:
    """Return the files of onnxruntime-web, by name.

    Args:
        source: archive of the npm package, or a folder with its files; None takes the ones of the
            cache, or fetches the archive from the npm registry.

    Raises:
        ConfigError: they cannot be read or fetched, or are of another version.
        StorageError: the cache cannot be written.
    """
    if source is not None and source.is_dir():
        return _read_folder(source)
    if source is not None:
        try:
            with source.open("rb") as file:
                return _unpack(file, str(source))
        except OSError as error:
            raise ConfigError(f"cannot read {source}: {error.strerror}") from error
    cached = cache_folder() / f"onnxruntime-web-{ORT_WEB_VERSION}"
    try:
        return _read_folder(cached)
    except ConfigError:  # missing or damaged
        files = _fetch()
    for name, content in files.items():
        write_bytes(cached / name, content)
    return files


def is_ort_web_cached() -> bool:
    """Return whether the files of onnxruntime-web are in the cache."""
    cached = cache_folder() / f"onnxruntime-web-{ORT_WEB_VERSION}"
    return all((cached / name).is_file() for name in ORT_WEB_FILES)


def _read_folder(folder: Path) -> dict[str, bytes]:
    places = (folder, folder / "dist", folder / "package" / "dist")
    place = next((own for own in places if (own / SCRIPT).is_file()), None)
    if place is None:
        raise ConfigError(f"{folder} has no {SCRIPT}; expected the files of {_describe_package()}")
    try:
        files = {name: (place / name).read_bytes() for name in ORT_WEB_FILES}
    except OSError as error:
        raise ConfigError(
            f"cannot read {error.filename}: {error.strerror}; expected the files of "
            f"{_describe_package()}"
        ) from error
    for name, content in files.items():
        _check_digest(content, ORT_WEB_FILES[name], str(place / name))
    return files


def _fetch() -> dict[str, bytes]:
    """Fetch the archive of the npm package.

    Raises:
        ConfigError: it cannot be fetched, or is not the published one.
    """
    try:
        with TemporaryFile() as file:
            with urlopen(ORT_WEB_URL, timeout=TIMEOUT_SECONDS) as response:
                while block := response.read(BLOCK_BYTES):
                    file.write(block)
            return _unpack(file, ORT_WEB_URL)
    except (OSError, HTTPException) as error:
        raise ConfigError(
            f"{ORT_WEB_URL} cannot be fetched: {error}. Try again later; or get this file on "
            f"another machine (npm pack onnxruntime-web@{ORT_WEB_VERSION}) and give it with "
            "--ort-web"
        ) from error


def _unpack(file: IO[bytes], name: str) -> dict[str, bytes]:
    """Return the files that the page needs of an archive, which must be the published one."""
    file.seek(0)
    hashed = hashlib.sha256()
    while block := file.read(BLOCK_BYTES):
        hashed.update(block)
    digest = hashed.hexdigest()
    if digest != ORT_WEB_SHA256:
        raise _other_version(name, digest, ORT_WEB_SHA256)
    file.seek(0)
    files = {}
    with tarfile.open(fileobj=file) as archive:
        for own in ORT_WEB_FILES:
            member = archive.extractfile(f"package/dist/{own}")
            assert member is not None, own
            files[own] = member.read()
    return files


def _check_digest(content: bytes, expected: str, name: str) -> None:
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise _other_version(name, digest, expected)


def _other_version(name: str, found: str, expected: str) -> ConfigError:
    return ConfigError(
        f"{name} is not that of {_describe_package()}: its SHA-256 begins with {found[:16]}, "
        f"expected {expected[:16]}. Get it with npm pack onnxruntime-web@{ORT_WEB_VERSION}"
    )


def _describe_package() -> str:
    return f"the npm package onnxruntime-web {ORT_WEB_VERSION}"
