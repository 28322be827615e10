"""Reports of attention, and the command that writes them."""

import io
import itertools
import json
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders.report_reader import Page, normalize_spaces
from builders.small_systems import small_system
from plotly.offline import get_plotlyjs
from rich.console import Console

from serein import bundle
from serein.bundle import Bundle, Card
from serein.report import explanation
from serein.report.attention import draw_attention
from serein.results.inference import (
    EXPLANATIONS_FORMAT,
    AttentionTrack,
    Correlation,
    Explanation,
    Explanations,
    OcclusionTrack,
    RecognizedWord,
)

Run = Callable[..., tuple[int, str, str]]
STEPS = 20


def make_correlation(value: float | None, words: str = "how it was made") -> Correlation:
    interval = None if value is None else (value - 0.1, value + 0.1)
    return Correlation(
        count=STEPS,
        pearson=value,
        pearson_interval=interval,
        spearman=value,
        spearman_interval=interval,
        description=words,
    )


def make_track(
    tasks: list[str], value: float | None, heads: int = 1, *, queries: bool = False
) -> AttentionTrack:
    rows = np.random.default_rng(heads).dirichlet(np.ones(STEPS), heads)
    return AttentionTrack(
        tasks=tasks,
        times=(0.05 + 0.1 * np.arange(STEPS)).tolist(),
        step=0.1,
        energy=np.linspace(-60, -10, STEPS).tolist(),
        width=0.1,
        weight=rows.mean(axis=0).tolist(),
        heads=rows.tolist(),
        queries=queries,
        correlation=make_correlation(value),
        by_head=[make_correlation(0.5, "otherwise") for _ in rows] if heads > 1 else [],
    )


def make_explanation(source: str = "clips/a.wav") -> Explanation:
    return Explanation(
        source=source,
        model="mine",
        start=0.0,
        end=2.0,
        windows=[(0.0, 1.0), (1.0, 2.0)],
        labels={"arousal": "high", "valence": "low"},
        probabilities={
            "arousal": {"low": 0.2, "high": 0.8},
            "valence": {"low": 0.654, "high": 0.346},
        },
        envelope=[(-0.5, 0.25), (-0.1, 0.1), (0.0, 0.0), (-0.2, 0.5)],
        attention={
            "arousal": make_track(["arousal"], 0.42),
            "heads": make_track(["arousal", "valence"], None, 3),
        },
    )


def make_occlusion(task: str, label: str | None, drop: list[float]) -> OcclusionTrack:
    return OcclusionTrack(
        task=task,
        label=label,
        times=[0.4, 0.8, 1.2, 1.6],
        step=0.4,
        length=0.8,
        energy=[-60.0, -20.0, -10.0, -50.0],
        drop=drop,
        correlation=make_correlation(0.3),
    )


def make_occluded(source: str = "clips/a.wav") -> Explanation:
    return replace(
        make_explanation(source),
        method="occlusion",
        attention={},
        values={"rating": 3.21},
        occlusion={
            "arousal": make_occlusion("arousal", "high", [0.1, -0.25, 0.0, 0.3]),
            "valence": make_occlusion("valence", "low", [0.0, 0.0, 0.0, 0.0]),
            "rating": make_occlusion("rating", None, [-0.5, -1.25, 0.0, -0.1]),
        },
        answers=11,
    )


def make_explanations(*found: Explanation, failed: dict[str, str] | None = None) -> Explanations:
    return Explanations(
        format=EXPLANATIONS_FORMAT,
        command="serein explain clips/a.wav",
        explained=list(found),
        failed=failed or {},
        correlations={
            "arousal": make_correlation(0.42),
            "heads": make_correlation(None, "undefined: why"),
        },
    )


def test_page_works_offline_and_plays_its_audio() -> None:
    text = explanation.render_html(
        make_explanations(make_explanation(), make_explanation("b.wav")), {"b.wav": "UklGRg=="}
    )
    parsed = Page(text)
    assert parsed.open == []
    for tag, attributes in parsed.tags:
        for name in ("src", "href", "data", "action", "poster", "srcset"):
            value = attributes.get(name) or ""
            assert value == "" or value.startswith(("#", "data:audio/wav;base64,")), (tag, value)
    assert not parsed.all("link")
    own = text.replace(get_plotlyjs(), "")
    assert not re.findall(r"https?://", own)
    policy = str([tag["content"] for tag in parsed.all("meta") if "http-equiv" in tag])
    assert "default-src 'none'" in policy
    assert "media-src data:" in policy
    (player,) = parsed.all("audio")
    assert player["src"] == "data:audio/wav;base64,UklGRg=="
    assert player["data-plays"] == "recording-2"
    silent = explanation.render_html(make_explanations(make_explanation()))
    assert "media-src" not in silent
    assert "<audio" not in silent


