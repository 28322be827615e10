"""The container's steps without a container engine, and what its files say."""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import yaml

PROJECT = Path(__file__).parent.parent
CONTAINERFILE = (PROJECT / "Containerfile").read_text().replace("\\\n", " ")
USER_ID = "65532"
PORT = re.compile(r":8000\b")


def instructions(name: str) -> list[str]:
    """Return the arguments of an instruction in the Containerfile, in order."""
    return re.findall(rf"^{name} +(.*)", CONTAINERFILE, re.MULTILINE)


def test_the_container_runs_without_rights_and_checks_its_health() -> None:
    assert instructions("USER") == [f"{USER_ID}:{USER_ID}"]
    (check,) = instructions("HEALTHCHECK")
    assert "/readyz" in check
    command = json.loads(instructions("ENTRYPOINT")[0]) + json.loads(instructions("CMD")[0])
    assert command == ["serein", "serve", "--host", "0.0.0.0", "--port", "8000"]
    assert "torch" not in " ".join(instructions("RUN"))
    assert (PROJECT / ".dockerignore").read_text().split() == ["*", "!dist/serein-*.whl"]


def test_compose_is_read_only_and_local() -> None:
    service: dict[str, Any] = yaml.safe_load((PROJECT / "compose.yaml").read_text())["services"]
    serein = service["serein"]
    assert serein["read_only"] is True
    assert serein["cap_drop"] == ["ALL"]
    assert serein["ports"] == ["127.0.0.1:8000:8000"]
    assert serein["build"]["dockerfile"] == "Containerfile"
    assert [entry.partition(":")[0] for entry in serein["tmpfs"]] == ["/tmp"]


def build_image(folder: Path) -> Path:
    """Run the steps of the Containerfile that install serein; return the environment.

    pip gets its packages from the index of this machine.
    """
    dist = folder / "dist"
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(dist)]
    subprocess.run([*build, str(PROJECT)], check=True, capture_output=True)
    (wheel,) = dist.glob("serein-*.whl")
    assert wheel.stat().st_size < 100e6
    environment = folder / "serein"
    steps = instructions("RUN")[0].replace("/opt/serein", str(environment))
    steps = steps.replace("/tmp/serein-*.whl", str(wheel)).replace("--no-cache-dir", "-q")
    for step in steps.split("&&"):
        program, *arguments = shlex.split(step)
        python = ["-m", "pip"] if program == "pip" else []
        done = subprocess.run([sys.executable, *python, *arguments], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"the packages cannot be installed here: {done.stderr[-200:]}")
    return environment


@contextmanager
def run_read_only(environment: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the container's command without HOME, as its user, on a read-only file system."""
    arguments = shlex.join(json.loads(instructions("CMD")[0]))
    arguments = arguments.replace("0.0.0.0", "127.0.0.1").replace("8000", str(port))
    script = (
        f"mount --bind {environment} /mnt && {_open_interpreter()}"
        "mount -t tmpfs tmpfs /tmp && chmod 1777 /tmp && "
        "mount -o remount,ro,bind / && ! touch /refused 2>/dev/null && "
        f"exec setpriv --reuid {USER_ID} --regid {USER_ID} --clear-groups --inh-caps=-all "
        "env -i PATH=/usr/bin:/bin PYTHONDONTWRITEBYTECODE=1 /mnt/bin/python -m serein "
        f"{arguments} -m serein-light"
    )
    process = subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script], start_new_session=True, cwd="/"
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)


def _open_interpreter() -> str:
    """Return mounts that let another user run an interpreter in the home of root."""
    base = sys.base_prefix
    if not base.startswith("/root/"):
        return ""
    return (
        f"mount --bind {base} /media && mount -t tmpfs -o mode=755 tmpfs /root && "
        f"mkdir -p {base} && mount --bind /media {base} && "
    )


def ask(port: int, path: str, body: bytes | None = None) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=body)
    with urllib.request.urlopen(request, timeout=30) as response:
        answer: bytes = response.read()
    return answer


@pytest.mark.slow
def test_the_steps_of_the_container_give_a_service(tmp_path: Path) -> None:
    if os.geteuid() or not (shutil.which("unshare") and shutil.which("setpriv")):
        pytest.skip("needs root, unshare and setpriv, for a read-only file system")
    environment = build_image(tmp_path)
    site = next(environment.glob("lib/python*/site-packages"))
    assert not (site / "torch").exists()
    size = sum(file.stat().st_size for file in environment.rglob("*") if file.is_file())
    assert size < 400e6
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    speech = tmp_path / "noise.wav"
    soundfile.write(speech, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000)
    (check,) = instructions("HEALTHCHECK")
    health = json.loads(check.partition("CMD ")[2])[2].replace(":8000", f":{port}")
    with run_read_only(environment, port) as process:
        for _ in range(600):
            assert process.poll() is None
            if not subprocess.run([sys.executable, "-c", health], capture_output=True).returncode:
                break
            time.sleep(0.2)
        assert json.loads(ask(port, "/healthz")) == {"status": "ok"}
        answer = json.loads(ask(port, "/v1/recognize", speech.read_bytes()))
        assert answer["model"] == "serein-light"
        assert json.loads(ask(port, "/v1/models"))[0]["backend"] == "onnx"
        assert b"<!doctype html>" in ask(port, "/")
