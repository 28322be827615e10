"""Keys of an API: hashes in a file, compared in a time that tells nothing.

A line of the file is ``NAME HASH``, the SHA-256 of a key in hexadecimal. Keys are made here of 32
random bytes, which no table and no trying finds: a slow hash would protect nothing more.
"""

import hashlib
import hmac
import re
import secrets
from pathlib import Path

from serein.errors import ConfigError, StorageError

KEY_LINE = re.compile(r"([\w.@-]+)\s+([0-9a-f]{64})")


class ApiKeys:
    """Who may call."""

    def __init__(self, hashes: dict[str, str]) -> None:
        """Take hashes by the names of their holders."""
        self._hashes = hashes

    @property
    def names(self) -> list[str]:
        """Who holds one."""
        return list(self._hashes)

    def holder(self, key: str) -> str | None:
        """Whose key this is; every hash is compared, whichever fits."""
        given, found = hash_key(key), None
        for name, known in self._hashes.items():
            if hmac.compare_digest(given, known):
                found = name
        return found


def hash_key(key: str) -> str:
    """What is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def read_keys(path: Path) -> ApiKeys:
    """Read a file of keys.

    Raises:
        ConfigError: it cannot be read, a line is not ``NAME HASH``, or it holds no key.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as a file of keys: {error}") from error
    hashes: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = KEY_LINE.fullmatch(line.strip())
        if match is None or match[1] in hashes:
            fault = "a name that was there before" if match else "no name and SHA-256"
            raise ConfigError(
                f"{path}, line {number}: {fault}; expected NAME HASH, each name once. "
                f"Make keys with `serein serve --new-key NAME --key-file {path}`."
            )
        hashes[match[1]] = match[2]
    if not hashes:
        raise ConfigError(
            f"{path} holds no key; make one: `serein serve --new-key NAME --key-file {path}`"
        )
    return ApiKeys(hashes)


def add_key(path: Path, name: str) -> str:
    """Make a key, and add its hash to a file that its owner alone may read.

    Returns:
        The key, which is kept nowhere.

    Raises:
        ConfigError: the name is taken or holds odd characters.
        StorageError: the file cannot be written.
    """
    known = read_keys(path).names if path.exists() and path.stat().st_size else []
    if name in known or not KEY_LINE.fullmatch(f"{name} {'0' * 64}"):
        taken = "is taken" if name in known else "holds odd characters"
        raise ConfigError(f"key name {name!r} {taken}; choose another of letters, digits, . - _ @")
    key = secrets.token_urlsafe(32)
    try:
        path.touch(mode=0o600)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{name} {hash_key(key)}\n")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror}") from error
    return key
