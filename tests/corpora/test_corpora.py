import gc
import re
import shutil
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import pytest
from builders.csv_tables import write_csv

from serein import corpora, registry
from serein.corpora import emodb, synthetic
from serein.errors import CorpusError, UnknownName
from serein.records import Corpus, CorpusInfo, Utterance
from serein.synthetic import SyntheticConfig, generate

REAL = Path(__file__).parents[3] / "shared" / "data" / "emodb"
COUNTS = {
    "anger": 127,
    "boredom": 81,
    "disgust": 46,
    "fear": 69,
    "happiness": 71,
    "neutral": 79,
    "sadness": 62,
}
MEN, WOMEN = {"03", "10", "11", "12", "15"}, {"08", "09", "13", "14", "16"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("made")
    generate(root, SyntheticConfig(speakers=2, emotions=("anger", "fear"), sentences=1, words=1))
    return root


# All corpora


@pytest.mark.parametrize("name", registry.list_names("corpora"))
def test_every_reader_has_about_and_read(name: str) -> None:
    module = registry.load_module("corpora", name)
    assert isinstance(module.ABOUT, CorpusInfo)
    assert module.ABOUT.title
    assert module.ABOUT.licence
    assert callable(module.read)
    assert "    " in (module.__doc__ or ""), "the head shows a folder and a sample"


# EMO-DB


def check_emodb(utterances: list[Utterance]) -> None:
    assert len(utterances) == 535
    assert Counter(one.labels["emotion"] for one in utterances) == COUNTS
    assert [one.id for one in utterances] == sorted(one.id for one in utterances)
    assert {one.speaker for one in utterances if one.gender == "male"} == MEN
    assert {one.speaker for one in utterances if one.gender == "female"} == WOMEN
    assert {one.language for one in utterances} == {"de"}
    assert len({one.text for one in utterances}) == 10
    for one in utterances:
        assert 80 <= float(one.labels["recognition"]) <= 100
        assert 0 < float(one.labels["naturalness"]) <= 100
        assert one.path.is_file()


def test_read_small_emodb(berlin: Path) -> None:
    utterances = emodb.read(berlin)
    check_emodb(utterances)
    cells = Counter((one.speaker, one.labels["emotion"]) for one in utterances)
    assert len(cells) == 70, "every speaker has every emotion"


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no copy of EMO-DB at {REAL}")
def test_read_published_emodb() -> None:
    utterances = emodb.read(REAL)
    check_emodb(utterances)
    by_id = {one.id: one for one in utterances}
    assert by_id["03a01Fa"].labels == {
        "emotion": "happiness",
        "sentence": "a01",
        "recognition": 90.0,
        "naturalness": 75.0,
    }
    assert by_id["16b10Wb"].labels["recognition"] == 100
    assert by_id["16b10Wb"].labels["naturalness"] == 75
    assert by_id["03a05Nd"].text == (
        "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück."
    )


def test_emodb_without_judgements_has_no_listener_labels(names: Path) -> None:
    (names / "erkennung.txt").unlink()
    assert emodb.read(names)[0].labels == {"emotion": "fear", "sentence": "a01"}


def test_emodb_judgements_of_listed_recordings(names: Path) -> None:
    lines = (names / "erkennung.txt").read_bytes().split(b"\r\n")
    kept = [line for line in lines if b"03a01Aa" not in line]
    assert len(kept) < len(lines)
    (names / "erkennung.txt").write_bytes(b"\r\n".join(kept))
    utterances = emodb.read(names)
    assert utterances[0].id == "03a01Aa"
    assert set(utterances[0].labels) == {"emotion", "sentence"}
    assert set(utterances[1].labels) == {"emotion", "sentence", "recognition", "naturalness"}


def test_emodb_accepts_upper_case_extensions_and_skips_hidden_files(names: Path) -> None:
    (names / "wav" / "03a01Aa.wav").rename(names / "wav" / "03a01Aa.WAV")
    (names / "wav" / "._03a01Aa.wav").touch()
    assert emodb.read(names)[0].path.name == "03a01Aa.WAV"


def test_emodb_reports_missing_recordings(names: Path) -> None:
    for file in sorted((names / "wav").glob("*W?.wav"))[:3]:
        file.unlink()
    (names / "wav" / "03a01Na.wav").unlink(missing_ok=True)
    with pytest.raises(CorpusError, match=r"53[12] recordings; EMO-DB has 535 \(anger 124 of 127"):
        emodb.read(names)
    assert len(emodb.read(names, partial=True)) in (531, 532)


def test_emodb_notes_a_second_copy(names: Path) -> None:
    assert corpora.load(f"emodb={names}").notes == ()
    shutil.copytree(names / "wav", names / "wav" / "wav")
    (names / "wav" / "wav" / "._03a01Fa.wav").touch()
    corpus = corpora.load(f"emodb={names}")
    assert len(corpus.utterances) == 535
    assert corpus.notes == ("recordings not read: 535, such as wav/wav/03a01Aa.wav",)


def test_emodb_recognizes_the_later_release(names: Path) -> None:
    spare = (f"{s}{t}{e}z" for s in sorted(MEN | WOMEN) for t in emodb.TEXTS for e in "WLEAFTN")
    for _ in range(816 - 535):
        (names / "wav" / f"{next(spare)}.wav").touch()
    with pytest.raises(CorpusError, match=r"816 recordings.*later release"):
        emodb.read(names)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("03a01Xa.wav", "unknown emotion 'X'; EMO-DB has A, E, F, L, N, T, W"),
        ("04a01Wa.wav", "unknown speaker '04'; EMO-DB has 03, 08"),
        ("03a03Wa.wav", "unknown text 'a03'; EMO-DB has a01, a02"),
        ("notes.wav", "not an EMO-DB name such as 03a01Fa.wav"),
    ],
)
def test_emodb_error_names_the_bad_file(names: Path, name: str, message: str) -> None:
    (names / "wav" / name).touch()
    with pytest.raises(CorpusError, match=f"{name}.*{message}"):
        emodb.read(names, partial=True)


