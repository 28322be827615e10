"""A conversation of three minutes reads the same on the page, in downloads, and in a terminal."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from builders.browser import drop_file, open_page, wait_for_answer
from builders.encoded_audio import encode
from builders.service_client import SmallModelServer
from builders.speech_streams import make_speech
from service.test_service import is_close

from serein.records import Corpus

Run = Callable[..., tuple[int, str, str]]
SECONDS = 180.0


def download(page: Any, kind: str) -> str:
    with page.expect_download() as started:
        page.click(f"[data-format={kind}]")
    return Path(started.value.path()).read_text()


@pytest.mark.parametrize("limit", ["300", "60"], ids=["uploaded", "streamed"])
def test_conversation_reads_the_same_everywhere(
    chromium: Any, corpus: Corpus, tmp_path: Path, run: Run, limit: str
) -> None:
    spoken = encode("wav", make_speech(corpus, SECONDS, seed=5))
    (tmp_path / "talk.wav").write_bytes(spoken)
    with (
        SmallModelServer(tmp_path, "--max-seconds", limit) as live,
        open_page(chromium, live.url) as page,
    ):
        drop_file(page, "talk.wav", spoken)
        wait_for_answer(page)
        headline = " ".join(page.inner_text("#verdicts .answer").split())
        status = page.inner_text("#status")
        page.click("#as-table summary")
        rows = [row.inner_text().split() for row in page.locator("#tables tbody tr").all()]
        document, table = json.loads(download(page, "json")), download(page, "csv")
    command = ["recognize", "talk.wav", "--model", "small.safetensors"]
    (_, printed, _), (_, by_segments, _) = run(*command), run(*command, "--window", "4")
    _, out, _ = run(*command, "--format", "json")
    (wanted,) = json.loads(out)["recognized"]
    line, other = (
        next(line for line in text.splitlines() if line.startswith("talk.wav: "))
        for text in (printed, by_segments)
    )
    assert line == other
    assert headline == line.removeprefix("talk.wav: ").replace(":", "", 1)
    assert line.removeprefix("talk.wav: ") in status
    assert len(wanted["segments"]) > 10
    assert is_close(document["segments"], wanted["segments"])
    assert is_close(document["shares"], wanted["shares"])
    assert is_close(document["tasks"], wanted["tasks"])
    labels = [one["tasks"]["emotion"]["label"] for one in wanted["segments"]]
    assert [row[3] for row in rows] == labels
    assert [one["emotion"] for one in csv.DictReader(table.splitlines())] == labels
