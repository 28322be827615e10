"""Intervals of results are computed again from the predictions when they are loaded."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from builders.example_results import example_results, rescore

from serein.evaluation.compare import compare
from serein.evaluation.repeats import combine_seeds
from serein.metrics.word_error_rate import compute_word_scores
from serein.results import io
from serein.results.evaluation import Results
from serein.results.intervals import find_interval_method, recompute_intervals

OLD = "95 % bootstrap over 10 speakers (few: likely too narrow)"


@pytest.fixture(scope="module")
def results() -> Results:
    return replace(example_results(utterances=120, epochs=2), repeats=[])


def with_old_intervals(results: Results) -> Results:
    """Return results as an earlier version wrote them."""
    return replace(
        results,
        scores={
            selection: {
                task: replace(own, interval=OLD, wa_interval=(0.5, 0.6), ua_interval=(0.5, 0.6))
                for task, own in tasks.items()
            }
            for selection, tasks in results.scores.items()
        },
    )


def test_old_intervals_are_replaced_when_results_are_loaded(
    results: Results, tmp_path: Path
) -> None:
    io.save_record(with_old_intervals(results), tmp_path)
    assert OLD in (tmp_path / io.RESULTS_FILE).read_text()
    loaded = io.load_results(tmp_path)
    assert find_interval_method(loaded) == "jackknife"
    for selection, tasks in results.scores.items():
        for task, own in tasks.items():
            found = loaded.scores[selection][task]
            assert found.interval == own.interval == "95 % jackknife over 10 speakers"
            assert found.ua_interval == pytest.approx(own.ua_interval)
            assert found.wa_interval == pytest.approx(own.wa_interval)
            assert (found.ua, found.confusion) == (own.ua, own.confusion)


def test_a_named_bootstrap_stays_one(results: Results, tmp_path: Path) -> None:
    named = recompute_intervals(results, "bootstrap")
    assert find_interval_method(named) == "bootstrap"
    io.save_record(named, tmp_path)
    assert io.load_results(tmp_path).scores == named.scores
    assert named.scores != results.scores


def test_one_speaker_has_no_interval(results: Results) -> None:
    speaker = results.predictions[0].speaker
    one = [item for item in results.predictions if item.speaker == speaker]
    scores = recompute_intervals(replace(results, predictions=one)).scores["validation"]["emotion"]
    assert scores.interval == "no interval (1 speaker; 2 are needed)"
    assert (scores.wa_interval, scores.ua_interval) == (None, None)
    nobody = recompute_intervals(replace(results, predictions=[]))
    assert nobody.scores == results.scores


def test_groups_and_words_are_computed_again(results: Results) -> None:
    predictions = [
        replace(
            item,
            language="de" if index % 2 else None,
            text="so it goes",
            transcripts={"validation": "so it" if index % 4 else "so it goes"},
        )
        for index, item in enumerate(results.predictions)
    ]
    texts = [str(item.text) for item in predictions]
    words = compute_word_scores(
        texts,
        [item.transcripts["validation"] for item in predictions],
        [item.speaker for item in predictions],
    )
    scored = rescore(replace(results, predictions=predictions))
    old = replace(words, interval=OLD, wer_interval=(0.1, 0.2))
    found = recompute_intervals(replace(scored, words={"validation": old}))
    assert found.words == {"validation": words}
    assert words.wer_interval is not None
    assert words.wer_interval[0] < (words.wer or 0) < words.wer_interval[1]
    groups = found.groups["language"]
    assert set(groups) == {"de", "unknown"}
    for own in groups.values():
        assert own["emotion"].interval == "95 % jackknife over 5 speakers"
        assert own["emotion"].ua_interval is not None


def test_seeds_are_found_by_the_hash_of_the_run(results: Results, tmp_path: Path) -> None:
    """Published files have short names that end in the hash of the run."""
    seeds = [
        replace(results, name=f"a-emodb-seed{seed}-{seed}abc0123", environment={"seed": seed})
        for seed in range(2)
    ]
    for one in seeds:
        io.save_record(one, tmp_path / f"emodb-{one.name.rpartition('-')[2]}.json.gz")
    io.save_record(combine_seeds(seeds), tmp_path / "emodb-seeds.json.gz")
    other = replace(results, name="b", recipe={**results.recipe, "name": "b"})
    io.save_record(other, tmp_path / "b.json.gz")
    pair = tmp_path / "emodb-seeds.json.gz", tmp_path / "b.json.gz"
    found = compare(pair)
    assert found.runs[0]["seeds"] == [0, 1]
    assert found.paired_tests[0].interval == "95 % jackknife over 10 speakers"
    named = compare(pair, method="bootstrap")
    assert named.paired_tests[0].interval.startswith("95 % percentile bootstrap over 10 speakers")


def test_reports_take_the_method_by_name(
    results: Results, tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    io.save_record(results, tmp_path / "run")
    for options, words in (((), "jackknife"), (("--intervals", "bootstrap"), "bootstrap")):
        status, shown, _ = run("report", tmp_path / "run", *options)
        assert status == 0
        assert f"95 % {'percentile ' * (words == 'bootstrap')}{words}" in " ".join(shown.split())
    assert "percentile bootstrap" in (tmp_path / "run" / "report.md").read_text()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / io.SWEEP_FILE).write_text("{}")
    status, _, told = run("report", tmp_path / "sweep", "--intervals", "bootstrap")
    assert status != 0
    assert "holds no predictions" in told
