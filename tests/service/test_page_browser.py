"""The page in Chromium: files, timeline, API keys, errors."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from builders.browser import PHONE, drop_file, drop_files, open_page, wait_for_answer, wait_until
from builders.encoded_audio import encode
from builders.service_client import PATIENCE, RECOGNIZE, SmallModelServer, small_recognizer
from builders.speech_streams import make_speech
from service.test_service import is_close

from serein.bundle import save
from serein.inference.recognition import describe_shares
from serein.records import Corpus

SECONDS = 12.0  # of ``spoken``


@pytest.fixture(scope="module")
def serve_options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    other = tmp_path_factory.mktemp("other") / "other.safetensors"
    save(small_recognizer("other", 1).bundle, other)
    return ["--model", str(other), "--max-seconds", "20", "--stream-seconds", "60"]


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
    rows = page.evaluate("figure.timeline.rows.map(row => row.kind)")
    assert rows == ["wave", "labels", "probabilities", "confidence", "attention"]
    shown = "new Set([...document.querySelectorAll('[data-class]')].map(one => one.dataset.class))"
    assert set(page.evaluate(f"[...{shown}]")) == {"anger", "neutral", "sadness"}
    top = page.evaluate(
        "Math.min(...[...document.querySelectorAll('[data-class=sadness]')]"
        ".flatMap(one => [...one.points].map(({y}) => y)))"
    )
    assert top == pytest.approx(0, abs=0.1)  # probabilities are stacked up to 1
    page.check("[value=spectrum]")
    page.wait_for_selector("[data-row=spectrum] image", state="attached")
    page.select_option("#task", "gender")
    wait_until(page, f"{shown}.size === 2")


def test_attention_is_scaled_to_its_range(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    heights = page.evaluate(
        "[...document.querySelector('[data-row=attention] polyline').points].map(({y}) => y)"
    )
    assert (min(heights), max(heights)) == pytest.approx((0.04 * 56, 56), abs=0.1)


def x_of(page: Any, time: float) -> float:
    """Pixels from the left of the figure to a time."""
    return float(page.evaluate(f"figure.timeline.left + figure.timeline.x({time})"))


def test_click_plays_from_there_and_cursor_moves(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    place = x_of(page, 4)
    page.click("#plot", position={"x": place, "y": 40})
    wait_until(page, "document.getElementById('sound').currentTime > 4.2")
    assert page.evaluate("document.getElementById('sound').currentTime") < 11
    wait_until(page, f"parseFloat(document.getElementById('cursor').style.left) > {place + 2}")
    page.evaluate("document.getElementById('sound').pause()")
    page.click("#as-table summary")
    page.click("#tables tbody tr:first-child button")
    wait_until(page, "!document.getElementById('sound').paused")


def test_click_on_a_label_plays_its_part_and_shift_loops_it(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    page.focus("#plot")
    for _ in range(8):  # so that a part is short, and every part is wide enough for a click
        page.keyboard.press("+")
    parts = page.locator("[data-row=labels] rect")
    start = float(parts.first.get_attribute("data-start"))
    box, figure = parts.first.bounding_box(), page.locator("#figure").bounding_box()
    end = page.evaluate(f"figure.timeline.from + {box['x'] + box['width'] - figure['x']}")
    assert end > start
    at = {"x": box["x"] - figure["x"] + box["width"] / 2, "y": box["y"] - figure["y"] + 5}
    page.click("#plot", position=at, modifiers=["Shift"])
    wait_until(page, "!document.getElementById('sound').paused")
    assert page.evaluate("document.getElementById('sound').currentTime") >= start - 0.01
    assert page.is_visible("#loop")
    page.evaluate("document.getElementById('sound').playbackRate = 8")
    page.evaluate(
        "document.getElementById('sound').onseeking = () => window.seeks = (window.seeks ?? 0) + 1"
    )
    wait_until(page, "window.seeks >= 3")  # it starts again and again
    page.click("#plot", position=at)  # once
    wait_until(page, "document.getElementById('sound').paused")
    assert page.is_hidden("#loop")


def test_zoom_with_keys_buttons_and_map(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    shown = "[figure.timeline.from, figure.timeline.to]"
    assert page.evaluate(shown) == [0, SECONDS]
    assert page.is_disabled("#zoom-out")
    page.click("#zoom-in")
    assert page.evaluate(shown) == pytest.approx([0, 6])  # around the playhead
    assert page.is_visible("#map .frame")
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 10)
    page.mouse.up()
    assert page.evaluate(shown) == pytest.approx([6, 12], abs=0.2)
    page.evaluate("document.getElementById('figure').scrollIntoView()")
    figure = page.locator("#figure").bounding_box()
    page.mouse.move(figure["x"] + 200, figure["y"] + 40)
    page.mouse.down()
    page.mouse.move(figure["x"] + 500, figure["y"] + 40, steps=4)
    page.mouse.up()
    assert page.evaluate(shown)[0] < 5
    assert page.evaluate("document.getElementById('sound').paused")  # a drag is no click
    page.focus("#plot")
    page.keyboard.press("0")
    assert page.evaluate(shown) == [0, SECONDS]
    page.keyboard.press("+")
    page.keyboard.press("End")  # the visible part follows the playhead
    assert page.evaluate(shown) == pytest.approx([6, 12], abs=0.2)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_page_works_with_the_keyboard_only(page: Any, spoken: bytes, tmp_path: Path) -> None:
    # Without an early listener, Chromium may not report the first file chooser.
    page.on("filechooser", lambda _: None)
    order = []
    for _ in range(9):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    examples = ["BUTTON", "BUTTON"]
    assert order == ["A", "choose", "record", "live", *examples, "model", "other", "SUMMARY"]
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
    drop_files(page, {"0.wav": spoken, "1.wav": b"no audio", "2.wav": spoken})
    wait_until(page, "document.querySelectorAll('#file-list li').length === 3")
    wait_until(page, "!document.getElementById('all-csv').disabled")
    rows = page.locator("#file-list li").all_inner_texts()
    assert [row.split("\n")[0] for row in rows] == ["0.wav", "1.wav", "2.wav"]
    assert "cannot be read" in rows[1]
    assert page.locator("#file-list .ribbon").count() == 2
    with page.expect_download() as download:
        page.click("#all-csv")
    table = Path(download.value.path()).read_text().splitlines()
    assert {row.split(",")[0] for row in table} == {"file", "0.wav", "2.wav"}
    assert sum(row.startswith("file,") for row in table) == 1
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    page.click("#file-list li:first-child button")
    wait_until(page, "document.getElementById('result-title').textContent === '0.wav'")
    assert not [url for url in seen if "overview" in url]  # its answer is known


def test_dropped_text_is_answered(page: Any) -> None:
    page.evaluate(
        "document.dispatchEvent(new DragEvent('drop', {dataTransfer: new DataTransfer()}))"
    )
    assert "This is no file" in read_problem(page)


def test_bars_follow_the_playhead_and_settings_are_in_the_address(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    assert page.locator("#bars .bars li").count() == 3
    page.focus("#plot")
    page.keyboard.press("ArrowRight")
    assert page.get_attribute("#bars .bars", "aria-label") == "at 0:01.0"
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
    wait_until(page, "document.querySelectorAll('[data-row=probabilities]').length === 2")
    rows = page.evaluate("figure.timeline.rows.map(row => row.kind)")
    assert rows[1:4] == ["labels", "labels", "differences"]
    share = int(page.inner_text("#agreement").split(" %")[0].split()[-1])
    assert (page.locator("[data-row=differences] rect").count() > 0) == (share < 100)
    assert page.locator("#bars .bars").count() == 2
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
    count = "document.querySelector('[data-class=anger]').points.length"
    before = page.evaluate(count)
    page.click("#source summary")
    page.fill("#hop", "0.5")
    page.keyboard.press("Tab")
    wait_until(page, f"document.querySelector('[data-class=anger]') && {count} > {before}")
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


def test_long_recording_is_streamed_and_drawn_as_it_comes(
    page: Any, live: SmallModelServer, corpus: Corpus
) -> None:
    content = encode("wav", make_speech(corpus, 30.0))  # more than a request may have
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url))
    drop_file(page, "long.wav", content)
    wait_until(
        page,
        "/Processing long.wav: 0:\\d+ of 0:30/.test(status.textContent ?? "
        "document.getElementById('status').textContent) || "
        "document.getElementById('status').textContent.includes('%')",
    )
    wait_for_answer(page)
    assert not [url for url in seen if "overview" in url]
    recognizer = small_recognizer()
    wanted = recognizer.timeline(content)
    headline = describe_shares(wanted.shares["emotion"]).replace(":", "")
    assert " ".join(page.inner_text("#verdicts .answer").split()) == headline
    with page.expect_download() as download:
        page.click("[data-format=json]")
    found = json.loads(Path(download.value.path()).read_text())
    assert found["source"] == "long.wav"
    assert is_close(found["segments"], wanted.to_dict()["segments"])
    assert page.get_attribute("#plot", "aria-valuemax") == "30.0"


def test_too_long_recording_shows_the_limit(page: Any, corpus: Corpus) -> None:
    drop_file(page, "long.flac", encode("flac", make_speech(corpus, 62.0)))
    found = read_problem(page)
    assert "too large" in found
    assert "1:02 minutes, and this service takes 1:00" in found


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
    assert page.locator("[data-row=probabilities] polygon").count() >= 3
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
    ink = "document.querySelector('#figure > svg').getAttribute('fill')"
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


def test_examples_on_the_first_screen(page: Any) -> None:
    assert page.locator("[data-example]").count() == 2
    page.click("[data-example=one-voice]")
    wait_for_answer(page)
    assert page.inner_text("#result-title") == "one-voice.mp3"
    assert page.is_visible("#sound")
    assert page.is_hidden("[data-example=one-voice]")
    height = page.locator("#drop").bounding_box()["height"]
    assert height < 100  # a slim bar


def test_words_are_buttons_below_the_waveform(page: Any, spoken: bytes) -> None:
    words = [{"word": "so", "time": 1.0}, {"word": "it", "time": 1.05}, {"word": "goes", "time": 8}]

    def add_words(route: Any) -> None:
        response = route.fetch()
        answer = response.json()
        answer["whole"]["words"] = [*words, {"word": "</s>", "time": 9}]
        route.fulfill(response=response, json=answer)

    page.route("**/page/overview*", add_words)
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    buttons = page.locator("#words button")
    assert buttons.all_inner_texts() == ["so", "it", "goes"]
    boxes = [buttons.nth(number).bounding_box() for number in range(3)]
    assert boxes[0]["y"] != boxes[1]["y"]  # words do not overlap
    figure = page.locator("#figure").bounding_box()
    middle = boxes[2]["x"] + boxes[2]["width"] / 2
    assert middle == pytest.approx(figure["x"] + x_of(page, 8), abs=3)
    buttons.nth(2).click()
    wait_until(page, "document.getElementById('sound').currentTime > 7.8")


def test_card_is_for_people(page: Any) -> None:
    page.click("#about summary")
    text = page.inner_text("#card")
    assert "What it answers" in text
    assert "anger, neutral, sadness" in text
    assert "serein train" not in text


def test_point_of_arousal_and_valence_moves(page: Any, spoken: bytes) -> None:
    drop_file(page, "call.wav", spoken)
    wait_for_answer(page)
    page.focus("#plot")
    found = set()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
        found.add(page.get_attribute("#plane svg", "aria-label"))
    assert len(found) > 1
    assert all("valence" in one for one in found)


def test_stalled_upload_shows_a_problem(page: Any, spoken: bytes) -> None:
    page.clock.install()
    page.route("**/page/overview*", lambda route: None)  # never answered, nothing is sent
    page.evaluate("XMLHttpRequest.prototype.send = () => {}")
    drop_file(page, "call.wav", spoken)
    wait_until(page, "document.getElementById('status').textContent.includes('Processing')")
    page.wait_for_timeout(300)
    page.clock.fast_forward(31_000)
    assert "stalled" in read_problem(page)
    assert page.locator("#problem button").inner_text() == "Try again"
