"""Saving and loading of protocols."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.protocols import SMALL, UTTERANCES, make_protocol, split_by_settings
from builders.small_systems import small_recipe
from hypothesis import given
from hypothesis import strategies as st

from serein.errors import ConfigError, ProtocolError
from serein.evaluation.plan import build_plan
from serein.protocols import SplitConfig, find_leaks, load, save, split
from serein.records import Corpus, Fold, Protocol

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=1, max_size=5)
SUBSET = st.lists(WORDS, max_size=3).map(tuple)
FOLDS = st.lists(
    st.builds(Fold, name=WORDS, train=SUBSET, validation=SUBSET, test=SUBSET), max_size=3
)


@given(FOLDS, WORDS, WORDS)
def test_json_round_trip(
    tmp_path_factory: pytest.TempPathFactory, folds: list[Fold], name: str, caution: str
) -> None:
    file = tmp_path_factory.mktemp("saved") / "deep" / "protocol.json"
    protocol = Protocol(name=name, validation="some", folds=tuple(folds), caution=caution)
    save(protocol, file)
    assert load(file) == protocol


@pytest.mark.parametrize("name", ["leave-one-speaker-out", "random", "zhang-text"])
def test_csv_keeps_the_folds(tmp_path: Path, name: str) -> None:
    protocol = split_by_settings(SMALL, name)
    for given_ in ((), SMALL):
        save(protocol, tmp_path / "mine.csv", given_)
        back = load(tmp_path / "mine.csv")
        assert back.folds == protocol.folds
        assert (back.name, back.validation, back.caution) == ("mine.csv", "as in mine.csv", "")


def test_csv_contains_paths_speakers_and_labels(tmp_path: Path) -> None:
    utterances = [replace(one, labels={"level": 2.0, "fold": "x"}) for one in UTTERANCES]
    utterances[0] = replace(utterances[0], labels={"emotion": "anger, cold", "level": 1.5})
    save(make_protocol("a0 a1", "c0", "b0"), tmp_path / "x.csv", utterances)
    rows = list(csv.DictReader((tmp_path / "x.csv").read_text().splitlines()))
    assert list(rows[0]) == ["fold", "subset", "id", "path", "speaker", "emotion", "level"]
    assert list(rows[0].values()) == ["one", "train", "a-0", "a-0.wav", "a", "anger, cold", "1.5"]
    assert [row["subset"] for row in rows] == ["train", "train", "validation", "test"]
    assert [row["level"] for row in rows] == ["1.5", "2", "2", "2"]


def test_a_saved_protocol_splits_its_corpus(tmp_path: Path) -> None:
    protocol = split_by_settings(SMALL, "random", folds=3, only={"style": "improvised"})
    file = tmp_path / "mine.json"
    save(protocol, file)
    kept = [one for one in SMALL if one.label("style") == "improvised"]
    assert split_by_settings(kept, str(file)) == protocol
    back = split_by_settings(SMALL, str(file), only={"style": "improvised"})
    assert (back.hash, back.name) == (protocol.hash, "random")
    wide = split_by_settings(SMALL, str(file))
    assert wide.caution == f"{protocol.caution}; 225 of 450 utterances are in no subset"
    marks = {one.id: one.id for one in SMALL}
    kinds = {one.kind: one.verdict for one in find_leaks(wide, SMALL, marks)}
    assert (kinds["speaker"], kinds["partner"]) == ("allowed", "allowed")


def test_csv_of_random_folds_is_not_allowed_to_leak(tmp_path: Path) -> None:
    save(split_by_settings(SMALL, "random"), tmp_path / "random.csv")
    protocol = split_by_settings(SMALL, str(tmp_path / "random.csv"))
    marks = {one.id: one.id for one in SMALL}
    kinds = {one.kind: one.verdict for one in find_leaks(protocol, SMALL, marks)}
    assert (kinds["speaker"], kinds["partner"]) == ("error", "error")


def test_utterances_of_another_corpus_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    save(split_by_settings(SMALL, "leave-one-session-out"), file)
    with pytest.raises(ProtocolError, match=r"has 450 utterances, and 444 .* among the 6 of"):
        split_by_settings([*SMALL[:6]], str(file))
    with pytest.raises(ConfigError, match="defines its validation subsets"):
        split_by_settings(SMALL, str(file), validation=2)
    with pytest.raises(ConfigError, match=r"folds = 3; .* has no such setting"):
        split_by_settings(SMALL, str(file), folds=3)


def test_saved_protocol_leaves_out_excluded_ids(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    protocol = split_by_settings(SMALL, "leave-one-session-out")
    save(protocol, file)
    kept, gone = SMALL[2:], {SMALL[0].id, SMALL[1].id}
    found = split(kept, SplitConfig(name=str(file)), gone)
    assert found.caution == f"2 of 450 utterances of {file} left out"
    assert [fold.name for fold in found.folds] == [fold.name for fold in protocol.folds]
    assert found == replace(
        split_by_settings(kept, "leave-one-session-out"),
        caution=found.caution,
        validation=found.validation,
    )
    with pytest.raises(ProtocolError, match="1 of them are not among"):
        split(kept[1:], SplitConfig(name=str(file)), gone)


def test_saved_protocol_with_a_scheme_that_drops_labels(corpus: Corpus, tmp_path: Path) -> None:
    bored = replace(corpus.utterances[0], labels={"emotion": "boredom"})
    odd = replace(corpus, utterances=(bored, *corpus.utterances[1:]))
    save(split(odd.utterances, SplitConfig()), tmp_path / "mine.json")
    recipe = small_recipe("tasks.emotion.scheme=four", f"protocol.name={tmp_path / 'mine.json'}")
    plan = build_plan(recipe, odd, seed=0, device="cpu", runs=tmp_path)
    assert f"1 of {len(odd.utterances)} utterances of" in plan.protocol.caution
    assert bored.id not in {id_ for fold in plan.protocol.folds for id_ in fold.train + fold.test}


# Files that are not right


def edit(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    def edited(file: Path) -> None:
        table = json.loads(file.read_text())
        change(table)
        file.write_text(json.dumps(table))

    return edited


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (edit(lambda table: table["folds"][0]["train"].pop()), "was changed after it was saved"),
        (
            edit(lambda table: table.update(hash="0" * 16)),
            "its hash is 0000000000000000, and its folds",
        ),
        (edit(lambda table: table.update(format=3)), "format 3; this version reads 1 to 2"),
        (edit(lambda table: table.pop("folds")), "holds no protocol .KeyError: 'folds'"),
        (edit(lambda table: table.update(folds=3)), "holds no protocol .TypeError"),
        (lambda file: file.write_text("[1, 2"), "holds no protocol .JSONDecodeError"),
        (lambda file: file.write_bytes(b"\xff\xfe\xfa"), "holds no protocol .UnicodeDecodeError"),
        (lambda file: file.write_text("[]"), "holds no protocol .TypeError"),
        (lambda file: file.unlink(), "cannot be read: No such file"),
    ],
)
def test_invalid_json_is_an_error(
    tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    file = tmp_path / "mine.json"
    save(make_protocol("a0 a1", "c0", "b0"), file)
    spoil(file)
    with pytest.raises(ProtocolError, match=message):
        load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fold,subset\n1,train\n",
            "has no column id; found fold, subset. Expected fold, subset, id",
        ),
        ("", "has no column fold, subset, id; found nothing"),
        (
            "fold,subset,id\n1,train,a\n1,dev,b\n",
            "line 3: subset 'dev', id 'b'; expected one of train",
        ),
        ("fold,subset,id\n1,train,\n", "line 2: subset 'train', id ''"),
        ("fold,subset,id\n1,test\n", "line 2: subset 'test', id None"),
        ('fold,subset,id\n1,test,"a', "holds no protocol .Error: unexpected end"),
    ],
)
def test_invalid_csv_is_an_error(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(ProtocolError, match=message):
        load(tmp_path / "mine.csv")


def test_csv_written_by_hand(tmp_path: Path) -> None:
    text = "\ufeffid,fold,subset,note\na-0,1,train,x\nb-0,1,test,\n"
    (tmp_path / "Mine.CSV").write_text(text, encoding="utf-8")
    protocol = split_by_settings(UTTERANCES, str(tmp_path / "Mine.CSV"))
    assert protocol.folds == (Fold(name="1", train=("a-0",), validation=(), test=("b-0",)),)
    assert protocol.validation == "none"
    assert protocol.caution == "4 of 6 utterances are in no subset"


def test_other_suffixes_are_an_error(tmp_path: Path) -> None:
    for work in (lambda path: save(make_protocol("a0", "", "b0"), path), load):
        with pytest.raises(ProtocolError, match=r"must end in \.json or \.csv"):
            work(tmp_path / "mine.toml")


def test_column_side_of_release_0_1_is_read(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("fold,side,id\n1,train,a-0\n1,test,b-0\n")
    (fold,) = load(tmp_path / "mine.csv").folds
    assert fold == Fold(name="1", train=("a-0",), validation=(), test=("b-0",))
    (tmp_path / "mine.csv").write_text("fold,side,id\n1,dev,a-0\n")
    with pytest.raises(ProtocolError, match="line 2: side 'dev', id 'a-0'"):
        load(tmp_path / "mine.csv")
