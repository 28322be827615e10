"""Tests of reproductions: the rows of papers on small generated corpora."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from serein import bundle, published
from serein.errors import ConfigError, StorageError, UnknownName
from serein.evaluation import folds
from serein.evaluation.engines import LocalEngine
from serein.evaluation.paper_rows import (
    Job,
    PaperCorpora,
    assign_corpora,
    build_job,
    select_tables,
    select_variants,
)
from serein.evaluation.plan import Plan
from serein.evaluation.reproduce import reproduce
from serein.records import Corpus
from serein.results import io
from serein.results.reproduction import OwnResult, Reproduction
from serein.synthetic import SyntheticConfig, generate
from serein.synthetic.iemocap import GENERATED_TEXT

SIZES = (
    "features.bands=12",
    "features.window=400",
    "features.pad=false",
    "model.filters=4",
    "model.hidden=4",
    "model.attention_hidden=8",
    "model.heads=2",
    "training.epochs=1",
    "protocol.name=leave-one-speaker-out",
    "protocol.validation=1",
)
WORD_SIZES = (
    "features.bands=12",
    "features.seconds=2.0",
    "training.epochs=1",
    "training.batch=8",
    "model.encoder_hidden=6",
    "model.encoder_layers=1",
    "model.decoder_hidden=6",
    "model.decoder_words=4",
    "model.decoder_attention=4",
    "model.max_steps=4",
    "model.beam=1",
    "model.hidden=4",
    "model.attention_hidden=8",
    "model.heads=2",
    "model.dense=8",
    "model.embedding=6",
    "model.frames=100",
    "text.min_count=1",
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A corpus of three speakers that stands in for others."""
    folder = tmp_path_factory.mktemp("corpus")
    generate(folder, SyntheticConfig(speakers=3, sentences=2, words=1))
    return f"mine={folder / 'labels.csv'}"


@pytest.fixture(scope="module")
def finished(corpus: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Reproduction, Path]:
    """Li et al. on that corpus, and the folder of the runs."""
    runs = tmp_path_factory.mktemp("runs")
    return reproduce("li2019", [corpus], settings=SIZES, runs=runs), runs


@pytest.fixture
def copied_runs(finished: tuple[Reproduction, Path], tmp_path: Path) -> Path:
    """A copy of the results of these runs, to be changed."""
    for file in finished[1].glob("*/results.json"):
        target = tmp_path / file.parent.name / file.name
        target.parent.mkdir()
        target.write_bytes(file.read_bytes())
    return tmp_path


def own_results(reproduction: Reproduction) -> dict[tuple[str, str], OwnResult]:
    """Return the results of rows with one variant, by table and system."""
    return {(row.table, row.system): row.own[0] for row in reproduction.rows if row.own}


def look(
    corpus: str | Sequence[str], runs: Path, paper: str = "li2019", **more: Any
) -> Reproduction:
    """Collect what there is, without training."""
    given = [corpus] if isinstance(corpus, str) else corpus
    more = {"settings": SIZES, **more}
    return reproduce(paper, given, runs=runs, only_finished=True, **more)


