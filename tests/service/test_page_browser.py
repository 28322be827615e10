"""The page in Chromium: files, timeline, API keys, errors."""

import base64
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders.browser import PHONE, drop_file, open_page, wait_for_answer, wait_until
from builders.encoded_audio import encode
from builders.service_client import PATIENCE, RECOGNIZE, SmallModelServer, small_recognizer
from builders.speech_streams import make_speech

from serein.bundle import save
from serein.inference.recognition import describe_shares
from serein.records import Corpus

SECONDS = 12.0
DROP_SEVERAL = """contents => {
  const dataTransfer = new DataTransfer();
  contents.forEach((content, index) => {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    dataTransfer.items.add(new File([bytes], `${index}.wav`));
  });
  document.dispatchEvent(new DragEvent("drop", {bubbles: true, cancelable: true, dataTransfer}));
}"""


@pytest.fixture(scope="module")
def spoken(corpus: Corpus) -> bytes:
    return encode("wav", make_speech(corpus, SECONDS))


@pytest.fixture(scope="module")
def serve_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    other = tmp_path_factory.mktemp("other") / "other.safetensors"
    save(small_recognizer("other", 1).bundle, other)
    return ["--model", str(other), "--max-seconds", "60"]


def read_problem(page: Any) -> str:
    page.wait_for_selector("#problem strong")
    return str(page.inner_text("#problem"))


def request_timeline(
    live: SmallModelServer, content: bytes, query: str = "hop=1&window=4&smooth=1"
) -> dict[str, Any]:
    files = {"file": ("call.wav", content)}
    answer = httpx.post(f"{live.url}{RECOGNIZE}?{query}", files=files, timeout=PATIENCE).json()
    return dict(answer)


def request_segments(live: SmallModelServer, content: bytes) -> list[Any]:
    return list(request_timeline(live, content)["segments"])


def test_dropped_file_is_recognized(page: Any, live: SmallModelServer, spoken: bytes) -> None:
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    assert page.inner_text("#result-title") == "call.wav"
    wanted = request_segments(live, spoken)
    page.click("#as-table summary")
    found = page.locator("#tables tbody th").all_inner_texts()
    assert found == [one["tasks"]["emotion"]["label"] for one in wanted]
    shares = dict(request_timeline(live, spoken)["shares"]["emotion"])
    headline = describe_shares(shares).replace(":", "")
    assert " ".join(page.inner_text("#verdicts .answer").split()) == headline
    sent = [url for url in seen if "overview" in url or "recognize" in url]
    assert len(sent) == 1  # one upload
    assert page.get_attribute("#plot", "aria-valuemax") == f"{SECONDS:.1f}"
    assert all(url.startswith((live.url, "blob:", "data:")) for url in seen)


def test_second_class_arousal_and_valence_are_shown(
    page: Any, live: SmallModelServer, corpus: Corpus
) -> None:
    spoken = encode("wav", make_speech(corpus, 3.5))  # no longer than a window
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    wanted = live.post(spoken).json()
    second = wanted["tasks"]["emotion"]["top"][1]
    text = " ".join(page.inner_text("#verdicts").split())
    assert f"second: {second['label']} {round(100 * second['probability'])} %" in text
    for name, ends in (("arousal", "calm excited"), ("valence", "unpleasant pleasant")):
        value = wanted["dimensions"][name]["value"]
        sign = "\u2212" if value < 0 else "+"
        assert f"{name} {ends} {sign}{abs(value):.2f}" in text
    assert "From \u22121 to 1: what people associate with the emotions' names" in text
    centre = page.evaluate(
        "[...document.querySelectorAll('.mark')].map(one => parseFloat(one.style.left))"
    )
    values = [wanted["dimensions"][name]["value"] for name in ("arousal", "valence")]
    assert centre == pytest.approx([50 * (value + 1) for value in values], abs=0.01)