def test_page_contains_data_and_numbers() -> None:
    one = make_explanation()
    parsed = Page(explanation.render_html(make_explanations(one, failed={"x": "x does not exist"})))
    figure = json.loads(parsed.scripts[0])["recording-1"]
    drawn = {trace["yaxis"]: trace for trace in figure["data"]}
    assert drawn["y2"]["y"][:-1] == pytest.approx(
        [100 * weight for weight in one.attention["arousal"].weight], rel=1e-4
    )
    assert drawn["y6"]["y"] == pytest.approx(one.attention["arousal"].energy, rel=1e-4)
    assert np.array(drawn["y4"]["z"]) == pytest.approx(
        100 * np.array(one.attention["heads"].heads), rel=1e-4
    )
    words = normalize_spaces(parsed.words)
    assert "Attention of mine" in words
    assert "2.00 s, in 2 windows (dashed) with separate attention" in words
    assert "arousal high (80.0 %), valence low (65.4 %)." in words
    assert "arousal 20 +0.42 +0.32 to +0.52 +0.42 +0.32 to +0.52" in words
    assert "heads: mean 20 n/a n/a n/a n/a" in words
    assert "heads: head 3 20 +0.50 +0.40 to +0.60" in words
    assert "the level (RMS in dB) of the 100 ms around it" in words
    assert "How it was made (rows 1, 2). Otherwise (rows 3, 4, 5)." in words
    assert "Failed x does not exist" in words
    assert "mean over recordings" not in words
    assert "serein explain clips/a.wav" in words


def test_figure_has_one_time_axis_and_a_row_per_map() -> None:
    one = make_explanation()
    figure = draw_attention(one)
    layout = figure.layout
    assert layout.xaxis.title.text == "seconds"
    assert tuple(layout.xaxis.range) == (0.0, 2.0)
    assert {trace.xaxis for trace in figure.data} <= {None, "x"}
    names = [note.text for note in layout.annotations]
    assert names == [
        "waveform",
        "arousal high (80 %)",
        "heads: arousal high (80 %), valence low (65 %)",
        "heads: each of 3 heads",
    ]
    domains = [layout[axis].domain for axis in ("yaxis", "yaxis2", "yaxis3", "yaxis4")]
    assert all(upper[0] > lower[1] for upper, lower in itertools.pairwise(domains))
    assert domains[-1][0] >= 0
    assert [shape.x0 for shape in layout.shapes] == [1.0]
    wave = figure.data[0]
    assert max(wave.y) == 0.5
    assert min(wave.y) == -0.5
    assert len(wave.x) == 8
    edges = list(figure.data[2].x)
    assert (edges[0], edges[1], edges[-1]) == (0.0, pytest.approx(0.1), 2.0)
    low, high = layout.yaxis5.range
    assert (low, high) == (-60, -9)


def test_silence_and_queries() -> None:
    quiet = replace(make_track(["arousal"], None, queries=True), energy=[-100.0] * STEPS)
    one = replace(make_explanation(), attention={"arousal": quiet}, windows=[(0.0, 2.0)])
    assert tuple(draw_attention(one).layout.yaxis3.range) == (-100, -79)
    note = explanation.build_correlation_table(one).note
    assert "Each head is the mean over its queries." in note
    longer = replace(quiet, times=[*quiet.times, 2.0])
    assert (
        "1 steps"
        not in explanation.build_correlation_table(replace(one, attention={"a": longer})).note
    )
    assert (
        "left out: 1"
        in explanation.build_correlation_table(replace(one, attention={"a": longer})).note
    )


def test_simultaneous_words_share_a_bar() -> None:
    said = [("a<b", 0.01, 0.2), ("c", 1.0, 0.5), ("d", 0.05, 0.1), ("e", 1.98, 0.2)]
    words = [RecognizedWord(word=word, time=time, weight=weight) for word, time, weight in said]
    names, bars = draw_attention(replace(make_explanation(), words=words)).data[1:3]
    assert list(bars.x) == [0.01, 1.0, 1.98]
    assert list(bars.y) == pytest.approx([30, 50, 20])
    assert list(names.text) == ["a&lt;b<br>d", "c", "e"]
    assert list(names.textposition) == ["top right", "top center", "top left"]


