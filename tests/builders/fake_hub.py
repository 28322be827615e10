"""A small server with the part of the Hugging Face hub's HTTP interface that serein uses."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_writer"
"""The token that may write everywhere but in ``other-lab``."""


@dataclass
class FakeHub:
    """Repositories, by name, branch or commit, and file.

    Attributes:
        files: content of each commit's files, by repository and commit.
        branches: commit of each branch, by repository and branch.
        blobs: uploaded large files, by SHA-256.
        requests: method and path of each request.
        failure: status with which every request is answered; 0 for none.
        address: of the server.
    """

    files: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    branches: dict[str, dict[str, str]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    failure: int = 0
    address: str = ""

    def commit(self, repository: str, branch: str, files: dict[str, bytes]) -> str:
        """Add files to a branch; return the new commit."""
        commits = self.files.setdefault(repository, {})
        branches = self.branches.setdefault(repository, {})
        before = commits.get(branches.get(branch, branches.get("main", "")), {})
        commit = hashlib.sha1(f"{repository} {branch} {len(commits)}".encode()).hexdigest()
        commits[commit] = {**before, **files}
        branches[branch] = commit
        return commit


class Handler(BaseHTTPRequestHandler):
    """Answers requests of ``huggingface_hub``."""

    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, format: str, *arguments: Any) -> None:
        pass

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "") -> None:
        self.answer({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def handle_request(self) -> None:
        body = self.read_body()
        path = unquote(self.path.partition("?")[0])
        self.hub.requests.append(f"{self.command} {path}")
        if self.hub.failure:
            self.answer({"error": "broken"}, self.hub.failure)
        elif match := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/(.+)/([\w.-]+)", path):
            self.resolve(*match.groups())
        elif self.command == "PUT" or self.command == "POST":
            self.write(path, body)
        else:
            self.refuse(404, "EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = handle_request  # noqa: N815 names of http.server

    def resolve(self, repository: str, revision: str, file: str) -> None:
        if repository not in self.hub.files:
            self.refuse(401, "RepoNotFound", "Invalid username or password.")
            return
        commit = self.hub.branches[repository].get(revision, revision)
        if commit not in self.hub.files[repository]:
            self.refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = self.hub.files[repository][commit]
        if file not in files:
            self.answer({}, 404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
            return
        digest = hashlib.sha256(files[file]).hexdigest()
        self.answer(files[file], ETag=f'"{digest}"', X_Repo_Commit=commit)

    def write(self, path: str, body: bytes) -> None:
        if path.startswith("/upload/"):  # the address itself is the permission, as on the hub
            self.hub.blobs[path.removeprefix("/upload/")] = body
            self.answer({})
            return
        if path == "/api/validate-yaml":
            self.answer({"errors": [], "warnings": []})
            return
        document = [json.loads(line) for line in body.splitlines()]
        owner = document[0].get("organization") if path == "/api/repos/create" else path
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.refuse(401, "", "Invalid username or password.")
        elif "other-lab" in str(owner):
            self.refuse(403, "", "You don't have the rights to create a model here")
        elif path == "/api/repos/create":
            name = f"{document[0]['organization']}/{document[0]['name']}"
            self.hub.files.setdefault(name, {})
            self.hub.branches.setdefault(name, {})
            self.answer({"url": f"{self.hub.address}/{name}"})
        elif match := re.fullmatch(r"/api/models/(.+)/branch/(.+)", path):
            self.hub.commit(match[1], match[2], {})
            self.answer({}, 201)
        elif match := re.fullmatch(r"/api/models/.+/preupload/.+", path):
            modes = [
                {"path": file["path"], "uploadMode": self.choose_mode(file), "shouldIgnore": False}
                for file in document[0]["files"]
            ]
            self.answer({"files": modes})
        elif path.endswith(".git/info/lfs/objects/batch"):
            objects = [
                {**one, "actions": {"upload": {"href": f"{self.hub.address}/upload/{one['oid']}"}}}
                for one in document[0]["objects"]
            ]
            self.answer({"objects": objects, "transfer": "basic"})
        elif match := re.fullmatch(r"/api/models/(.+)/commit/(.+)", path):
            self.commit(match[1], match[2], document)

    @staticmethod
    def choose_mode(file: dict[str, Any]) -> str:
        return "lfs" if file["path"].endswith((".safetensors", ".onnx")) else "regular"

    def commit(self, repository: str, branch: str, document: list[dict[str, Any]]) -> None:
        files = {}
        for line in document:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.hub.blobs[value["oid"]]
        commit = self.hub.commit(repository, branch, files)
        address = f"{self.hub.address}/{repository}/commit/{commit}"
        self.answer({"commitUrl": address, "commitOid": commit})


@contextmanager
def serve_hub() -> Iterator[FakeHub]:
    """Serve an empty hub on this machine."""
    hub = FakeHub()
    handler = type("BoundHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
