"""Models of the Hugging Face hub: find one in its cache or download it, and upload one.

A repository has ``model.safetensors`` (a bundle), ``model.onnx`` if the model can be exported,
``README.md`` with the hub's metadata, and ``config.json``, which lists the models' files with their
SHA-256. Cache, token, endpoint and offline mode are those of ``huggingface_hub`` (HF_HOME,
HF_TOKEN, HF_ENDPOINT, HF_HUB_OFFLINE).
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from serein.errors import BundleError, ConfigError, HubError

SCHEME = "hf://"
"""The beginning of a model's name on the hub: ``hf://ORG/NAME`` or ``hf://ORG/NAME@REVISION``."""
BUNDLE_FILE, ONNX_FILE = "model.safetensors", "model.onnx"
CONFIG_FILE, CARD_FILE = "config.json", "README.md"
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
MAX_CONFIG_BYTES = 1_000_000


class HubName(NamedTuple):
    """A model on the hub.

    Attributes:
        repository: ``ORG/NAME``.
        revision: branch, tag or commit.
    """

    repository: str
    revision: str = "main"

    def __str__(self) -> str:
        """Return the name as it is typed."""
        revision = "" if self.revision == "main" else f"@{self.revision}"
        return f"{SCHEME}{self.repository}{revision}"


def parse_hub_name(text: str) -> HubName:
    """Parse a name on the hub.

    >>> parse_hub_name("hf://my-lab/calls@v2")
    HubName(repository='my-lab/calls', revision='v2')

    Args:
        text: the name, with or without ``hf://``.

    Raises:
        HubError: it is no such name.
    """
    repository, has_revision, revision = text.removeprefix(SCHEME).partition("@")
    if not REPOSITORY.fullmatch(repository) or (has_revision and not revision):
        raise HubError(
            f"{text!r} is not a model of the hub; expected {SCHEME}ORG/NAME or "
            f"{SCHEME}ORG/NAME@REVISION"
        )
    return HubName(repository, revision or "main")


def find_hub_model(name: HubName) -> Path:
    """Return the file of a model on the hub, downloaded unless it is in the hub's cache.

    Without network, the newest revision in the cache is used.

    Raises:
        HubError: the hub is away and the cache does not have the model, or the hub does not have
            it, or a file has another SHA-256 than its ``config.json`` states.
        ConfigError: the extra ``hub`` is not installed.
        BundleError: it is not a model of this package.
    """
    with _report_hub_errors(name):
        config = _download(name, CONFIG_FILE)
    digests: dict[str, str] = {}
    if config is not None:
        digests = _read_digests(config, str(name))
        # All files are of one commit, even if somebody uploads between two downloads.
        name = name._replace(revision=config.parent.name)
    for file in _list_candidates(digests):
        with _report_hub_errors(name):
            path = _download(name, file)
        if path is not None:
            _check_digest(path, digests.get(file))
            return path
    raise BundleError(
        f"{name} has no {BUNDLE_FILE} or {ONNX_FILE}: it is not a model that `serein push` wrote"
    )


def find_folder_model(folder: Path) -> Path:
    """Return the file of the model in a folder, such as a clone of a repository.

    Raises:
        BundleError: the folder has no model, or several.
        HubError: the file has another SHA-256 than the folder's ``config.json`` states.
    """
    config = folder / CONFIG_FILE
    digests = _read_digests(config, str(folder)) if config.is_file() else {}
    for file in _list_candidates(digests):
        if (folder / file).is_file():
            _check_digest(folder / file, digests.get(file))
            return folder / file
    others = sorted(folder.glob("*.safetensors"))
    if len(others) == 1:
        return others[0]
    found = ", ".join(file.name for file in others) or "no .safetensors file"
    raise BundleError(
        f"the folder {folder} has {found}; expected {BUNDLE_FILE} or one .safetensors file that "
        "`serein train` wrote. Give the file itself"
    )


def _list_candidates(digests: Mapping[str, str]) -> list[str]:
    """Return the files that may hold the model, the preferred one first."""
    files = [BUNDLE_FILE, ONNX_FILE] if find_spec("torch") else [ONNX_FILE, BUNDLE_FILE]
    return [file for file in files if not digests or file in digests]


def _download(name: HubName, file: str) -> Path | None:
    """Return a file of a repository in the hub's cache; None if the repository does not have it."""
    hub = import_hub()
    try:
        return Path(hub.hf_hub_download(name.repository, file, revision=name.revision))
    except hub.errors.RemoteEntryNotFoundError:
        return None