def test_occlusion_is_drawn_above_and_below_zero() -> None:
    figure = draw_attention(make_occluded())
    assert [note.text for note in figure.layout.annotations] == [
        "waveform",
        "arousal high (80 %): drop in points",
        "valence low (65 %): drop in points",
        "rating 3.21: drop",
    ]
    above, below = figure.data[2:4]
    assert list(above.x) == [0.0, 0.6, 1.0, 1.4, 2.0]
    assert list(above.y) == [10, 0, 0, 30, 30]
    assert list(below.y) == [0, -25, 0, 0, 0]
    assert list(below.customdata[1]) == [0.4, 1.2, -25]
    assert above.fillcolor != below.fillcolor
    low, high = figure.layout.yaxis2.range
    assert low < -25
    assert 30 < high < 35
    assert figure.layout.yaxis3.range == pytest.approx((-1.05, 1.05))  # small drops look small
    assert tuple(figure.layout.yaxis6.range) == (-60, -9)


def test_page_and_terminal_show_occlusion() -> None:
    found = make_explanations(make_occluded(), make_occluded("b.wav"))
    html = explanation.render_html(found)
    assert Page(html).open == []
    page = normalize_spaces(Page(html).words)
    file = io.StringIO()
    Console(file=file, width=120, color_system=None).print(explanation.render_terminal(found))
    for text in (page, normalize_spaces(file.getvalue())):
        for words in (
            "arousal high (80.0 %), valence low (65.4 %), rating 3.21. 4 spans of 0.80 s every "
            "0.40 s, replaced by the background noise of the recording one at a time: 11 answers",
            "in 2 windows (dashed) with separate answers",
            "arousal high 1.20 to 2.00 s -30.0 0.40 to 1.20 s +25.0",
            "valence low n/a n/a n/a n/a",
            "rating 3.21 n/a n/a 0.40 to 1.20 s +1.250",
            "arousal 20 +0.30 +0.20 to +0.40",
            "Occlusion and energy, mean over recordings",
        ):
            assert words in text
    assert "Occlusion with mine" in page
    assert "spans that support the answer" in page
    assert "ttention" not in page
    silent = replace(make_occluded(), values={})  # a recording without speech has no values
    assert "rating: drop" in str(draw_attention(silent).layout.annotations)
    assert "rating n/a" in normalize_spaces(
        Page(explanation.render_html(make_explanations(silent))).words
    )


def test_several_recordings_have_a_mean_table() -> None:
    found = make_explanations(make_explanation(), make_explanation("b.wav"))
    words = normalize_spaces(Page(explanation.render_html(found)).words)
    assert "Attention and energy, mean over recordings" in words
    assert "How it was made (row 1). Undefined: why (row 2)." in words
    file = io.StringIO()
    Console(file=file, width=100, color_system=None).print(explanation.render_terminal(found))
    told = file.getvalue()
    assert told.count("Attention and energy") == 3
    assert "b.wav: 2.00 s" in told


def test_page_escapes_all_text() -> None:
    rude = "</script><script>alert(1)</script>"
    one = replace(
        make_explanation(rude),
        model=rude,
        labels={rude: rude},
        probabilities={rude: {rude: 1.0}},
        attention={rude: make_track([rude], 0.1, 2)},
    )
    found = replace(make_explanations(one, failed={rude: rude}), command=rude)
    text = explanation.render_html(found, {rude: "UklGRg=="})
    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.scripts) == 4
    assert "<script>alert" not in text
    figure = json.loads(parsed.scripts[0])["recording-1"]
    assert "&lt;/script&gt;" in figure["layout"]["annotations"][1]["text"]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "small.safetensors"
    system = small_system("features.pad=false").eval()
    bundle.save(Bundle(system, Card(name="small")), path)
    return path


