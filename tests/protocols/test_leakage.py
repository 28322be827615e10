"""The leakage check."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders.protocols import (
    SHARED,
    SMALL,
    UTTERANCES,
    check_leakage,
    list_verdicts,
    make_corpora,
    make_iemocap,
    make_protocol,
    make_utterance,
    split_by_settings,
    utterance_lists,
)
from builders.small_systems import small_recipe
from hypothesis import given
from hypothesis import strategies as st

from serein import corpora as corpus_readers
from serein.corpora import hash_contents
from serein.errors import ProtocolError, UnknownName
from serein.evaluation.evaluate import evaluate
from serein.evaluation.plan import build_plan
from serein.protocols import add_cautions, find_leaks, hash_audio, raise_on_leaks
from serein.records import Corpus, Fold, Utterance
from serein.results import io


def test_clean_split_gives_clean_findings() -> None:
    utterances = [replace(one, labels={"emotion": "joy"}) for one in UTTERANCES]
    found = check_leakage(make_protocol("a0 a1", "c0", "b0 b1"), utterances)
    assert sorted(found) == [
        *("classes", "duplicate", "normalisation", "sentence", "speaker", "validation")
    ]
    assert list_verdicts(found) == {}
    assert all(one.count == 0 and one.description and one.examples == () for one in found.values())
    raise_on_leaks(found.values())


@given(utterance_lists(min_speakers=3))
def test_no_split_by_speaker_leaks(utterances: list[Utterance]) -> None:
    found = check_leakage(split_by_settings(utterances, "leave-one-speaker-out"), utterances)
    verdicts = list_verdicts(found)  # ids and words such as "a" and "a " look alike
    assert verdicts.get("speaker", "unknown") == "unknown"
    assert "error" not in verdicts.values()


def test_raise_on_leaks_lists_all_errors_and_how_to_allow_them() -> None:
    dialogue = [replace(one, dialogue="d") for one in UTTERANCES]
    found = check_leakage(make_protocol("a0", "", "a1 b0"), dialogue)
    with pytest.raises(ProtocolError) as caught:
        raise_on_leaks(found.values())
    words = str(caught.value)
    assert "speaker: in two subsets of a fold: 1 speaker, 1 time over all folds" in words
    assert "such as a (train, test in fold one)" in words
    assert "partner: partners are in two subsets of a fold, from 1 dialogue," in words
    assert "protocol.allow=speaker,partner" in words
    allowed = check_leakage(make_protocol("a0", "", "a1 b0"), dialogue, allow="speaker, partner")
    assert list_verdicts(allowed) == {"speaker": "allowed", "partner": "allowed"}
    assert allowed["speaker"].description == found["speaker"].description
    raise_on_leaks(allowed.values())
    protocol = make_protocol("a0", "", "a1 b0")
    told = add_cautions(protocol, allowed.values())
    assert told.caution.startswith("speaker leak allowed: in two subsets of a fold: 1 speaker")
    assert "; partner leak allowed: " in told.caution
    assert told.hash == protocol.hash
    assert add_cautions(protocol, found.values()) == protocol


def test_utterance_in_two_subsets_cannot_be_allowed() -> None:
    found = check_leakage(make_protocol("a0 b0", "b0", "a1"), UTTERANCES, allow=("speaker",))
    assert list_verdicts(found) == {"speaker": "allowed", "validation": "error"}
    with pytest.raises(
        ProtocolError,
        match=r"^the split cannot be used\. validation: in two[^.]*1 utterance, such as b-0 "
        r"[^.]*\.$",
    ):
        raise_on_leaks(found.values())
    with pytest.raises(UnknownName, match=r"'speakers'; did you mean 'speaker'\? Known: duplicate"):
        check_leakage(make_protocol("a0", "", "b0"), UTTERANCES, allow="speakers")


def test_missing_utterances_are_an_error() -> None:
    with pytest.raises(ProtocolError, match="has 2 utterances, and 1 of them were given"):
        check_leakage(make_protocol("a0", "", "b0"), UTTERANCES[:1])


# Speakers


@pytest.mark.parametrize(
    ("sides", "example"),
    [
        (("a0", "", "a1"), "a (train, test in fold one)"),
        (("a0", "b0", "b1"), "b (validation, test in fold one)"),
        (("a0 c0", "c1", "b0"), "c (train, validation in fold one)"),
    ],
)
def test_speaker_in_two_subsets_is_an_error(sides: tuple[str, str, str], example: str) -> None:
    found = check_leakage(make_protocol(*sides), UTTERANCES)
    assert list_verdicts(found) == {"speaker": "error"}
    assert (found["speaker"].count, found["speaker"].examples) == (1, (example,))


def test_unknown_speakers_are_a_warning() -> None:
    utterances = [replace(one, speaker=None) if one.id == "b-0" else one for one in UTTERANCES]
    found = check_leakage(make_protocol("a0", "", "b0 c0"), utterances)
    assert list_verdicts(found) == {"speaker": "warning"}
    assert found["speaker"].description == (
        "1 of 3 utterances have no known speaker; no known speaker is in two subsets of a fold"
    )
    nobody = [replace(one, speaker=None) for one in UTTERANCES]
    found = check_leakage(make_protocol("a0", "", "b0"), nobody)
    assert found["speaker"].description == "2 of 2 utterances have no known speaker"
    assert list_verdicts(found) == {"speaker": "warning"}
    mixed = [replace(one, speaker=None) if one.id == "b-0" else one for one in UTTERANCES]
    assert check_leakage(make_protocol("a0", "", "a1 b0"), mixed)["speaker"].description == (
        "in two subsets of a fold: 1 speaker, 1 time over all folds; "
        "1 of 3 utterances have no known speaker"
    )


@pytest.mark.parametrize("name", ["random", "speaker-dependent"])
def test_random_folds_are_speaker_dependent_by_definition(name: str) -> None:
    found = check_leakage(split_by_settings(SMALL, name), SMALL)
    assert list_verdicts(found) == {
        "speaker": "allowed",
        "partner": "allowed",
        "sentence": "warning",
    }
    assert found["speaker"].count == 50
    raise_on_leaks(found.values())
    assert add_cautions(split_by_settings(SMALL, name), found.values()) == split_by_settings(
        SMALL, name
    )


def test_the_same_name_in_two_corpora_is_unknown() -> None:
    utterances = make_corpora(berlin=4, delhi=4)
    found = check_leakage(split_by_settings(utterances, "leave-one-corpus-out"), utterances)
    assert list_verdicts(found) == {"speaker": "unknown"}
    assert found["speaker"].count == 4
    assert found["speaker"].examples[0] == "berlin/00, delhi/00"
    published = make_corpora(emodb=4, ravdess=4)  # these two are known to be of different people
    found = check_leakage(split_by_settings(published, "leave-one-corpus-out"), published)
    assert list_verdicts(found) == {}
    raise_on_leaks(found.values())


@pytest.mark.parametrize(("one", "other"), [("03", "3"), ("3", "spk3"), ("Anna", "anna")])
def test_ids_that_look_alike_are_unknown(one: str, other: str) -> None:
    names = {"a": one, "b": other, "c": "f03"}
    utterances = [replace(u, speaker=names[str(u.speaker)]) for u in UTTERANCES]
    found = check_leakage(make_protocol("a0 c0", "", "b0"), utterances)["speaker"]
    assert (found.verdict, found.count) == ("unknown", 1)
    assert found.examples == (", ".join(sorted((one, other))),)
    assert "have ids that look alike, and may be one person" in found.description
    assert check_leakage(make_protocol("a0 b0", "", "c0"), utterances)["speaker"].verdict == "clean"


def test_speaker_with_two_genders_is_unknown() -> None:
    genders = {"a-0": "female", "a-1": "male", "b-0": "male"}
    utterances = [replace(one, gender=genders.get(one.id)) for one in UTTERANCES]
    found = check_leakage(make_protocol("a0 a1", "", "b0 b1"), utterances)["speaker"]
    assert (found.verdict, found.examples) == ("unknown", ("a (female and male)",))
    assert "1 speaker with two genders: one id may stand for two people" in found.description


# Partners


def test_leave_one_speaker_out_separates_partners() -> None:
    one = check_leakage(split_by_settings(SMALL, "leave-one-speaker-out"), SMALL)
    assert one["partner"].verdict == "error"
    assert "from 5 sessions and 150 dialogues" in one["partner"].description
    assert one["partner"].examples[0] == "session 1 (validation, test in fold 1F)"
    two = check_leakage(split_by_settings(SMALL, "leave-one-session-out"), SMALL)
    assert two["partner"].verdict == "clean"


def test_partners_need_dialogues_and_sessions_of_two() -> None:
    alone = [replace(one, dialogue=one.id, session="s") for one in UTTERANCES]
    assert check_leakage(make_protocol("a0", "c0", "b0"), alone)["partner"].verdict == "clean"
    assert "partner" not in check_leakage(make_protocol("a0", "", "b0"), UTTERANCES)
    two = [one for one in alone if one.speaker != "c"]
    assert check_leakage(make_protocol("a0", "", "b0"), two)["partner"].count == 1


def test_session_without_dialogues_is_unknown() -> None:
    together = [replace(one, session="s") for one in UTTERANCES]
    found = check_leakage(make_protocol("a0", "", "b0"), together)["partner"]
    assert (found.verdict, found.count) == ("unknown", 1)
    assert found.description.startswith("1 session without dialogues are in two subsets")
    apart = [replace(one, session=one.speaker) for one in UTTERANCES]
    assert check_leakage(make_protocol("a0", "", "b0"), apart)["partner"].verdict == "clean"
    named = [replace(one, labels={"call_id": str(one.speaker)}) for one in UTTERANCES]
    found = check_leakage(make_protocol("a0", "", "b0"), named)["partner"]
    assert found.verdict == "unknown"
    assert "column call_id looks like a session: rename it to session" in found.description


# Copies


@pytest.mark.parametrize(
    ("sides", "same", "verdict", "words"),
    [
        (("a0", "", "b0"), ("a-0", "b-0"), "error", "spans of a file: 1 utterance"),
        (("a0", "b0", "c0"), ("a-0", "b-0"), "error", "spans of a file: 1 utterance"),
        (("a0 b0", "", "c0"), ("a-0", "b-0"), "warning", "but within one subset: 1 utterance"),
        (("a0 a1", "", "c0"), ("a-0", "a-1"), "warning", "but within one subset: 1 utterance"),
        (("a0", "", "a1"), ("a-0", "a-1"), "warning", "of the same speaker"),
        (("a0", "", "c0"), ("a-0", "b-0"), "clean", "no two recordings"),
    ],
)
@pytest.mark.parametrize("by", ["file_hashes", "audio_hashes"])
def test_copies_of_a_recording(
    sides: tuple[str, str, str], same: tuple[str, str], verdict: str, words: str, by: str
) -> None:
    marks = dict.fromkeys(same, "the same")
    more: dict[str, Any] = {by: marks}
    found = check_leakage(make_protocol(*sides), UTTERANCES, allow="speaker", **more)["duplicate"]
    assert (found.verdict, found.count) == (verdict, int(verdict != "clean"))
    assert words in found.description
    if verdict == "error":
        assert same[0] in found.examples[0]


def test_copies_are_counted_in_every_fold() -> None:
    protocol = split_by_settings(UTTERANCES, "leave-one-speaker-out")
    found = check_leakage(protocol, UTTERANCES, file_hashes={"a-0": "b-1"})["duplicate"]
    assert (found.verdict, found.count) == ("error", 3)
    assert found.examples[0] == "a-0 (test) and b-1 (validation) in fold a"


def file_span(speaker: str, number: int, start: float, end: float | None) -> Utterance:
    return replace(make_utterance(speaker, number), path=Path("long.wav"), start=start, end=end)


@pytest.mark.parametrize(
    ("trained", "tested", "verdict"),
    [
        ((0.0, 2.0), (1.0, 3.0), "error"),
        ((0.0, 9.0), (2.0, 3.0), "error"),
        ((0.0, 2.0), (0.0, 2.0), "error"),
        ((0.0, None), (5.0, 6.0), "error"),
        ((5.0, 6.0), (0.0, None), "error"),
        ((0.0, 2.0), (2.0, 3.0), "clean"),
        ((0.0, 2.0004), (2.0, 3.0), "clean"),
        ((4.0, 5.0), (0.0, 1.0), "clean"),
    ],
)
@pytest.mark.parametrize("speaker", ["a", "b"])
def test_overlapping_spans_of_one_file(
    trained: tuple[float, float], tested: tuple[float, float], verdict: str, speaker: str
) -> None:
    utterances = [file_span("a", 0, *trained), file_span(speaker, 1, *tested)]
    protocol = make_protocol("a0", "", f"{speaker}1")
    assert check_leakage(protocol, utterances, allow="speaker")["duplicate"].verdict == verdict
    together = [*utterances, make_utterance("c", 0)]
    found = check_leakage(make_protocol(f"a0 {speaker}1", "", "c0"), together)["duplicate"]
    assert found.verdict == ("clean" if verdict == "clean" else "warning")


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(1, 12)), min_size=2, max_size=9), st.data()
)
def test_overlaps_equal_a_comparison_of_every_pair(
    times: list[tuple[int, int]], data: st.DataObject
) -> None:
    utterances = [file_span("a", n, start, start + long) for n, (start, long) in enumerate(times)]
    side = {one.id: data.draw(st.sampled_from(["train", "test"])) for one in utterances}
    sides = {s: tuple(id_ for id_ in side if side[id_] == s) for s in ("train", "test")}
    protocol = make_protocol("", "", "")
    protocol = replace(protocol, folds=(Fold(name="one", validation=(), **sides),))
    leaks = any(
        one.start < (other.end or 0) and other.start < (one.end or 0)
        for one in utterances
        for other in utterances
        if side[one.id] != side[other.id]
    )
    found = check_leakage(protocol, utterances, allow="speaker")["duplicate"]
    assert (found.verdict in ("error",)) == leaks


# Sentences, frames, classes


def test_sentences_that_are_tested_and_trained_are_counted() -> None:
    said = {"a-0": "Hello.", "b-0": "hello", "b-1": "bye", "c-0": "bye!"}
    utterances = [replace(one, text=said.get(one.id)) for one in UTTERANCES]
    found = check_leakage(make_protocol("a0 a1", "c0", "b0 b1"), utterances)["sentence"]
    assert (found.verdict, found.count) == ("warning", 2)
    assert found.description.startswith(
        "the sentences of 2 of 2 test utterances are in another subset of their fold"
    )
    assert sorted(found.examples) == ["bye", "hello"]
    some = check_leakage(make_protocol("a0 a1", "", "c0 c1"), utterances)["sentence"]
    assert some.verdict == "unknown"
    assert "2 of 4 utterances have no sentence and no transcript" in some.description
    assert check_leakage(make_protocol("a0", "", "c0"), utterances)["sentence"].verdict == "clean"


def test_corpus_without_sentences_is_unknown() -> None:
    nothing = [replace(one, text=None) for one in UTTERANCES]
    found = check_leakage(make_protocol("a0", "", "b0"), nothing)["sentence"]
    assert (found.verdict, found.count) == ("unknown", 0)
    assert found.description == "2 of 2 utterances have no sentence and no transcript"
    named = [replace(one, labels={"prompt": one.id, "sex": "f"}) for one in nothing]
    found = check_leakage(make_protocol("a0", "", "b0"), named)["sentence"]
    assert "column prompt looks like a sentence: rename it to sentence" in found.description


def test_sentences_of_joined_corpora_are_compared_by_their_words() -> None:
    said = {"berlin": ("Dogs sit.", "d"), "delhi": ("dogs sit", "7")}
    utterances = [
        replace(one, text=said[one.corpus][0], labels={"sentence": said[one.corpus][1]})
        for one in make_corpora(berlin=2, delhi=2)
        if one.corpus
    ]
    protocol = split_by_settings(utterances, "leave-one-corpus-out")
    found = check_leakage(protocol, utterances)["sentence"]
    assert (found.verdict, found.count, found.examples) == ("warning", 12, ("dogs sit",))
    wordless = [replace(one, text=None) if one.corpus == "delhi" else one for one in utterances]
    found = check_leakage(protocol, wordless)["sentence"]
    assert (found.verdict, found.count) == ("unknown", 0)
    assert "the sentences of berlin and delhi cannot be compared" in found.description
    languages = {"berlin": "de", "delhi": "hi"}
    apart = [replace(one, language=languages[str(one.corpus)]) for one in wordless]
    assert check_leakage(protocol, apart)["sentence"].verdict == "clean"


def test_sentence_labels_take_precedence_over_transcripts() -> None:
    utterances = [replace(one, text="la", labels={"sentence": one.id}) for one in UTTERANCES]
    assert check_leakage(make_protocol("a0", "", "b0"), utterances)["sentence"].verdict == "clean"
    disjoint = split_by_settings(
        make_iemocap(dict.fromkeys("12345", 300)), "leave-one-session-out", disjoint="sentence"
    )
    whole = make_iemocap(dict.fromkeys("12345", 300))
    assert check_leakage(disjoint, whole)["sentence"].verdict == "clean"


@pytest.mark.parametrize(
    ("scope", "verdict"), [("training", "clean"), ("none", "clean"), ("speaker", "warning")]
)
def test_normalization_by_speaker_is_a_warning(scope: str, verdict: str) -> None:
    found = check_leakage(make_protocol("a0", "", "b0"), UTTERANCES, normalization=scope)[
        "normalisation"
    ]
    assert found.verdict == verdict
    assert ("all recordings of the test speakers" in found.description) == (verdict == "warning")
    with pytest.raises(UnknownName, match="scope of normalisation 'corpus'"):
        check_leakage(make_protocol("a0", "", "b0"), UTTERANCES, normalization="corpus")


def test_checks_without_data_give_no_finding() -> None:
    found = check_leakage(make_protocol("a0 a1", "c0", "b0 b1"), UTTERANCES)
    assert sorted(found) == ["duplicate", "normalisation", "sentence", "speaker", "validation"]


def test_folds_without_validation_are_counted() -> None:
    found = check_leakage(
        split_by_settings(UTTERANCES, "leave-one-speaker-out", validation="none"), UTTERANCES
    )
    assert found["validation"].verdict == "clean"
    assert "3 folds without a validation subset" in found["validation"].description


# In an evaluation


def test_results_contain_the_findings(corpus: Corpus, tmp_path: Path) -> None:
    recipe = small_recipe("training.epochs=1", "protocol.name=random", "protocol.folds=2")
    recipe = replace(recipe, protocol={**recipe.protocol, "validation": "none"})
    run = evaluate(recipe, corpus, runs=tmp_path)
    kinds = {one.kind: one.verdict for one in run.results.leakage}
    assert (kinds["speaker"], kinds["validation"]) == ("allowed", "clean")
    assert run.results.protocol["caution"].startswith("speaker-dependent")
    assert io.load_results(run.folder).leakage == run.results.leakage


def test_a_leak_stops_an_evaluation_before_it_trains(corpus: Corpus, tmp_path: Path) -> None:
    talking = [replace(one, dialogue=one.session) for one in corpus.utterances]
    two = replace(corpus, utterances=tuple(talking))
    with pytest.raises(ProtocolError, match=r"the split leaks\. partner: .*allow=partner"):
        build_plan(small_recipe(), two, seed=0, device="cpu", runs=tmp_path)
    allowed = small_recipe("protocol.allow=partner")
    plan = build_plan(allowed, two, seed=0, device="cpu", runs=tmp_path)
    assert {one.kind for one in plan.leakage if one.verdict == "allowed"} == {"partner"}
    assert plan.protocol.caution.startswith("partner leak allowed: partners are in two subsets")


# Size, and real corpora


@pytest.mark.parametrize("name", ["leave-one-speaker-out", "random"])
def test_ten_folds_of_ten_thousand_utterances(name: str) -> None:
    utterances = make_iemocap()
    random.Random(0).shuffle(utterances)
    marks = {one.id: one.id for one in utterances}
    protocol = split_by_settings(utterances, name, **({"folds": 10} if name == "random" else {}))
    findings = find_leaks(protocol, utterances, marks, audio_hashes=marks)
    kinds = [finding.kind for finding in findings if finding.verdict == "error"]
    assert kinds == (["partner"] if name == "leave-one-speaker-out" else [])


def test_ravdess_has_one_copy_of_the_same_actor() -> None:
    root = SHARED / "ravdess"
    if not root.exists():
        pytest.skip("RAVDESS is not in ../shared/data")
    utterances = [
        Utterance(id=file.stem, path=file, speaker=file.stem[-2:], text=file.stem[12:14])
        for file in sorted(root.glob("Actor_0*/*.*"))
    ]
    protocol, marks = (
        split_by_settings(utterances, "leave-one-speaker-out"),
        hash_contents(utterances),
    )
    for samples in (None, hash_audio(utterances)):
        found = find_leaks(protocol, utterances, marks, audio_hashes=samples)
        by_kind = {one.kind: one for one in found}
        assert list_verdicts(by_kind) == {"duplicate": "warning", "sentence": "warning"}
        assert by_kind["duplicate"].count == 1
        raise_on_leaks(found)
    drawn = split_by_settings(utterances, "random")
    found = find_leaks(drawn, utterances, marks)
    assert {one.kind: one.verdict for one in found}["duplicate"] == "warning"


def test_emodb_is_clean_except_for_its_sentences() -> None:
    if not (SHARED / "emodb").exists():
        pytest.skip("EMO-DB is not in ../shared/data")
    utterances = corpus_readers.load(f"emodb={SHARED / 'emodb'}").utterances
    protocol = split_by_settings(utterances, "leave-one-speaker-out")
    found = find_leaks(
        protocol, utterances, hash_contents(utterances), audio_hashes=hash_audio(utterances)
    )
    by_kind = {one.kind: one for one in found}
    assert list_verdicts(by_kind) == {"sentence": "warning"}
    assert "1 fold with more, so that every class is validated: 15" in protocol.validation
    assert by_kind["sentence"].count == 535
    assert "10 sentences in all" in by_kind["sentence"].description