@pytest.mark.parametrize(
    "line",
    [
        "2\t03a01Aa.wav\t90,00",
        "2\t03a01Aa.wav\tninety\t75,00",
        "2\t03a01Aa.wav\t190,00\t75,00",
        "rubbish",
    ],
)
def test_emodb_error_names_the_bad_line(names: Path, line: str) -> None:
    (names / "erkennung.txt").write_bytes(f"Nr.\tSatz\r\n\r\n{line}\r\n".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"erkennung\.txt, line 3: "):
        emodb.read(names)


def test_emodb_suggests_the_right_folder(names: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=f"give the folder above, {re.escape(str(names))}"):
        emodb.read(names / "wav")
    with pytest.raises(CorpusError, match=f"Did you mean {re.escape(str(names))}"):
        emodb.read(tmp_path)
    (tmp_path / "void").mkdir()
    for nowhere in (tmp_path / "void", tmp_path / "none"):
        with pytest.raises(CorpusError, match=r"has no folder wav/.*Give the folder that holds"):
            emodb.read(nowhere)


# Synthetic


def test_synthetic_round_trip(tmp_path: Path) -> None:
    settings = SyntheticConfig(speakers=3, emotions=("anger", "fear"), sentences=2, words=1)
    assert generate(tmp_path, settings) == synthetic.read(tmp_path)


def test_synthetic_error_tells_how_to_make_it(made: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="serein corpora make PATH"):
        synthetic.read(tmp_path)
    (tmp_path / "labels.csv").write_text("file,emotion\n")
    with pytest.raises(CorpusError, match=r"has the columns.*'file', 'emotion'"):
        synthetic.read(tmp_path)
    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    (copy / "wav" / "s01-fear-01-1.wav").unlink()
    with pytest.raises(CorpusError, match=r"s01-fear-01-1\.wav is missing, one of the 4 record"):
        synthetic.read(copy)
    (copy / "wav" / "s02-fear-01-1.wav").unlink()
    with pytest.raises(CorpusError, match=r"is missing, as are 1 more of the 4 recordings that"):
        synthetic.read(copy)


# Tables


