"""API keys, of which only hashes are stored.

A line of the key file is ``NAME HASH``; HASH is the SHA-256 of the key in hexadecimal. Keys have 32
random bytes and cannot be found by trying, so that a slow hash would add nothing.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from serein.errors import ConfigError, StorageError

KEY_LINE = re.compile(r"([\w.@-]+)\s+([0-9a-f]{64})")


class ApiKeys:
    """The keys of those who may use the service."""

    def __init__(self, hashes: dict[str, str]) -> None:
        """Create from hashes by the names of the holders."""
        self._hashes = hashes

    @property
    def names(self) -> list[str]:
        """Names of the holders."""
        return list(self._hashes)

    def find_holder(self, key: str) -> str | None:
        """Return the name of the holder of a key, or None; takes the same time for every key."""
        given, holder = hash_key(key), None
        for name, known in self._hashes.items():
            if hmac.compare_digest(given, known):
                holder = name
        return holder


def hash_key(key: str) -> str:
    """Return the SHA-256 of a key in hexadecimal."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> ApiKeys:
    """Read a key file.

    Raises:
        ConfigError: it cannot be read, a line is not ``NAME HASH``, or it holds no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a key file: {error}") from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = KEY_LINE.fullmatch(line.strip())
        if match is None or match[1] in hashes:
            fault = "the name of an earlier line" if match else "no name and SHA-256"
            raise ConfigError(
                f"{path}, line {number}: {fault}; expected NAME HASH, each name once. "
                f"Create keys with `serein serve --new-key NAME --key-file {path}`."
            )
        hashes[match[1]] = match[2]
    if not hashes:
        raise ConfigError(
            f"{path} holds no key; create one: `serein serve --new-key NAME --key-file {path}`"
        )
    return ApiKeys(hashes)


def add_key(path: Path, name: str) -> str:
    """Create a key, and add its hash to a key file that only its owner may read.

    Returns:
        The key, which is stored nowhere.

    Raises:
        ConfigError: the name is in use or has characters that are not allowed.
        StorageError: the file cannot be written.
    """
    names = read_keys(path).names if path.exists() and path.stat().st_size else []
    if name in names or not KEY_LINE.fullmatch(f"{name} {'0' * 64}"):
        fault = "is already in use" if name in names else "has characters that are not allowed"
        raise ConfigError(f"key name {name!r} {fault}; choose another of letters, digits, . - _ @")
    key = secrets.token_urlsafe(32)
    try:
        path.touch(mode=0o600)
        with path.open("r+b") as file:
            content = file.read()
            newline = b"\n" if content and not content.endswith(b"\n") else b""
            file.write(newline + f"{name} {hash_key(key)}\n".encode())
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    return key
