"""A real browser without a window, and the page in it."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType, Page

PATIENCE = 100_000
"""Milliseconds, on a machine that has other things to do."""
DESKTOP, PHONE = (1100, 900), (390, 844)
KNOWN = ("Applying inline style violates", "Failed to load resource", "WebSocket connection")
"""Plotly brings rules for maps, which the policy refuses; the rest is what tests cause."""

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  for (const kind of ["dragover", "drop"])
    document.getElementById("drop").dispatchEvent(
      new DragEvent(kind, {bubbles: true, cancelable: true, dataTransfer}));
}"""


@contextmanager
def browser(microphone: Path | None = None) -> Iterator[Browser]:
    """Chromium; its microphone, if there is one, hears a WAV file.

    Raises:
        LookupError: there is none, with the reason.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise LookupError(f"no playwright: {error}") from error

    with sync_playwright() as playwright:
        try:
            made = launched(playwright.chromium, microphone)
        except Error as error:
            raise LookupError(f"no Chromium: {error.message.splitlines()[0]}") from error
        try:
            yield made
        finally:
            made.close()


def launched(
    chromium: BrowserType, microphone: Path | None = None, *, allowed: bool = True
) -> Browser:
    """Start it; whether pages may listen is decided now, as nobody is there to be asked."""
    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    if microphone is not None:
        arguments += ["--use-fake-device-for-media-stream"]
        arguments += [f"--use-file-for-fake-audio-capture={microphone}"]
    if allowed:
        arguments += ["--use-fake-ui-for-media-stream"]
    return chromium.launch(executable_path=shutil.which("chromium"), args=arguments)


@contextmanager
def opened(made: Browser, url: str, **context: Any) -> Iterator[Page]:
    """The page, once it knows its models; what its console complains of fails."""
    width, height = context.pop("size", DESKTOP)
    surroundings = made.new_context(viewport={"width": width, "height": height}, **context)
    page = surroundings.new_page()
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(url)
    until(
        page,
        "document.querySelector('#problem strong') "
        "|| document.getElementById('limits').textContent.includes('at most')",
    )
    try:
        yield page
        assert not [one for one in faults if not one.startswith(KNOWN)]
    finally:
        surroundings.close()


def until(page: Page, expression: str) -> None:
    """Wait until something holds; Playwright's own way of it would need the policy's leave."""
    end = monotonic() + PATIENCE / 1000
    while not page.evaluate(f"Boolean({expression})"):
        assert monotonic() < end, expression
        page.wait_for_timeout(50)


def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file."""
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def shown(page: Page) -> None:
    """Wait for an answer and its picture."""
    page.wait_for_selector("#result:not([hidden])")
    until(page, "document.querySelector('#figure .main-svg')")
    until(page, "document.getElementById('status').textContent.includes('%')")