def test_load_reads_a_corpus_at_a_path(berlin: Path, made: Path) -> None:
    assert len(corpora.load(f"emodb={berlin}").utterances) == 535
    corpus = corpora.load(f"synthetic={made}")
    assert corpus == Corpus(name="synthetic", utterances=tuple(synthetic.read(made)))


def test_load_reads_a_table_under_any_name(folder: Path) -> None:
    path = write_csv(folder, "file,emotion\nc.wav,joy\na.wav,fear\n")
    corpus = corpora.load(f"my-calls={path}")
    assert corpus.name == "my-calls"
    assert [one.id for one in corpus.utterances] == ["a.wav", "c.wav"]
    assert corpora.load(f"table={path}").utterances == corpus.utterances


def test_load_without_a_location_advises_how_to_save_one() -> None:
    with pytest.raises(CorpusError, match=r"serein corpora add emodb PATH.*emodb=PATH.*http"):
        corpora.load("emodb")


def test_load_of_an_unknown_name_lists_the_known_ones(folder: Path) -> None:
    with pytest.raises(UnknownName, match="'emodbb'; did you mean 'emodb'"):
        corpora.load(f"emodbb={folder}")
    for spec in ("mine", "labels.csv", "../labels.csv", "a..b=x", ""):
        with pytest.raises(UnknownName, match=r"--corpus mine=labels\.csv"):
            corpora.load(spec)
    with pytest.raises(UnknownName, match="module of your own: No module named 'no_lab'"):
        corpora.load(f"no_lab.podcast={folder}")


def test_load_of_a_missing_path_is_an_error(tmp_path: Path) -> None:
    for spec in ("emodb=none", f"mine={tmp_path}/none.csv"):
        with pytest.raises(CorpusError, match="does not exist"):
            corpora.load(spec)


READER = """
from serein.records import Utterance

def read(root):
    return [Utterance(id=name, path=root / "x.wav") for name in {ids}]
"""


def reader(folder: Path, monkeypatch: pytest.MonkeyPatch, ids: str) -> str:
    """Write a custom reader that returns these ids."""
    name = f"reader{len(ids)}"
    (folder / "my_lab").mkdir(exist_ok=True)
    (folder / "my_lab" / f"{name}.py").write_text(READER.format(ids=ids))
    monkeypatch.syspath_prepend(str(folder))
    return f"my_lab.{name}"


def test_load_with_a_custom_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = reader(tmp_path, monkeypatch, '["b", "a"]')
    assert [one.id for one in corpora.load(f"{name}={tmp_path}").utterances] == ["a", "b"]
    corpora.register(name, tmp_path)
    assert corpora.load(name).name == name
    assert name in [entry.name for entry in corpora.list_corpora()]


@pytest.mark.parametrize(
    ("ids", "message"), [("[]", "has no utterances"), ('"aba"', "two utterances 'a'")]
)
def test_load_checks_the_utterances(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str, message: str
) -> None:
    name = reader(tmp_path, monkeypatch, ids)
    with pytest.raises(CorpusError, match=message):
        corpora.load(f"{name}={tmp_path}")


def test_custom_reader_may_have_notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = reader(tmp_path, monkeypatch, '["a", "b", "c"]')
    assert corpora.load(f"{name}={tmp_path}").notes == ()
    module = registry.load_module("corpora", name)
    monkeypatch.setattr(
        module, "notes", lambda root, read: [f"{root.name}: {len(read)}"], raising=False
    )
    assert corpora.load(f"{name}={tmp_path}").notes == (f"{tmp_path.name}: 3",)


def test_load_with_a_module_without_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"json\.tool .* no function read"):
        corpora.load(f"json.tool={tmp_path}")


@pytest.mark.parametrize("collects", [True, False])
@pytest.mark.parametrize("ids", ['["b", "a"]', '"aba"'])
def test_garbage_collection_is_restored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ids: str, collects: bool
) -> None:
    name = reader(tmp_path, monkeypatch, ids)
    before = gc.isenabled()
    try:
        (gc.enable if collects else gc.disable)()
        with nullcontext() if "[" in ids else pytest.raises(CorpusError, match="two utterances"):
            corpora.load(f"{name}={tmp_path}")
        assert gc.isenabled() is collects
    finally:
        (gc.enable if before else gc.disable)()
