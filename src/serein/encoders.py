"""Pretrained speech encoders on disk: where one lies, what it is, and what it is known by.

An encoder is a folder in the manner of ``transformers``: config.json, preprocessor_config.json, and
weights in safetensors, which run no code. A name of the Hugging Face hub is such a folder in the
hub's cache. It is known by the SHA-256 of these files, wherever they lie.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from serein.errors import EncoderError

CONFIG_FILES = ("config.json", "preprocessor_config.json")
WEIGHT_PATTERNS = ("model.safetensors", "model-*.safetensors")
PICKLE_PATTERNS = ("*.bin", "*.pt", "*.pth", "*.ckpt")
HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")
ENCODER_FOLDER_VARIABLE = "SEREIN_ENCODERS"
"""Environment variable: a folder of encoders, looked into by the last part of a name."""
SAMPLE_RATE = 16_000
"""Hz that every one of these encoders hears."""


def find_encoder(name: str, revision: str = "main", *, download: bool = False) -> Path:
    """The folder of an encoder.

    Args:
        name: its folder, or its name on the hub.
        revision: branch, tag or commit on the hub.
        download: whether the hub may be asked; else nothing leaves this machine.

    Raises:
        EncoderError: it is not here, or the hub does not give it.
    """
    if not name:
        raise EncoderError(
            "no encoder is named; give a folder or a name of the hub that holds safetensors, such "
            "as --set features.encoder=FOLDER (model.encoder of a model that is fine-tuned)"
        )
    shelf = os.environ.get(ENCODER_FOLDER_VARIABLE)
    places = [Path(name).expanduser(), *([Path(shelf) / Path(name).name] if shelf else [])]
    for place in places:
        if (place / "config.json").is_file():
            return place
    if not HUB_NAME.fullmatch(name) or places[0].exists():
        raise EncoderError(
            f"no encoder in {name}: it has no config.json. Expected a folder that "
            f"save_pretrained wrote; put it there, or into a folder that {ENCODER_FOLDER_VARIABLE} names"
        )
    return _find_hub_encoder(name, revision, download)


def _find_hub_encoder(name: str, revision: str, download: bool) -> Path:
    """The folder of a hub's encoder in the hub's own cache; fetched into it where one may."""
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_transformers_error() from error
    wanted = [*CONFIG_FILES, *WEIGHT_PATTERNS]
    try:
        found = snapshot_download(
            name, revision=revision, allow_patterns=wanted, local_files_only=not download
        )
    except Exception as error:  # the hub's errors and its client's have no base in common
        if download:
            raise EncoderError(f"the hub does not give {name} ({revision}): {error}") from error
        found = ""
    if found and (Path(found) / "config.json").is_file():
        return Path(found)
    raise EncoderError(
        f"the encoder {name} ({revision}) is not here: neither a folder nor in the hub's cache. "
        f"Get it with `hf download {name} --revision {revision}`, let a recipe do so with "
        f"download = true beside encoder, or copy its folder into one that {ENCODER_FOLDER_VARIABLE} names"
    )


def missing_transformers_error() -> EncoderError:
    """That ``transformers`` is not installed, in words."""
    return EncoderError(
        "pretrained encoders need transformers, which is not installed: pip install 'serein[ssl]'"
    )


def find_weight_files(folder: Path) -> list[Path]:
    """The files of an encoder's weights, sorted.

    Raises:
        EncoderError: there are none that run no code.
    """
    found = sorted({file for pattern in WEIGHT_PATTERNS for file in folder.glob(pattern)})
    if found:
        return found
    pickles = sorted(file.name for pattern in PICKLE_PATTERNS for file in folder.glob(pattern))
    raise EncoderError(
        f"{folder} holds no model.safetensors"
        + (f", but {pickles[0]}, a pickle, which could run code when read" if pickles else "")
        + "; take a revision in safetensors (many hubs' conversions are refs/pr/N), or convert it "
        "with save_pretrained where you trust it"
    )


def hash_encoder(folder: Path) -> str:
    """The SHA-256 of an encoder's settings and weights.

    Raises:
        EncoderError: there are no weights, or they cannot be read.
    """
    files = [
        file for name in CONFIG_FILES if (file := folder / name).is_file()
    ] + find_weight_files(folder)
    return _hash_encoder_files(tuple((file, *_size_and_mtime(file)) for file in files))


def _size_and_mtime(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@cache
def _hash_encoder_files(files: tuple[tuple[Path, int, int], ...]) -> str:
    """Read once a process: weights are gigabytes."""
    mark = hashlib.sha256()
    for path, size, _ in files:
        mark.update(f"{path.name} {size}\n".encode())
        try:
            with path.open("rb") as file:
                mark.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise EncoderError(f"cannot read the encoder's {path}: {error.strerror}") from error
    return mark.hexdigest()


def verify_encoder(name: str, folder: Path, sha256: str) -> str:
    """The SHA-256 of an encoder, which must be the one that is wanted, if any is.

    Raises:
        EncoderError: it is another one.
    """
    found = hash_encoder(folder)
    if sha256 and found != sha256:
        raise EncoderError(
            f"the encoder {name} in {folder} is another one: its SHA-256 is {found[:16]}..., and "
            f"{sha256[:16]}... is wanted. Get the one that the model was trained with, or train "
            "the model anew"
        )
    return found


def get_encoder_hash(settings: Mapping[str, Any]) -> str:
    """The SHA-256 by which the settings of a front end or a model know their encoder.

    Raises:
        EncoderError: it is not here.
    """
    if settings.get("sha256") or settings.get("architecture"):
        return str(settings.get("sha256", ""))
    name, revision = settings.get("encoder", ""), settings.get("revision", "main")
    return hash_encoder(find_encoder(name, revision, download=settings.get("download", False)))


def read_encoder_config(folder: Path) -> dict[str, Any]:
    """An encoder's config.json, and whether it wants waveforms standardised ("do_normalize").

    Raises:
        EncoderError: a file is no JSON, or it hears another rate than 16 kHz.
    """
    config = _read_json(folder / CONFIG_FILES[0])
    heard = _read_json(folder / CONFIG_FILES[1]) if (folder / CONFIG_FILES[1]).is_file() else {}
    rate = heard.get("sampling_rate", SAMPLE_RATE)
    if rate != SAMPLE_RATE:
        raise EncoderError(f"the encoder in {folder} hears {rate} Hz; expected {SAMPLE_RATE}")
    return {**config, "do_normalize": bool(heard.get("do_normalize", True))}


def _read_json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EncoderError(f"{file} is no description of an encoder: {error}") from error
    if not isinstance(found, dict):
        raise EncoderError(f"{file} is no description of an encoder: expected a JSON object")
    return found
