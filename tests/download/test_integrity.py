import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from builders.corpus_layouts import write_emodb, write_librispeech

from serein import corpora, registry
from serein.cli.corpora import report_lines
from serein.corpora import emodb
from serein.download import integrity
from serein.download.integrity import IntegrityReport, check_corpus, published_hashes
from serein.errors import CorpusError
from serein.synthetic import SyntheticConfig, generate
from serein.synthetic.iemocap import write_small_iemocap

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven synthetic recordings in the layout of EMO-DB."""
    write_emodb(tmp_path / "EMO-DB", utterances=7, words=1)
    return tmp_path / "EMO-DB"


@pytest.fixture
def known(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace the published hashes by those of these recordings."""
    folder = tmp_path / "hashes"
    folder.mkdir()
    files = sorted((root / "wav").iterdir())
    text = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  wav/{file.name}" for file in files]
    (folder / "emodb.sha256").write_text("\n".join([*text, ""]))
    monkeypatch.setattr(integrity, "HASHES_FOLDER", folder)
    counted(root, monkeypatch)
    return folder / "emodb.sha256"


def counted(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace EMO-DB's published counts by those of this copy."""
    found = Counter(str(one.labels["emotion"]) for one in emodb.read(root, partial=True))
    monkeypatch.setattr(emodb, "COUNTS", found)


def recordings(root: Path) -> list[Path]:
    return sorted((root / "wav").iterdir())


def said(found: IntegrityReport) -> dict[str, int]:
    return {words: count for count, words, _ in report_lines(found)}


@pytest.mark.usefixtures("known")
def test_intact_copy(root: Path) -> None:
    found = check_corpus(f"emodb={root}")
    assert found.is_intact
    assert (found.corpus, found.utterances, found.published_count, found.intact_count) == (
        "emodb",
        7,
        7,
        7,
    )
    assert found.speakers == 7
    assert not any(
        (found.changed, found.missing, found.extra, found.other_format, found.duplicates)
    )
    assert said(found) == {"identical to the published files": 7}


@pytest.mark.usefixtures("known")
def test_changed_missing_and_extra_files(root: Path) -> None:
    first, second, third, *_ = recordings(root)
    content = bytearray(first.read_bytes())
    content[-1] ^= 1
    first.write_bytes(content)
    second.unlink()
    third.rename(third.with_name(f"{third.stem[:-1]}z.wav"))
    found = check_corpus(f"emodb={root}")
    assert not found.is_intact
    assert found.intact_count == 4
    assert found.changed == (f"wav/{first.name}",)
    assert found.missing == (f"wav/{second.name}", f"wav/{third.name}")
    assert found.extra == (f"wav/{third.stem[:-1]}z.wav",)
    assert said(found) == {
        "identical to the published files": 4,
        "changed": 1,
        "missing": 2,
        "not in the published corpus": 1,
    }


def test_a_copy_without_hashes_is_counted(
    tmp_path: Path, run: Callable[..., tuple[int, str, str]]
) -> None:
    write_small_iemocap(tmp_path / "IEMOCAP", utterances=120, words=0)
    found = check_corpus(f"iemocap={tmp_path / 'IEMOCAP'}")
    assert (found.utterances, found.published_count, found.is_intact) == (120, 0, False)
    assert "has 120 recordings; IEMOCAP has 10039" in found.incomplete_reason
    assert found.notes == ("a partial copy: 120 of 10,039 utterances",)
    status, out, _ = run("corpora", "check", f"iemocap={tmp_path / 'IEMOCAP'}")
    assert status == 1
    assert "note: a partial copy: 120 of 10,039 utterances" in out
    assert "incomplete: " in out
    assert "recordings; IEMOCAP has 10039" in out


def test_copy_registered_as_partial_is_checked_completely(root: Path) -> None:
    corpora.register("emodb", root, partial=True)
    found = check_corpus("emodb")
    assert (found.utterances, found.is_intact) == (7, False)
    assert "7 recordings; EMO-DB has 535" in found.incomplete_reason


@pytest.mark.usefixtures("known")
def test_a_truncated_recording_is_changed(root: Path) -> None:
    file = recordings(root)[3]
    file.write_bytes(file.read_bytes()[:-1])
    assert check_corpus(f"emodb={root}").changed == (f"wav/{file.name}",)


@pytest.mark.usefixtures("known")
def test_duplicates_are_not_a_fault(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *rest = recordings(root)
    copies = [first.with_name(f"{first.stem[:-1]}{letter}.wav") for letter in "yz"]
    for copy in copies:
        shutil.copy(first, copy)
    counted(root, monkeypatch)
    found = check_corpus(f"emodb={root}")
    assert found.duplicates == tuple((f"wav/{first.name}", f"wav/{copy.name}") for copy in copies)
    assert found.is_intact
    assert said(found)["pairs of identical files"] == 2
    assert len(rest) == 6


def test_other_format_is_compared_by_name_only(root: Path, known: Path) -> None:
    known.write_text(known.read_text().replace(".wav", ".flac"))
    found = check_corpus(f"emodb={root}")
    assert (found.intact_count, len(found.other_format), found.is_intact) == (0, 7, True)
    assert said(found) == {"in another format: only names and count were compared": 7}
    recordings(root)[0].unlink()
    found = check_corpus(f"emodb={root}")
    assert (len(found.other_format), len(found.missing), found.is_intact) == (6, 1, False)


def test_upper_case_extension_is_the_same_format(root: Path, known: Path) -> None:
    known.write_text(known.read_text().replace(".wav", ".WAV"))
    assert check_corpus(f"emodb={root}").intact_count == 7


def test_corpus_without_hashes_is_read_and_searched_for_duplicates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_librispeech(tmp_path, parts=["dev-clean"], words=1)
    opened: list[Path] = []

    def counted(path: Path) -> str:
        opened.append(path)
        return path.name

    monkeypatch.setattr(integrity, "_hash_file", counted)
    found = check_corpus(f"librispeech={tmp_path}")
    assert (found.utterances, found.published_count, found.intact_count, found.is_intact) == (
        6,
        0,
        0,
        True,
    )
    assert said(found) == {"utterances read; no published hashes to compare": 6}
    sizes = [file.stat().st_size for file in tmp_path.rglob("*.flac")]
    assert len(opened) == sum(sizes.count(size) > 1 for size in sizes)


@pytest.mark.usefixtures("known")
def test_registered_copy_is_checked_by_its_name(root: Path, tmp_path: Path) -> None:
    corpora.config_folder().mkdir()
    (corpora.config_folder() / "corpora.json").write_text(json.dumps({"emodb": str(root)}))
    assert check_corpus("emodb") == check_corpus(f"emodb={root}")
    table = tmp_path / "labels.csv"
    shutil.copy(recordings(root)[0], tmp_path / "EMO-DB" / "copy.wav")
    table.write_text(f"file\nEMO-DB/copy.wav\nEMO-DB/wav/{recordings(root)[0].name}\n")
    twins = check_corpus(f"mine={table}").duplicates
    assert twins == (("EMO-DB/copy.wav", f"EMO-DB/wav/{recordings(root)[0].name}"),)


def test_report_lists_few_examples(root: Path, known: Path) -> None:
    known.write_text("".join(f"{'0' * 64}  wav/{name.name}\n" for name in recordings(root)))
    _, words, examples = report_lines(check_corpus(f"emodb={root}"))[0]
    assert words == "changed"
    assert examples.count("wav/") == 3
    assert examples.endswith(", ...")


@pytest.mark.usefixtures("known")
def test_error_names_the_unreadable_file(root: Path) -> None:
    file = recordings(root)[0]
    file.unlink()
    file.symlink_to("nowhere.wav")
    with pytest.raises(CorpusError, match=f"{file.name} cannot be read: No such file"):
        check_corpus(f"emodb={root}")


@pytest.mark.parametrize(("name", "count"), [("emodb", 535), ("ravdess", 1440), ("savee", 480)])
def test_hash_lists_are_complete(name: str, count: int) -> None:
    known = published_hashes(name)
    assert len(known) == count
    assert all(len(digest) == 64 and int(digest, 16) for digest, _ in known.values())
    assert {path.rpartition(".")[2] for _, path in known.values()} == {"wav"}
    assert name in {*registry.list_names("corpora"), "savee"}


def test_recurring_names_include_their_folder() -> None:
    assert "DC_a01" in published_hashes("savee")
    assert "03a01Fa" in published_hashes("emodb")
    assert published_hashes("iemocap") == {}


def test_hash_list_has_the_duplicates_of_ravdess() -> None:
    known = published_hashes("ravdess")
    assert known["03-01-03-01-02-01-07"][0] == known["03-01-03-01-02-02-07"][0]
    assert len({digest for digest, _ in known.values()}) == 1439


@pytest.mark.skipif(not (SHARED / "emodb").is_dir(), reason=f"no EMO-DB at {SHARED / 'emodb'}")
def test_published_emodb_is_intact() -> None:
    found = check_corpus(f"emodb={SHARED / 'emodb'}")
    assert (found.intact_count, found.published_count, found.speakers) == (535, 535, 10)
    assert found.is_intact
    assert not found.extra
    assert not found.duplicates


@pytest.mark.skipif(not (SHARED / "ravdess").is_dir(), reason=f"no copy at {SHARED / 'ravdess'}")
def test_ravdess_in_flac_cannot_be_compared() -> None:
    found = check_corpus(f"ravdess={SHARED / 'ravdess'}")
    assert (found.intact_count, len(found.other_format), found.speakers) == (0, 1440, 24)
    assert found.is_intact
    assert found.duplicates == (
        (
            "Actor_07/03-01-03-01-02-01-07.flac",
            "Actor_07/03-01-03-01-02-02-07.flac",
        ),
    )


def test_same_audio_with_two_labels_or_speakers_is_a_warning(tmp_path: Path) -> None:
    made = SyntheticConfig(speakers=2, sentences=1, words=6, emotions=("anger", "fear"))
    first, second, *_ = (utterance.path for utterance in generate(tmp_path / "speech", made))
    wave, rate = soundfile.read(first, dtype="float32")
    soundfile.write(tmp_path / "quiet.flac", wave / np.float32(2), rate)
    middle = len(wave) / rate / 2
    (tmp_path / "labels.csv").write_text(
        "id,file,start,end,speaker,emotion\n"
        f"a,{first},,,s1,anger\n"
        "b,quiet.flac,,,s1,fear\n"
        f"c,{second},0,{middle},s1,fear\n"
        f"d,{second},{middle},,s2,fear\n"
    )
    report = check_corpus(f"mine={tmp_path / 'labels.csv'}")
    assert report.copies == ("a = b",)
    assert report.label_conflicts == ("a = b (emotion anger and fear)",)
    assert report.speaker_conflicts == ("c ~ d (s1, s2)",)
    assert report.duplicates == ()
    assert [line for count, line, _ in report_lines(report) if "warning" in line] == [
        "warning: pairs with the same audio and two labels",
        "warning: pairs from one recording with two speakers",
    ]
    assert not check_corpus(f"mine={tmp_path / 'labels.csv'}", compare_audio=False).copies
