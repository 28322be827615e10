"""A real browser without a window, and the page in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

DESKTOP, PHONE = (1100, 900), (390, 844)
MAPS = "Applying inline style violates"
"""Plotly brings rules for maps; the policy refuses them, and nothing here is a map."""


@contextmanager
def browser(microphone: Path | None = None, *, allowed: bool = True) -> Iterator[Browser]:
    """Chromium; its microphone, if there is one, hears a WAV file.

    Raises:
        LookupError: there is none, with the reason.
    """
    try:
        from playwright.sync_api import Error, sync_playwright
    except ImportError as error:
        raise LookupError(f"no playwright: {error}") from error

    arguments = ["--no-sandbox", "--autoplay-policy=no-user-gesture-required"]
    if microphone is not None:
        arguments += ["--use-fake-device-for-media-stream"]
        arguments += [f"--use-file-for-fake-audio-capture={microphone}"]
    if allowed:
        arguments += ["--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        try:
            made = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=arguments
            )
        except Error as error:
            raise LookupError(f"no Chromium: {error.message.splitlines()[0]}") from error
        try:
            yield made
        finally:
            made.close()


@contextmanager
def opened(made: Browser, url: str, **context: Any) -> Iterator[Page]:
    """The page, once it knows its models; what its console complains of fails."""
    width, height = context.pop("size", DESKTOP)
    surroundings = made.new_context(viewport={"width": width, "height": height}, **context)
    page = surroundings.new_page()
    page.set_default_timeout(60_000)
    faults: list[str] = []
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    page.goto(url)
    page.wait_for_function(
        "document.querySelector('#problem strong') "
        "|| document.getElementById('limits').textContent.includes('at most')"
    )
    try:
        yield page
        unknown = [one for one in faults if MAPS not in one and "Failed to load resource" not in one]
        assert not unknown, unknown
    finally:
        surroundings.close()


def shown(page: Page) -> None:
    """Wait for an answer and its picture."""
    page.wait_for_selector("#result:not([hidden])")
    page.wait_for_function("document.querySelector('#figure .main-svg')")
    page.wait_for_function("document.getElementById('status').textContent.includes('%')")
