"""The page with a microphone that plays a file: recordings, live answers, errors."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from builders.browser import launch_browser, open_page, wait_for_answer, wait_until
from builders.service_client import SmallModelServer

Sent = list[str | bytes]
ANSWER = {
    "label": "anger",
    "confidence": 0.7,
    "probabilities": {"anger": 0.7, "neutral": 0.2, "sadness": 0.1},
}

CALM = {
    "label": "neutral",
    "confidence": 0.6,
    "probabilities": {"anger": 0.2, "neutral": 0.6, "sadness": 0.2},
}


@pytest.fixture(scope="module")
def serve_options() -> list[str]:
    return ["--max-seconds", "6", "--stream-seconds", "8"]


CAPTURE_RATE = """() => {
  const send = XMLHttpRequest.prototype.send;
  XMLHttpRequest.prototype.send = function (form) {
    form.get("file").arrayBuffer().then(bytes => {
      window.sentRate = new DataView(bytes).getUint32(24, true);
    });
    return send.call(this, form);
  };
}"""
"""Keep the sampling rate in the header of the WAV file that is sent."""


def wait_for_clock(page: Any, seconds: int) -> None:
    wait_until(page, f"document.getElementById('clock').innerText >= '0:0{seconds}'")


def test_recording_is_recognized(page: Any) -> None:
    page.evaluate(CAPTURE_RATE)
    page.focus("#record")
    page.keyboard.press("Enter")
    assert page.wait_for_selector("#record[aria-pressed=true]").inner_text() == "Stop"
    wait_until(page, "document.getElementById('level').value > 0.02")
    wait_for_clock(page, 2)
    assert page.is_disabled("#live")
    page.keyboard.press("Enter")
    wait_for_answer(page)
    assert page.inner_text("#result-title").startswith("recording ")
    shown = 1.95  # the clock rounds to tenths
    assert float(page.get_attribute("#plot", "aria-valuemax")) >= shown
    assert page.evaluate("document.getElementById('sound').duration") >= shown
    assert page.get_attribute("#record", "aria-pressed") == "false"
    assert page.is_hidden("#listening")
    wait_until(page, "window.sentRate === 16000")


def test_recording_stops_at_the_limit_of_the_service(page: Any) -> None:
    page.click("#record")
    wait_for_answer(page)
    assert 6.5 < float(page.get_attribute("#plot", "aria-valuemax")) <= 8


def replace_stream_service(page: Any, served: Callable[[Any], None]) -> None:
    """Replace the service behind the WebSocket."""
    page.route_web_socket("**/v1/stream", served)
    page.reload()  # the replacement applies from the next load on
    wait_until(page, "document.getElementById('limits').innerText.includes('at most')")


def answer_stream(socket: Any, sent: Sent) -> None:
    """Answer each second of a stream, and its first second twice; the rest is provisional."""

    def heard(message: str | bytes) -> None:
        sent.append(message)
        if isinstance(message, str):
            if json.loads(message)["type"] == "start":
                socket.send(json.dumps({"type": "ready", "classes": {}}))
            return
        seconds = sum(len(one) for one in sent if isinstance(one, bytes)) / 2 / rate(sent)
        starts = [0] if seconds < 2 else [int(seconds) - 1]
        items = [{"start": s, "end": s + 1, "tasks": {"emotion": ANSWER}} for s in starts]
        told = {
            "type": "segments",
            "items": items,
            "processed_seconds": seconds,
            "latency_ms": 12.3,
        }
        socket.send(json.dumps(told))
        growing = {"start": starts[0] + 1, "end": seconds, "tasks": {"emotion": CALM}}
        item = growing if seconds > starts[0] + 1 else None
        socket.send(json.dumps({"type": "provisional", "item": item}))

    socket.on_message(heard)


def rate(sent: Sent) -> int:
    (start,) = [one for one in map(str, sent) if '"start"' in one and one.startswith("{")][:1]
    return int(json.loads(start)["rate"])


def test_live_answers(page: Any) -> None:
    sent: Sent = []
    sockets: list[Any] = []

    def serve(socket: Any) -> None:
        sockets.append(socket)
        answer_stream(socket, sent)

    replace_stream_service(page, serve)
    page.click("#live")
    wait_until(page, "document.getElementById('now').innerText.includes('neutral 60 %')")
    wait_for_clock(page, 3)
    wait_until(page, "document.getElementById('latency').innerText.includes('took 12 ms')")
    wait_until(page, "document.getElementById('scope').blocks.length === 2")
    final, growing = page.evaluate("document.getElementById('scope').blocks")
    assert (final["start"], final["label"], final["isFinal"]) == (0, "anger", True)
    assert (growing["start"], growing["label"], growing["isFinal"]) == (
        pytest.approx(final["end"]),
        "neutral",
        False,
    )
    page.click("#live")
    wait_for_answer(page)  # the recording is now processed like any other
    start = json.loads(next(one for one in sent if isinstance(one, str)))
    assert start["type"] == "start"
    assert (start["model"], start["window"], start["hop"]) == ("small", 4, 1)
    assert start["merge"] is False
    assert start["provisional"] is True
    assert start["rate"] == 16_000
    assert "key" not in start
    assert json.loads(str(sent[-1])) == {"type": "end"}
    blocks = [one for one in sent if isinstance(one, bytes)]
    assert all(len(one) == 2 * 1024 for one in blocks)
    assert sum(map(len, blocks)) / 2 / start["rate"] >= 3
    assert float(page.get_attribute("#plot", "aria-valuemax")) >= 3
    item = {"start": 0, "end": 30, "tasks": {"emotion": ANSWER}}
    late = {"type": "segments", "items": [item], "processed_seconds": 30, "latency_ms": 1}
    sockets[-1].send(json.dumps(late))  # messages that arrive after the end change nothing
    page.wait_for_timeout(300)
    assert page.text_content("#now") == page.text_content("#latency") == ""
    assert page.evaluate("figure.timeline.to") < 15


def test_refused_stream_shows_a_problem(page: Any) -> None:
    told = {"type": "problem", "title": "Unauthorized", "status": 429, "detail": "no place is free"}

    def refuse(socket: Any) -> None:
        socket.on_message(lambda _: socket.send(json.dumps(told)))

    replace_stream_service(page, refuse)
    page.click("#live")
    page.wait_for_selector("#problem strong")
    assert "busy" in page.inner_text("#problem")
    assert "No place is free." in page.inner_text("#problem")
    wait_for_clock(page, 1)
    page.click("#live")  # the recording is kept
    wait_for_answer(page)


def test_interrupted_stream_shows_a_problem(page: Any) -> None:
    replace_stream_service(page, lambda socket: socket.close(code=1011))
    page.click("#live")
    page.wait_for_selector("#problem strong")
    assert "were interrupted" in page.inner_text("#problem")
    assert page.locator("#problem button").count() == 0  # nothing to try again before its end
    wait_for_clock(page, 1)
    page.click("#live")
    wait_for_answer(page)


def test_live_answers_of_the_real_service(page: Any) -> None:
    page.click("#live")
    wait_until(page, "document.getElementById('now').innerText.includes('%')")
    wait_until(page, "document.getElementById('latency').innerText.includes('the last')")
    page.click("#live")
    wait_for_answer(page)


def test_pauses_are_shown_as_no_speech(page: Any) -> None:
    def serve(socket: Any) -> None:
        socket.on_message(
            lambda message: (
                socket.send(json.dumps({"type": "ready", "classes": {}}))
                if isinstance(message, str)
                else socket.send(json.dumps({"type": "provisional", "item": None}))
            )
        )

    replace_stream_service(page, serve)
    page.click("#live")
    wait_until(page, "document.getElementById('now').innerText === 'no speech yet'")
    blocks = page.evaluate("document.getElementById('scope').blocks")
    assert [one["label"] for one in blocks] == ["no speech"]
    page.click("#live")
    wait_for_answer(page)


def test_microphone_that_is_not_allowed(
    live: SmallModelServer, microphone: Path, chromium: Any
) -> None:
    strict = launch_browser(chromium.browser_type, microphone, allowed=False)
    with closing(strict), open_page(strict, live.url) as page:
        for button in ("#record", "#live"):
            page.click(button)
            page.wait_for_selector("#problem strong")
            assert "The microphone was not allowed" in page.inner_text("#problem")
            assert page.get_attribute(button, "aria-pressed") == "false"


LACKING = """() => { navigator.mediaDevices.getUserMedia = async () => {
  throw new DOMException("it cannot be had", "%s");
}; }"""
OTHERS = {
    "none is there": ("NotFoundError", "There is no microphone"),
    "another program has it": ("NotReadableError", "Another program may be using it"),
}


@pytest.mark.parametrize("kind", OTHERS)
def test_microphone_errors_are_explained(page: Any, kind: str) -> None:
    name, words = OTHERS[kind]
    page.evaluate(LACKING % name)
    page.click("#record")
    page.wait_for_selector("#problem strong")
    assert words in page.inner_text("#problem")


def test_page_without_microphone_access(page: Any) -> None:
    page.evaluate("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    page.click("#record")
    page.wait_for_selector("#problem strong")
    assert "https" in page.inner_text("#problem")
