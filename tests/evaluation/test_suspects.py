import base64
import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders.csv_tables import write_csv
from builders.example_results import example_results, rescore

from serein import cli
from serein.errors import ConfigError, UnknownName
from serein.evaluation.suspects import encode_clip, find_confident_classes, find_suspects
from serein.records import Utterance
from serein.report.suspects import write_suspects
from serein.results.evaluation import MODEL, Results
from serein.results.io import save_record


@pytest.fixture(scope="module")
def results() -> Results:
    """Results with ten labels that were exchanged after the training."""
    results = example_results(120, 2)
    classes = results.classes["emotion"]
    changed = []
    for index, item in enumerate(results.predictions):
        sure = 0.9 + index / 2000 if index % 12 == 0 else 0.7 + index / 2000
        p_k = np.full(len(classes), (1 - sure) / (len(classes) - 1))
        p_k[classes.index(str(item.truth["emotion"]))] = sure
        selections = {
            name: {**tasks, "emotion": p_k.tolist()} for name, tasks in item.selections.items()
        }
        label = item.truth["emotion"]
        if index % 12 == 0:
            label = next(name for name in classes if name != label)
        changed.append(replace(item, truth={**item.truth, "emotion": label}, selections=selections))
    return rescore(replace(results, predictions=changed))


def literal_confident_classes(p_nk: np.ndarray, label_n: np.ndarray) -> list[int]:
    """Northcutt et al. (2021), equations 1 and 2, element by element."""
    count, classes = p_nk.shape
    thresholds = {}
    for j in range(classes):
        own = [p_nk[n, j] for n in range(count) if label_n[n] == j]
        if own:
            thresholds[j] = sum(own) / len(own)
    confident = []
    for n in range(count):
        above = [j for j in thresholds if p_nk[n, j] >= thresholds[j]]
        confident.append(max(above, key=lambda j: p_nk[n, j]) if above else -1)
    return confident


@pytest.mark.parametrize("seed", range(5))
def test_confident_classes_equal_the_papers_definition(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p_nk = rng.dirichlet(np.ones(4), 200)
    label_n = rng.integers(0, 3, 200)  # no label of the fourth class
    threshold_k, confident_n = find_confident_classes(p_nk, label_n)
    assert confident_n.tolist() == literal_confident_classes(p_nk, label_n)
    assert np.isinf(threshold_k[3])
    assert -1 in confident_n


def test_exchanged_labels_are_found(results: Results) -> None:
    found = find_suspects(results)
    exchanged = {item.id for item in results.predictions[::12]}
    assert {one.id for one in found.suspects} == exchanged
    margins = [one.margin for one in found.suspects]
    assert margins == sorted(margins)
    assert (found.task, found.utterances) == ("emotion", 120)
    assert sum(found.confident.values()) <= 120
    pairs = [(one.label, one.suggestion) for one in found.suspects]
    assert all(found.confident[pair] == pairs.count(pair) for pair in pairs)


def test_runs_without_held_out_predictions_are_refused(results: Results) -> None:
    with pytest.raises(UnknownName, match="unknown classification task 'mood'"):
        find_suspects(results, "mood")
    saved = replace(results, selections={MODEL: "all classes"}, headline=MODEL)
    with pytest.raises(ConfigError, match="scored a model as it is, which may have been trained"):
        find_suspects(saved)
    own = [
        replace(item, selections={MODEL: item.selections[results.headline]})
        for item in results.predictions
    ]
    trained = {**results.recipe, "model": {"name": "external", "trained": True}}
    in_folds = replace(saved, recipe=trained, predictions=own)
    assert len(find_suspects(in_folds).suspects) == 10, "an estimator is trained in each fold"
    with pytest.raises(ConfigError, match="has no classification task"):
        find_suspects(replace(results, classes={"arousal": []}))


def test_page_and_table(results: Results, tmp_path: Path) -> None:
    found = find_suspects(results)
    first = found.suspects[0]
    suspects = (
        replace(first, id="<b>&.wav", votes={"anger": 0.75, "joy": 0.0}),
        *found.suspects[1:],
    )
    page, table = write_suspects(
        replace(found, suspects=suspects),
        tmp_path / "a.html",
        3,
        lambda id_: b"fLaC" if id_.startswith("<") else "x.wav is damaged",
    )
    text = page.read_text()
    assert text.count("<audio") == 1
    assert f"data:audio/flac;base64,{base64.b64encode(b'fLaC').decode()}" in text
    assert text.count("No audio: x.wav is damaged") == 2
    assert "&lt;b&gt;&amp;.wav" in text
    assert "<b>&" not in text
    assert "Raters: anger 75%." in text
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert len(rows) == 10
    assert rows[0]["id"] == "<b>&.wav"
    assert float(rows[0]["margin"]) == pytest.approx(first.margin, abs=1e-4)


def test_clip_is_a_part_of_at_most_twenty_seconds(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones((22 * 8000, 2)), 8000)
    clip = encode_clip(Utterance(id="a", path=tmp_path / "a.wav", start=0.5))
    assert isinstance(clip, bytes)
    (tmp_path / "a.flac").write_bytes(clip)
    info = soundfile.info(tmp_path / "a.flac")
    assert (info.samplerate, info.channels, info.duration) == (16_000, 1, 20.0)
    missing = encode_clip(Utterance(id="a", path=tmp_path / "b.wav"))
    assert isinstance(missing, str)
    assert "b.wav" in missing


def test_command(
    results: Results,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_record(results, tmp_path / "run")
    names = [item.id for item in results.predictions]
    soundfile.write(tmp_path / "a.wav", 0.1 * np.ones(8000), 16_000)
    rows = [f"a.wav,{name},joy\n" for name in names]
    write_csv(tmp_path, "".join(["path,id,emotion\n", *rows]))

    def run(*words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["serein", "corpora", "suspects", *words])
        try:
            cli.main()
        except SystemExit as exit_request:
            return int(exit_request.code or 0)
        return 0

    words = [str(tmp_path / "run"), "--corpus", f"mine={tmp_path / 'labels.csv'}"]
    assert run(*words, "-n", "2") == 0
    output = capsys.readouterr().out
    assert "10 of 120 labels of emotion look wrong to models that were not trained" in output
    page = tmp_path / "run" / "suspects.html"
    assert str(page) in output
    assert page.read_text().count("<audio") == 2
    assert run(*words, "-o", str(tmp_path / "a.pdf")) == 2
    assert "expected a page, such as" in capsys.readouterr().err
    write_csv(tmp_path, "".join(["path,id,emotion\n", *rows[1:]]))
    assert run(*words) == 1
    assert "give the corpus of the run: emodb" in capsys.readouterr().err
