import re
import shutil
from collections import Counter
from pathlib import Path

import pytest
import soundfile
from builders.corpus_layouts import write_librispeech

from serein import corpora
from serein.corpora import librispeech
from serein.errors import CorpusError
from serein.records import Utterance

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "LibriSpeech"
    write_librispeech(folder, words=2)
    return folder


def ids(utterances: list[Utterance]) -> list[str]:
    return [one.id for one in utterances]


def test_read_small_librispeech(root: Path) -> None:
    utterances = librispeech.read(root)
    assert len(utterances) == 12
    assert ids(utterances) == sorted(ids(utterances))
    assert Counter(one.labels["part"] for one in utterances) == {"dev-clean": 6, "test-clean": 6}
    assert {one.speaker: one.gender for one in utterances} == {
        "10": "female",
        "11": "male",
        "12": "female",
        "13": "male",
    }
    first = utterances[0]
    assert first.id == "10-0-0000"
    assert first.path == root / "dev-clean" / "10" / "0" / "10-0-0000.flac"
    assert first.labels == {"part": "dev-clean", "chapter": "0"}
    assert (first.language, first.session, first.dialogue) == ("en", None, None)
    for one in utterances:
        assert re.fullmatch("[A-Z]+ [A-Z]+", one.text or "")
        assert soundfile.info(one.path).format == "FLAC"


def test_the_last_line_may_lack_its_newline(root: Path) -> None:
    file = root / "dev-clean" / "10" / "0" / "10-0.trans.txt"
    assert not file.read_text().endswith("\n")
    before = librispeech.read(root)
    file.write_text(file.read_text() + "\n\n")
    assert librispeech.read(root) == before


@pytest.mark.parametrize("given", [".", "LibriSpeech", "LibriSpeech/test-clean"])
def test_root_may_be_any_of_three_folders(root: Path, tmp_path: Path, given: str) -> None:
    utterances = librispeech.read(tmp_path / given)
    assert len(utterances) == (6 if "test" in given else 12)
    assert {one.gender for one in utterances} == {"female", "male"}
    assert {str(one.labels["part"]) for one in utterances} <= {"dev-clean", "test-clean"}


def test_a_part_is_named_after_its_folder_even_from_inside(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root / "dev-clean")
    assert {one.labels["part"] for one in librispeech.read(Path())} == {"dev-clean"}


def test_without_a_speaker_table_genders_are_unknown(root: Path) -> None:
    (root / "SPEAKERS.TXT").unlink()
    utterances = librispeech.read(root)
    assert {one.gender for one in utterances} == {None}
    assert len(utterances) == 12


@pytest.mark.parametrize("line", ["14 | F", "14 | X | dev-clean | 1.0 | Ann", "rubbish"])
def test_bad_line_in_the_speaker_table(root: Path, line: str) -> None:
    (root / "SPEAKERS.TXT").write_text(f"; a comment\n\n{line}\n")
    with pytest.raises(CorpusError, match=r"SPEAKERS\.TXT, line 3: .* is not a speaker"):
        librispeech.read(root)


def test_other_files_and_extensions(root: Path) -> None:
    chapter = root / "dev-clean" / "10" / "0"
    samples, rate = soundfile.read(chapter / "10-0-0000.flac")
    soundfile.write(chapter / "10-0-0000.WAV", samples, rate, format="WAV")
    (chapter / "10-0-0000.flac").unlink()
    (chapter / "._10-0-0001.flac").touch()
    (root / "dev-clean" / "README").touch()
    (root / "books").mkdir()
    utterances = librispeech.read(root)
    assert len(utterances) == 12
    assert utterances[0].path.name == "10-0-0000.WAV"


def test_recordings_and_texts_must_match(root: Path) -> None:
    chapter = root / "dev-clean" / "10" / "0"
    shutil.copy(chapter / "10-0-0000.flac", chapter / "10-0-0009.flac")
    with pytest.raises(CorpusError, match=r"10-0-0009\.flac has no line in .*10-0\.trans\.txt"):
        librispeech.read(root)
    (chapter / "10-0-0009.flac").unlink()
    (chapter / "10-0-0001.flac").unlink()
    message = r"10-0\.trans\.txt has the text of 10-0-0001, but .*10-0-0001\.flac is missing"
    with pytest.raises(CorpusError, match=message):
        librispeech.read(root)


def test_a_chapter_needs_its_transcript(root: Path) -> None:
    (root / "test-clean" / "12" / "200" / "12-200.trans.txt").unlink()
    with pytest.raises(CorpusError, match=r"12-200\.trans\.txt cannot be read .*No such file"):
        librispeech.read(root)


def test_one_recording_in_two_formats_is_refused(root: Path) -> None:
    chapter = root / "dev-clean" / "10" / "0"
    shutil.copy(chapter / "10-0-0000.flac", chapter / "10-0-0000.wav")
    with pytest.raises(CorpusError, match="are one utterance; remove one"):
        librispeech.read(root)


@pytest.mark.parametrize("line", ["10-0-0000 AGAIN", "11-0-0000 HELLO", "hello", "10-0_0003 NO"])
def test_bad_line_in_a_transcript(root: Path, line: str) -> None:
    file = root / "dev-clean" / "10" / "0" / "10-0.trans.txt"
    file.write_text(file.read_text() + f"\n{line}\n")
    with pytest.raises(CorpusError, match=r"trans\.txt, line 4: .*'10-0-0000 GO DO YOU HEAR'"):
        librispeech.read(root)


def test_a_folder_without_parts(tmp_path: Path) -> None:
    (tmp_path / "books" / "10").mkdir(parents=True)
    for nowhere in (tmp_path, tmp_path / "none"):
        with pytest.raises(CorpusError, match="has no part such as test-clean/1089/134686/"):
            librispeech.read(nowhere)


def test_no_recording_is_opened(root: Path) -> None:
    for file in root.rglob("*.flac"):
        file.write_bytes(b"")
    assert len(librispeech.read(root)) == 12


@pytest.mark.skipif(not (SHARED / "an4").is_dir(), reason=f"no copy of AN4 at {SHARED / 'an4'}")
def test_read_published_an4() -> None:
    corpus = corpora.load(f"librispeech={SHARED / 'an4'}")
    parts = Counter(one.labels["part"] for one in corpus.utterances)
    assert parts == {"an4-train": 948, "an4-test": 130}
    speakers = {(one.labels["part"], one.speaker) for one in corpus.utterances}
    assert Counter(part for part, _ in speakers) == {"an4-train": 74, "an4-test": 10}
    assert {one.gender for one in corpus.utterances} == {"female", "male"}
    assert {one.id: one.text for one in corpus.utterances}["83-1-0004"] == "ENTER ONE OH FOUR"


@pytest.mark.skipif(
    not (SHARED / "librispeech").is_dir(), reason=f"no LibriSpeech at {SHARED / 'librispeech'}"
)
def test_read_published_librispeech_part() -> None:
    utterances = librispeech.read(SHARED / "librispeech")
    assert ids(utterances) == [
        "1089-134686-0000",
        "1089-134686-0001",
        "1089-134691-0000",
        "1089-134691-0001",
    ]
    assert utterances[0].text is not None
    assert utterances[0].text.startswith("HE HOPED THERE WOULD BE STEW FOR DINNER")
    assert utterances[1].text == "STUFF IT INTO YOU HIS BELLY COUNSELLED HIM"