def test_every_row_of_a_paper_has_figures(finished: tuple[Reproduction, Path]) -> None:
    result, runs = finished
    assert result.stand_ins == {"IEMOCAP": "mine"}
    assert result.tables == ["Table 2", "section 5.5", "Table 3"]
    own = own_results(result)
    assert list(own) == [
        ("Table 2", "Full model"),
        ("Table 2", "- Self attention"),
        ("Table 2", "- Multitask learning"),
        ("section 5.5", "Full model"),
    ]
    assert {one.state for one in own.values()} == {"finished"}
    assert len(list(runs.glob("*/results.json"))) == 3
    full = own["Table 2", "Full model"]
    results = io.load_results(runs / full.runs[0])
    scores = full.scores["validation"]["test"]
    for task, metric in (("emotion", "ua"), ("gender", "wa")):
        theirs = results.scores["validation"][task]
        assert scores[task][metric].value == pytest.approx(theirs.score(metric), abs=1e-6)
        assert scores[task][metric].interval == pytest.approx(theirs.bounds(metric), abs=1e-6)
    assert scores["emotion"]["f1"].value is not None
    assert full.confusions["emotion"].counts == results.scores["validation"]["emotion"].confusion
    assert "optimistic" in full.selections["test"]
    assert ("training.epochs", "100", "1") in full.changed
    assert not any(name.startswith("tasks") for name, _, _ in full.changed)
    cited = [row for row in result.rows if not row.recipe]
    assert [row.printed["test"]["emotion"]["wa"] for row in cited] == [54.3, 62.8, 50.5, 68.8, 73.9]
    (matrix,) = result.matrices
    assert (matrix.table, list(matrix.own)) == ("Table 3", ["paper"])


def test_development_figures_are_means_over_folds(finished: tuple[Reproduction, Path]) -> None:
    full = own_results(finished[0])["Table 2", "Full model"]
    results = io.load_results(finished[1] / full.runs[0])
    by_fold = [
        fold.history[fold.epochs["validation"] - 1].scores["validation"]["emotion"]["ua"]
        for fold in results.folds
    ]
    mean = sum(score or 0 for score in by_fold) / len(by_fold)
    assert full.scores["validation"]["development"]["emotion"]["ua"].value == pytest.approx(mean)


def test_statements_are_judged_or_say_why_not(finished: tuple[Reproduction, Path]) -> None:
    claims = finished[0].claims
    assert len(claims) == 8
    assert claims[0].reason == "the printed figure is of another corpus"
    assert claims[2].reason == "3 speakers give no p below 0.25"
    assert claims[2].printed == (81.6, 55.3)


def test_warnings_describe_the_limits(finished: tuple[Reproduction, Path]) -> None:
    warnings = finished[0].warnings
    assert "1 epoch in place of 100, which may be too few to learn: all recipes" in warnings
    assert any(warning.startswith("one training seed each") for warning in warnings)


def test_choices_are_read_from_the_recipes(finished: tuple[Reproduction, Path]) -> None:
    choices = finished[0].choices
    assert list(choices) == ["li2019", "li2019-no-attention", "li2019-single-task"]
    assert any("leave-one-session-out" in text for text in choices["li2019"])
    assert not any("Command:" in text for texts in choices.values() for text in texts)


def test_record_round_trip(finished: tuple[Reproduction, Path], tmp_path: Path) -> None:
    io.save_record(finished[0], tmp_path)
    loaded = io.load_record(Reproduction, tmp_path)
    assert io.to_builtin(loaded) == io.to_builtin(finished[0])