def test_timeline_rows(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    kinds = "figure.data.map(one => one.type + (one.stackgroup ?? ''))"
    drawn = page.evaluate(kinds)
    assert drawn.count("scatterone") == 3  # anger, neutral, sadness
    assert "bar" in drawn
    assert "heatmap" not in drawn
    assert any("attention" in one["text"] for one in page.evaluate("figure.layout.annotations"))
    page.check("[value=spectrum]")
    wait_until(page, "figure.data.some(one => one.type === 'heatmap')")
    page.select_option("#task", "gender")
    wait_until(page, "figure.data.filter(one => one.stackgroup).length === 2")
    sums = page.evaluate(
        "figure.data.filter(one => one.stackgroup).map(one => one.y)"
        ".reduce((a, b) => a.map((y, place) => y + b[place]))"
    )
    assert all(value == pytest.approx(0) or value == pytest.approx(100, abs=0.01) for value in sums)


def test_click_plays_from_there_and_cursor_moves(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    place = page.evaluate("figure._fullLayout.xaxis._offset + figure._fullLayout.xaxis.l2p(4)")
    page.click("#plot", position={"x": place, "y": 40})
    wait_until(page, "document.getElementById('sound').currentTime > 4.2")
    assert page.evaluate("document.getElementById('sound').currentTime") < 11
    wait_until(page, f"parseFloat(document.getElementById('cursor').style.left) > {place + 2}")
    page.evaluate("document.getElementById('sound').pause()")
    page.click("#as-table summary")
    page.click("#tables tbody tr:first-child button")
    wait_until(page, "!document.getElementById('sound').paused")


def test_page_works_with_the_keyboard_only(page: Any, spoken: bytes, tmp_path: Path) -> None:
    # Without an early listener, Chromium may not report the first file chooser.
    page.on("filechooser", lambda _: None)
    order = []
    for _ in range(7):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert order == ["A", "choose", "record", "live", "model", "other", "SUMMARY"]
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) != "none"
    page.focus("#choose")
    (tmp_path / "call.wav").write_bytes(spoken)
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(tmp_path / "call.wav")
    wait_for_answer(page)
    assert page.evaluate("document.activeElement.id") == "result"
    assert "call.wav, 0:12.0: " in page.inner_text("#status")
    page.focus("#plot")
    for key, text in (("End", "0:12.0"), ("ArrowLeft", "0:11.0"), ("PageDown", "0:01.0")):
        page.keyboard.press(key)
        assert page.get_attribute("#plot", "aria-valuetext").startswith(f"{text} of 0:12.0, ")
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    wait_until(page, "document.getElementById('sound').currentTime > 0.1")
    page.keyboard.press("Space")
    assert page.evaluate("document.getElementById('sound').paused")


def test_downloads_in_every_format(page: Any, live: SmallModelServer, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    got = {}
    for name in ("json", "csv", "vtt"):
        with page.expect_download() as download:
            page.click(f"[data-format={name}]")
        assert download.value.suggested_filename == f"call.{name}"
        got[name] = Path(download.value.path()).read_text()
    wanted = request_segments(live, spoken)
    assert json.loads(got["json"])["segments"] == wanted
    assert len(got["csv"].splitlines()) == len(wanted) + 1
    assert got["csv"].startswith("file,start,end,emotion,")
    assert got["vtt"].startswith("WEBVTT\n")
    assert got["vtt"].count(" --> ") == len(wanted)
    for name, begin in (("svg", b"<svg"), ("png", b"\x89PNG")):
        with page.expect_download() as download:
            page.click(f"[data-format={name}]")
        assert Path(download.value.path()).read_bytes().startswith(begin)
    assert not [url for url in seen if url.startswith("http")]  # all from memory


def test_several_files_are_listed_with_a_table_of_all(page: Any, spoken: bytes) -> None:
    contents = [base64.b64encode(one).decode() for one in (spoken, b"no audio", spoken)]
    page.evaluate(DROP_SEVERAL, contents)
    wait_until(page, "document.querySelectorAll('#file-list li').length === 3")
    rows = page.locator("#file-list li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == ["0.wav", "1.wav", "2.wav"]
    assert "cannot be read" in rows[1]
    assert page.locator("#file-list .ribbon").count() == 2
    with page.expect_download() as download:
        page.click("#all-csv")
    table = Path(download.value.path()).read_text().splitlines()
    assert {row.split(",")[0] for row in table} == {"file", "0.wav", "2.wav"}
    assert sum(row.startswith("file,") for row in table) == 1


def test_dropped_text_is_answered(page: Any) -> None:
    page.evaluate(
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))"
    )
    assert "This is no file" in read_problem(page)


def test_bars_follow_the_playhead_and_settings_are_in_the_address(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    assert page.locator("#now-bars .bars li").count() == 3
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#now-bars .bars", "aria-label") == "at 0:01.0"
    page.click("#source summary")
    page.fill("#hop", "0.5")
    page.keyboard.press("Tab")
    wait_until(page, "location.hash === '#hop=0.5'")
    page.reload()
    wait_until(page, "document.getElementById('hop').value === '0.5'")


def test_comparison_of_two_models(page: Any, live: SmallModelServer, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    page.select_option("#other", "other")
    wait_until(page, "document.querySelectorAll('#verdicts .verdict').length === 2")
    wait_until(page, "figure.data.filter(one => one.stackgroup).length === 6")
    assert page.locator("caption").all_text_contents() == ["small", "other"]
    assert "the same answer for" in page.inner_text("#agreement")
    assert "answer of small" in page.inner_text("#download")
    spoken_by = page.get_attribute("#plot", "aria-valuetext")
    assert "small: " in spoken_by
    assert "other: " in spoken_by
    page.select_option("#model", "other")  # this resets the comparison
    wait_until(page, "document.querySelectorAll('#verdicts .verdict').length === 1")
    assert page.input_value("#other") == ""


def test_changed_settings_send_a_new_request(
    page: Any, live: SmallModelServer, spoken: bytes
) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    before = page.evaluate("figure.data.find(one => one.stackgroup).x.length")
    page.click("#source summary")
    page.fill("#hop", "0.5")
    page.keyboard.press("Tab")
    wait_until(page, f"figure.data.find(one => one.stackgroup).x.length > {before}")
    page.fill("#hop", "0.1")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('hop').validity.rangeUnderflow")
    page.fill("#hop", "1")
    page.fill("#window", "20")
    page.keyboard.press("Tab")
    assert "rejected this request" in read_problem(page)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"dear sir or madam", "cannot be read as a recording"),
        (b"", "0 bytes"),
        (encode("wav")[:5000], "is truncated"),
    ],
    ids=["text", "nothing", "half"],
)
def test_unreadable_files_show_a_problem(
    page: Any, spoken: bytes, content: bytes, words: str
) -> None:
    drop_file(page, "<img src=x onerror=alert(1)>.wav", content)
    assert words in read_problem(page)
    assert page.locator("#problem img").count() == 0
    assert page.is_hidden("#result")
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    assert page.inner_text("#problem") == ""