def test_command_writes_page_and_data(run: Run, model: Path, root: Path, tmp_path: Path) -> None:
    file = sorted((root / "wav").iterdir())[0]
    status, out, err = run("explain", file, "--model", model)
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == f"{file.name}.explain.html"
    page = Page((tmp_path / f"{file.name}.explain.html").read_text())
    assert len(page.all("audio")) == 1
    status, out, _ = run("explain", file, "--model", model, "--format", "json")
    document = json.loads(out)
    steps = document["explained"][0]["attention"]["heads"]
    assert len(steps["times"]) == len(steps["weight"]) == len(steps["heads"][1])
    assert document["command"].startswith("serein explain")
    few = ["--start", "0.1", "--end", "0.5", "--no-sound", "-o", "part.html"]
    status, out, _ = run("explain", file, "--model", model, *few)
    assert status == 0
    assert not Page((tmp_path / "part.html").read_text()).all("audio")
    status, out, _ = run("explain", file, "--model", model, "--format", "json", "-o", "a.json")
    assert (status, out) == (0, "a.json\n")
    assert json.loads((tmp_path / "a.json").read_text())["explained"] == document["explained"]


def test_command_explains_a_model_without_attention(run: Run, root: Path, tmp_path: Path) -> None:
    system = small_system("features.pad=false", "model.attention=false").eval()
    bundle.save(Bundle(system, Card(name="plain")), tmp_path / "plain.safetensors")
    file = sorted((root / "wav").iterdir())[0]
    soundfile.write("silence.wav", np.zeros(16_000), 16_000)
    soundfile.write("short.wav", np.full(1600, 0.1), 16_000)
    words = ["explain", file, "silence.wav", "short.wav", "--model", "plain.safetensors"]
    status, out, err = run(*words)
    assert (status, err) == (0, "")
    assert out.count("Spans with the largest effect") == 3
    page = normalize_spaces(Page((tmp_path / f"{file.name}.explain.html").read_text()).words)
    assert "Occlusion with plain" in page
    status, out, _ = run(*words, "--method", "occlusion", "--format", "json")
    document = json.loads(out)
    for one in document["explained"]:
        track = one["occlusion"]["emotion"]
        assert len(track["times"]) == len(track["drop"]) == len(track["energy"])
        assert one["answers"] == len(track["times"]) + 1
    assert set(document["correlations"]) == {"emotion", "gender"}


def test_command_skips_bad_files(run: Run, model: Path, root: Path, tmp_path: Path) -> None:
    Path("text.wav").write_text("this is not audio")
    soundfile.write("silence.wav", np.zeros(16_000), 16_000)
    soundfile.write("short.wav", np.full(480, 0.1), 16_000)
    good = sorted((root / "wav").iterdir())[0]
    words = ["explain", "missing.wav", good, "text.wav", "silence.wav", "short.wav"]
    status, out, err = run(*words, "--model", model)
    assert status == 1
    assert len(err.splitlines()) == 2
    assert all(line.startswith("serein: ") for line in err.splitlines())
    assert out.splitlines()[-1] == f"{good.name}.explain.html"
    page = normalize_spaces(Page((tmp_path / f"{good.name}.explain.html").read_text()).words)
    assert "Failed missing.wav does not exist" in page
    assert "the energy is the same at every step (silence)" in page
    assert "Undefined: 1 step." in page
    status, out, err = run("explain", "missing.wav", "--model", model)
    assert (status, out) == (1, "")
    assert len(list(tmp_path.glob("*.html"))) == 1


def test_standard_input_is_a_recording(
    run: Run, model: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = sorted((root / "wav").iterdir())[0].read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    status, out, _ = run("explain", "-", "--model", model)
    assert status == 0
    assert out.splitlines()[-1] == "stdin.explain.html"
    assert len(Page((tmp_path / "stdin.explain.html").read_text()).all("audio")) == 1


def test_bad_options_give_one_line(run: Run, root: Path, tmp_path: Path) -> None:
    file = sorted((root / "wav").iterdir())[0]
    plain_system = small_system("features.pad=false", "model.attention=false").eval()
    bundle.save(Bundle(plain_system, Card()), tmp_path / "blind.safetensors")
    for words, status, expected in (
        (
            ["--model", "blind.safetensors", "--method", "attention"],
            2,
            "li2019-emodb, serein-light; recipes",
        ),
        (["--format", "png"], 2, "Known: html, json"),
        (["--method", "gradient"], 2, "Known: attention, occlusion"),
        (["--model", "li2019-emobd"], 2, "did you mean 'li2019-emodb'"),
        (["--model", "no.safetensors"], 1, "No such file"),
        (["--start", "900"], 1, "Choose an earlier start"),
        (["-o", "blind.safetensors/page.html"], 1, "could not write"),
    ):
        found, _, err = run("explain", file, *words)
        assert (found, err.count("\n")) == (status, 1), err
        assert expected in err