def test_finished_runs_are_not_trained_again(
    corpus: str, finished: tuple[Reproduction, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folds, "run_fold", lambda *_: pytest.fail("trained again"))
    again = reproduce("li2019", [corpus], settings=SIZES, runs=finished[1])
    assert io.to_builtin(again.rows) == io.to_builtin(finished[0].rows)
    looked = look(corpus, finished[1])
    assert io.to_builtin(looked.rows) == io.to_builtin(finished[0].rows)


def test_partial_report_trains_nothing(corpus: str, tmp_path: Path) -> None:
    own = own_results(look(corpus, tmp_path))
    assert {one.state for one in own.values()} == {"unfinished"}
    assert own["Table 2", "Full model"].reason == "seed 0 was not run to its end"
    assert not list(tmp_path.glob("*/results.json"))


def test_a_lost_run_and_a_damaged_one_leave_the_others(corpus: str, copied_runs: Path) -> None:
    lost, damaged, kept = sorted(copied_runs.glob("*/results.json"))
    lost.unlink()
    (lost.parent / "folds").mkdir()
    (lost.parent / "folds" / "s01.pt").write_bytes(b"begun")
    damaged.write_text("{")
    result = look(corpus, copied_runs)
    by_recipe = {row.recipe: row.own[0] for row in result.rows if row.own}
    assert sorted(one.state for one in by_recipe.values()) == ["failed", "finished", "unfinished"]
    assert by_recipe["li2019"].reason == "seed 0 was not run to its end; 1 of 3 folds were begun"
    assert "is not JSON" in next(o.reason for o in by_recipe.values() if o.state == "failed")
    assert kept.parent.name in next(o.runs for o in by_recipe.values() if o.state == "finished")
    assert any("is not JSON" in warning for warning in result.warnings)


def test_runs_of_other_versions_are_found_and_named(corpus: str, copied_runs: Path) -> None:
    file = sorted(copied_runs.glob("*/results.json"))[0]
    table = json.loads(file.read_text())
    table["environment"]["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(table))
    file.parent.rename(copied_runs / "elsewhere")
    result = look(corpus, copied_runs)
    assert {one.state for one in own_results(result).values()} == {"finished"}
    (foreign,) = [text for text in result.warnings if "other source code" in text]
    assert foreign.startswith("1 runs were made by")
    assert table["name"] in foreign
    (mixed,) = [text for text in result.warnings if text.startswith("the runs differ in torch")]
    assert "torch 1.0 (li2019)" in mixed


def test_runs_of_another_copy_of_the_corpus_are_not_taken(
    corpus: str, copied_runs: Path, tmp_path: Path
) -> None:
    table = Path(corpus.partition("=")[2])
    other = table.with_name("other.csv")
    lines = table.read_text().splitlines()
    other.write_text("\n".join(lines[:-1]) + "\n")
    result = own_results(look(f"mine={other}", copied_runs))["section 5.5", "Full model"]
    assert result.state == "unfinished"
    end = r"li2019-mine-seed0-\w+ has other labels, recordings or folds"
    assert re.fullmatch(f"seed 0 was not run to its end; {end}", result.reason)


class EagerEngine(LocalEngine):
    """An engine with room for two evaluations, which records what it was given ahead."""

    def __init__(self) -> None:
        super().__init__(jobs=1)
        self.submitted: list[str] = []

    def has_room(self) -> bool:
        return len(self.submitted) < 2

    def submit(self, plan: Plan, fresh: bool) -> None:
        self.submitted.append(plan.folder.name)
        raise StorageError("in use by another evaluation")


def test_engine_with_room_starts_later_rows_ahead(
    corpus: str, finished: tuple[Reproduction, Path]
) -> None:
    engine = EagerEngine()
    result = reproduce("li2019", [corpus], settings=SIZES, runs=finished[1], engine=engine)
    assert len(set(engine.submitted)) == 2
    assert {own.state for own in own_results(result).values()} == {"finished"}
    look(corpus, finished[1], engine=(idle := EagerEngine()))
    assert idle.submitted == []


def test_corpus_that_cannot_be_read_fails_its_rows_only(tmp_path: Path) -> None:
    given = [f"iemocap={tmp_path / 'nowhere'}"]
    own = own_results(look(given, tmp_path))
    assert {one.state for one in own.values()} == {"failed"}
    assert "does not exist" in own["Table 2", "Full model"].reason
    assert "\n" not in own["Table 2", "Full model"].reason


def test_missing_corpus_and_recogniser_are_one_line_each(corpus: str, tmp_path: Path) -> None:
    fu = own_results(look(corpus, tmp_path, "fu2020", settings=()))
    assert fu["Table 2", "single task"].state == "unfinished"
    whole = fu["Table 2", "multitask cross-language training"]
    assert (whole.state, whole.reason) == (
        "missing",
        "needs EMO-DB: give it with --corpus emodb=FOLDER",
    )
    feng = own_results(look(corpus, tmp_path, "feng2020", settings=("protocol.name=random",)))
    assert feng["section 5.4", "acoustic-to-word ASR (test-clean)"].reason == (
        "needs LibriSpeech: give it with --corpus librispeech=FOLDER"
    )
    assert feng["Table 1", "ASR-SER model"].reason.startswith("needs a speech recogniser: give one")
    assert feng["Table 1", "Audio-based"].state == "unfinished"
    gone = own_results(look(corpus, tmp_path, "feng2020", asr=tmp_path / "gone.safetensors"))
    assert "gone.safetensors does not exist" in gone["Table 1", "ASR-SER model"].reason


def test_setting_that_one_system_lacks_fails_its_row_only(corpus: str, tmp_path: Path) -> None:
    settings = (
        "training.epochs=1",
        "model.kernel=rbf",
        "protocol.name=leave-one-speaker-out",
    )
    own = own_results(look(corpus, tmp_path, "zhang2019", recipe_suffix="proxy", settings=settings))
    assert {one.state for one in own.values()} == {"failed"}
    assert "unknown setting" in own["Table 1", "e2e STL"].reason
    without_twin = own_results(look(corpus, tmp_path, recipe_suffix="mars"))
    assert without_twin["Table 2", "Full model"].reason == "there is no recipe li2019-mars"


def test_generated_copy_is_named_as_one() -> None:
    given = PaperCorpora({"iemocap": "iemocap"}, {"iemocap": "iemocap=IEMOCAP"})
    assert given.describe() == {"IEMOCAP": "IEMOCAP"}
    copy = Corpus(name="iemocap", utterances=(), notes=(GENERATED_TEXT,))
    given._loaded["iemocap",] = copy
    assert given.describe() == {"IEMOCAP": "a generated copy of IEMOCAP"}
    assert given.list_notes() == [GENERATED_TEXT]


@pytest.mark.parametrize("variant", ["paper", "hold-out", "random", "validation"])
def test_only_the_papers_corpus_is_tested_in_every_variant(variant: str) -> None:
    paper = published.load_paper("fu2020")
    given = PaperCorpora({"savee": "savee", "emodb": "mine"}, {})
    (chosen,) = select_variants(paper, [variant])
    mains = {}
    for row in paper.rows:
        if row.recipe:
            job = build_job(paper, row, chosen, given, "", ())
            assert isinstance(job, Job)
            mains[row.table, row.system] = job.load_recipe().protocol.get("main")
    assert mains == {
        ("Table 2", "single task"): None,
        ("Table 2", "multitask"): None,
        ("Table 2", "cross-language training"): "savee",
        ("Table 2", "multitask cross-language training"): "savee",
        ("section 4.2", "multitask cross-language training"): "mine",
    }


def test_variants_and_tables_are_selected(corpus: str, tmp_path: Path) -> None:
    result = look(corpus, tmp_path, tables=["3"], variants=["paper", "validation"])
    assert (result.tables, list(result.variants)) == (["Table 3"], ["paper", "validation"])
    assert result.rows == []
    assert [matrix.system for matrix in result.matrices] == ["Full model"]
    both = look(corpus, tmp_path, tables=["table 2"], variants=["paper", "validation"], settings=())
    assert [one.variant for one in both.rows[0].own] == ["paper", "validation"]
    assert both.rows[0].own[1].settings == ["protocol.validation=1"]
    assert {claim.variant for claim in both.claims} == {"paper", "validation"}
    with pytest.raises(ConfigError, match=r"has no table '9' of results; it has Table 2, section"):
        look(corpus, tmp_path, tables=["9"])
    with pytest.raises(ConfigError, match=r"no variant 'best'; it has paper .*, validation \(sp"):
        look(corpus, tmp_path, variants=["best"])
    with pytest.raises(UnknownName, match="unknown paper 'li2020'; did you mean 'li2019'"):
        look(corpus, tmp_path, "li2020")


def test_two_subsets_of_a_system_are_one_row(corpus: str, tmp_path: Path) -> None:
    result = look(corpus, tmp_path, "zhang2019")
    assert [row.system for row in result.rows] == [
        "OS+SVMs",
        "OS+RNNs",
        "e2e STL",
        "e2e STL+att.",
        "e2e MTL",
        "e2e MTL+att.",
    ]
    row = result.rows[-1]
    assert list(row.printed) == ["development", "test"]
    assert row.utterances == {"development": 1811, "test": 1819}
    assert row.significant["test"] == ["arousal", "valence"]


def test_tables_are_named_by_their_numbers() -> None:
    paper = published.load_paper("feng2020")
    assert select_tables(paper, ["5", "5.4", "TABLE 1"]) == ["section 5.4", "Table 1", "Table 5"]


def test_every_table_of_every_paper_has_its_rows() -> None:
    for paper in published.load_papers():
        tables = select_tables(paper, ())
        assert {row.table for row in paper.rows} <= set(tables)
        assert {claim.table for claim in paper.claims} <= set(tables)


def test_two_names_for_one_corpus_are_an_error() -> None:
    with pytest.raises(ConfigError, match="the corpora a, b are given for iemocap; give each once"):
        assign_corpora(["iemocap"], ["a", "b"])
    with pytest.raises(ConfigError, match="give each once"):
        assign_corpora(["savee", "emodb"], ["savee", "savee"])


def test_seeds_give_mean_and_deviation(corpus: str, tmp_path: Path) -> None:
    result = reproduce(
        "li2019", [corpus], tables=["section 5.5"], settings=SIZES, seeds=2, runs=tmp_path
    )
    own = own_results(result)["section 5.5", "Full model"]
    assert own.seeds == [0, 1]
    scores = [io.load_results(tmp_path / run).scores["validation"]["gender"].wa for run in own.runs]
    figure = own.scores["validation"]["test"]["gender"]["wa"]
    assert figure.value == pytest.approx(sum(score or 0 for score in scores) / 2)
    assert figure.deviation is not None
    assert figure.interval is None
    more = look(corpus, tmp_path, tables=["section 5.5"], seeds=3)
    assert own_results(more)["section 5.5", "Full model"].seeds == [0, 1]
    assert "li2019: seed 2 was not run to its end" in more.warnings


def test_recogniser_is_trained_and_its_transcripts_are_read(corpus: str, tmp_path: Path) -> None:
    """The joint system starts from a trained recogniser; others read its transcripts by fold."""
    generate(tmp_path / "read", SyntheticConfig(speakers=2, sentences=3, words=1, seed=3))
    given = [corpus, f"heard={tmp_path / 'read' / 'labels.csv'}"]
    settings = (*WORD_SIZES, "protocol.folds=3", "protocol.validation=1", "protocol.allow=speaker")
    result = reproduce(
        "feng2020",
        given,
        tables=["1"],
        recipe_suffix="emodb",
        settings=settings,
        runs=tmp_path / "runs",
    )
    assert result.corpora == {"IEMOCAP": "mine", "LibriSpeech": "heard"}
    own = {system: one for (_, system), one in own_results(result).items()}
    assert {one.state for one in own.values()} == {"finished"}, {o.reason for o in own.values()}
    (model,) = (tmp_path / "runs").glob("feng2020-asr-an4-heard-seed0-*.safetensors")
    assert bundle.load(model).system.has_transcript_loss
    joint, reader = own["ASR-SER model"], own["Text-based (ASR transcripts)"]
    assert ("training.init", "feng2020-asr.safetensors", str(model)) in joint.changed
    (source,) = [here for name, _, here in reader.changed if name == "text.transcripts_from"]
    assert source == str(tmp_path / "runs" / joint.runs[0])
    wer = [one.scores["validation"]["test"]["transcript"]["wer"].value for one in (joint, reader)]
    assert wer[0] == wer[1] is not None
    assert "transcript" not in own["Text-based"].scores["validation"]["test"]