def test_file_names_are_not_interpreted_as_html(page: Any, spoken: bytes) -> None:
    drop_file(page, "<img src=x onerror=alert(1)>.wav", spoken)
    wait_for_answer(page)
    assert page.inner_text("#result-title") == "<img src=x onerror=alert(1)>.wav"
    assert page.locator("main img").count() == 0


def test_too_long_recording_shows_the_limit(page: Any, corpus: Corpus) -> None:
    drop_file(page, "long.flac", encode("flac", make_speech(corpus, 62.0)))
    found = read_problem(page)
    assert "too large" in found
    assert "longer than the limit of 60 s" in found


def test_retry_after_busy_or_unreachable_service(page: Any, spoken: bytes) -> None:
    busy = {"title": "Too Many Requests", "status": 429, "detail": "64 requests are in progress"}
    page.route("**/page/overview*", lambda route: route.fulfill(status=429, json=busy))
    drop_file(page, "call.wav", spoken)
    assert "busy" in read_problem(page)
    assert "64 requests are in progress." in page.inner_text("#problem")
    page.unroute("**/page/overview*")
    page.route("**/page/overview*", lambda route: route.abort())
    page.click("#problem button")
    wait_until(page, "document.getElementById('problem').innerText.includes('reached')")
    page.unroute("**/page/overview*")
    page.click("#problem button")
    wait_for_answer(page)


