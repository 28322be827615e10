"""A headless browser, and the page in it."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType, Page

PATIENCE = 100_000
"""Milliseconds; enough for a busy machine."""
DESKTOP, PHONE = (1100, 900), (390, 844)
KNOWN_ERRORS = ("Failed to load resource", "WebSocket connection")
"""Console errors that tests cause. The page itself must cause none, such as against its policy."""

DROP = """files => {
  const dataTransfer = new DataTransfer();
  for (const [name, content] of files) {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], name));
  }
  for (const kind of ["dragover", "drop"])
    document.getElementById("drop").dispatchEvent(
      new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer}));
}"""


@contextmanager
def open_browser(microphone: Path | None = None) -> Iterator[Browser]:
    """Start Chromium, with a WAV file as the microphone if one is given.

    Raises:
        LookupError: Chromium or Playwright is not installed.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise LookupError(f"no playwright: {error}") from error

    with sync_playwright() as playwright:
        try:
            made = launch_browser(playwright.chromium, microphone)
        except Error as error:
            raise LookupError(f"no Chromium: {error.message.splitlines()[0]}") from error
        try:
            yield made
        finally:
            made.close()


def launch_browser(
    chromium: BrowserType, microphone: Path | None = None, *, allowed: bool = True
) -> Browser:
    """Launch Chromium; ``allowed`` answers all requests for the microphone."""
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    if microphone is not None:
        arguments += ["--use-fake-device-for-media-stream"]
        arguments += [f"--use-file-for-fake-audio-capture={microphone}"]
    if allowed:
        arguments += ["--use-fake-ui-for-media-stream"]
    return chromium.launch(executable_path=shutil.which("chromium"), args=arguments)


@contextmanager
def open_page(made: Browser, url: str, **context: Any) -> Iterator[Page]:
    """Open the page and wait for its models; unexpected console errors fail at the end."""
    width, height = context.pop("size", DESKTOP)
    surroundings = made.new_context(viewport={"width": width, "height": height}, **context)
    page = surroundings.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(url)
    wait_until(
        page,
        "document.querySelector('#problem strong') "
        "|| document.getElementById('limits').textContent.includes('at most')",
    )
    try:
        yield page
        unexpected = [one for one in faults if not one.startswith(KNOWN_ERRORS)]
        assert not unexpected, unexpected
    finally:
        surroundings.close()


def wait_until(page: Page, expression: str) -> None:
    """Wait until an expression is true. (Playwright's own function violates the page's policy.)"""
    end = monotonic() + PATIENCE / 1000
    while not page.evaluate(f"Boolean({expression})"):
        assert monotonic() < end, expression
        page.wait_for_timeout(50)


def drop_file(page: Page, name: str, content: bytes) -> None:
    """Drop a file on the page."""
    drop_files(page, {name: content})


def drop_files(page: Page, contents: Mapping[str, bytes]) -> None:
    """Drop files on the page."""
    page.evaluate(DROP, [[name, base64.b64encode(one).decode()] for name, one in contents.items()])


def wait_for_answer(page: Page) -> None:
    """Wait for an answer and its timeline."""
    page.wait_for_selector("#result:not([hidden])")
    wait_until(page, "document.querySelector('#figure > svg')")
    wait_until(page, "document.getElementById('status').textContent.includes('%')")