def import_hub() -> Any:
    """Return the module ``huggingface_hub``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError as error:
        raise ConfigError(
            'models of the hub need huggingface_hub: pip install "serein[hub]"'
        ) from error
    return huggingface_hub


def _read_digests(config: Path, name: str) -> dict[str, str]:
    """Return the SHA-256 of each model file that a ``config.json`` lists; empty if it lists none.

    Raises:
        BundleError: it is damaged.
    """
    try:
        if config.stat().st_size > MAX_CONFIG_BYTES:
            raise ValueError(f"more than {MAX_CONFIG_BYTES:,} bytes")
        document = json.loads(config.read_bytes())
        files = document.get("files", {})
        return {str(file): str(entry["sha256"]) for file, entry in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(
            f"{CONFIG_FILE} of {name} is not one that `serein push` wrote ({error}); push again"
        ) from error


def _check_digest(path: Path, expected: str | None) -> None:
    """Compare the SHA-256 of a file with the one that is listed, if one is.

    Raises:
        HubError: they differ.
    """
    if expected is not None and hash_file(path) != expected:
        raise HubError(
            f"{path} has another SHA-256 than {CONFIG_FILE} beside it states: it was changed or "
            "not downloaded completely; delete the folder and try again"
        )


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def upload_folder(
    folder: Path,
    files: list[str],
    name: HubName,
    *,
    private: bool = False,
    message: str = "Upload a model of serein",
) -> str:
    """Upload files of a folder as one commit; return the commit's address.

    The repository and a branch that do not exist are created.

    Args:
        folder: the folder.
        files: names of the files.
        name: repository and branch.
        private: whether a new repository is private.
        message: of the commit.

    Raises:
        HubError: the hub is away, or the token does not allow it.
        ConfigError: the extra ``hub`` is not installed.
    """
    hub = import_hub()
    api = hub.HfApi(library_name="serein")
    with _report_hub_errors(name, pushes=True):
        api.create_repo(name.repository, private=private, exist_ok=True)
        if name.revision != "main":
            api.create_branch(name.repository, branch=name.revision, exist_ok=True)
        commit = api.create_commit(
            name.repository,
            [hub.CommitOperationAdd(file, str(folder / file)) for file in files],
            commit_message=message,
            revision=name.revision,
        )
    return str(commit.commit_url)


@contextmanager
def _report_hub_errors(name: HubName, *, pushes: bool = False) -> Iterator[None]:
    """Report errors of the hub's client as one line with what to do.

    Raises:
        HubError: in place of an error of the client.
    """
    hub = import_hub()
    try:
        yield
    except (ConfigError, HubError):
        raise
    except Exception as error:  # the client's errors, and those of its libraries, have no base
        raise HubError(_describe_error(hub, error, name, pushes)) from error


def _describe_error(hub: Any, error: Exception, name: HubName, pushes: bool) -> str:
    """Return what happened, and what to do."""
    endpoint, errors = hub.constants.ENDPOINT, hub.errors
    cause: BaseException = error
    while cause.__cause__ is not None:  # the client wraps the errors of uploads
        cause = cause.__cause__
    status = getattr(getattr(error, "response", None), "status_code", None)
    status = status or getattr(getattr(cause, "response", None), "status_code", None)
    if pushes and status in (401, 403):
        return (
            f"{endpoint} does not let you push to {name.repository} (status {status}); log in with "
            "`hf auth login` or set HF_TOKEN, with a token that may write there"
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"{name.repository} needs its owner's consent: ask for it at "
            f"{endpoint}/{name.repository}, then log in with `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{name.repository} has no revision {name.revision!r}; its branches and tags are at "
            f"{endpoint}/{name.repository}/tree/main"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"{endpoint} has no model {name.repository}, or it is private; check the name, or log "
            "in with `hf auth login`"
        )
    if status is not None:
        return f"{endpoint} answered with status {status} for {name}: {error}; try again later"
    if not isinstance(error, errors.LocalEntryNotFoundError) and not _is_network_error(cause):
        action = "upload to" if pushes else "download from"
        return f"the {action} {endpoint} failed for {name}: {cause}; try again"
    if hub.constants.HF_HUB_OFFLINE:
        return (
            f"{name} is not in the hub's cache ({hub.constants.HF_HUB_CACHE}), and HF_HUB_OFFLINE "
            "is set; unset it, or download the model where there is a network"
        )
    cache = "" if pushes else f", and {name} is not in its cache ({hub.constants.HF_HUB_CACHE})"
    return (
        f"the hub {endpoint} cannot be reached{cache} ({type(error).__name__}); check the network "
        "and HF_ENDPOINT, and try again"
    )


def _is_network_error(error: BaseException) -> bool:
    """Return whether an error is one of the connection, in the standard library or in httpx."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectionError", "TimeoutError", "gaierror", "TransportError"})