def test_format_that_the_browser_cannot_play(page: Any, spoken: bytes, corpus: Corpus) -> None:
    drop_file(page, "call.aiff", encode("aiff", make_speech(corpus, SECONDS)))
    wait_for_answer(page)
    assert page.is_hidden("#sound")
    assert page.is_hidden("#view")
    assert page.evaluate("figure.data.some(one => one.stackgroup)")
    assert "cannot play" in page.inner_text("#unplayed")


def test_silence_has_no_timeline_and_no_answer(page: Any) -> None:
    drop_file(page, "sweep.wav", encode("wav"))
    page.wait_for_selector("#result:not([hidden])")
    wait_until(page, "document.getElementById('status').innerText.includes('No speech')")
    assert page.is_visible("#status")
    assert page.inner_text("#verdicts .answer") == "no speech"
    assert "%" not in page.inner_text("#verdicts")
    assert page.is_hidden("#as-table")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_fits_a_phone(
    chromium: Any, live: SmallModelServer, spoken: bytes, scheme: Any
) -> None:
    with open_page(chromium, live.url, size=PHONE, color_scheme=scheme, has_touch=True) as page:
        drop_file(page, "call.wav", spoken)
        wait_for_answer(page)
        page.click("#source summary")
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
        sizes = page.evaluate(
            "[...document.querySelectorAll('button, select, .switch label, summary')]"
            ".map(one => one.getBoundingClientRect()).filter(one => one.width)"
            ".map(({width, height}) => Math.min(width, height))"
        )
        assert min(sizes) >= 24  # WCAG 2.2, 2.5.8
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert paper == ("rgb(20, 23, 27)" if scheme == "dark" else "rgb(255, 255, 255)")


def test_timeline_follows_light_and_dark_mode(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    ink = "figure.layout.font.color"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"{ink} !== '{light}'")


def test_all_controls_have_accessible_names(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    page.click("#as-table summary")
    session = page.context.new_cdp_session(page)
    nodes = session.send("Accessibility.getFullAXTree")["nodes"]
    used = {"button", "slider", "radio", "combobox", "checkbox", "spinbutton", "table", "form"}
    found = [
        (one["role"]["value"], one.get("name", {}).get("value", ""))
        for one in nodes
        if one.get("role", {}).get("value") in used and not one["ignored"]
    ]
    assert {"button", "slider", "radio", "combobox", "table"} <= {role for role, _ in found}
    assert [role for role, name in found if not name.strip()] == []
    assert page.get_attribute("#status", "role") == "status"
    assert page.get_attribute("#problem", "role") == "alert"


def test_page_asks_for_a_key(chromium: Any, spoken: bytes, tmp_path: Path, run: Any) -> None:
    _, out, _ = run("serve", "--new-key", "ann", "--key-file", tmp_path / "keys")
    closed = SmallModelServer(tmp_path, "--key-file", str(tmp_path / "keys"))
    try:
        with open_page(chromium, closed.url) as page:
            assert "requires a key" in read_problem(page)
            page.fill("#key", "wrong")
            page.keyboard.press("Enter")
            wait_until(page, "document.getElementById('problem').innerText.includes('known')")
            drop_file(page, "call.wav", spoken)  # before there is a key
            page.click("#live")
            wait_until(page, "document.activeElement.id === 'key'")
            page.fill("#key", out.strip())
            page.click("text=Use this key")
            wait_for_answer(page)
            kept = "[sessionStorage.length, localStorage.length, document.cookie]"
            assert page.evaluate(kept) == [1, 0, ""]
            page.reload()
            wait_until(page, "document.getElementById('limits').innerText.includes('most')")
            page.click("#forget")
            assert "requires a key" in read_problem(page)
            assert page.evaluate(kept) == [0, 0, ""]
    finally:
        assert closed.end() == 0
