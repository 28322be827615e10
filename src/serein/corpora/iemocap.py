"""Interactive Emotional Dyadic Motion Capture (IEMOCAP): 10,039 utterances, 10 actors, English.

    root/Session1/
        sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav (or .flac)
        dialog/EmoEvaluation/Ses01F_impro01.txt     emotion | [valence, activation, dominance]:

            [8.5000 - 9.7500]	Ses01F_impro01_M000	neu	[2.5000, 2.5000, 2.5000]
            C-E2:	Neutral; Other;	(amused)
            A-E3:	val 3; act 2; dom  2;	()

        dialog/transcriptions/Ses01F_impro01.txt    optional; without this folder no ``text``

            Ses01F_impro01_M000 [008.5000-009.7500]: Of course.

The speaker is the session and the letter after the *last* underscore, here "1M". The letter in
``Ses01F`` names the actor who wore the motion capture markers, who is the speaker of only half of
the utterances.

``emotion`` is the majority vote of the evaluators; without a majority (``xxx``) the label is
absent. ``valence``, ``arousal`` (IEMOCAP's activation) and ``dominance`` are means over the
evaluators. The scale is 1 to 5, and seven means are outside it (valence 5.5 four times, dominance
0.5 three times): a mean or rating off the scale becomes the nearest end, and the notes count the
means. The ratings of one person are ``emotion:E2`` or ``valence:E3``: E is an evaluator, F or
M an actor who rates himself. Several answers are separated by commas; ratings and means that were
left out are absent. ``emotion_votes`` are the answers of the evaluators alone, such as
"neutral=1.5, sadness=0.5": each evaluator has one vote, which several answers divide. ``style`` is
improvised or scripted. ``script`` is the scene, such as impro05 or script01_1; its parts a and b
count as one. The scripts are the same in every session, so their sentences recur.

Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources
and Evaluation, 2008.
"""

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from serein.corpora._reading import (
    AUDIO_SUFFIXES,
    check_counts,
    find_subfolder,
    list_recordings,
    restore_advice,
)
from serein.errors import CorpusError
from serein.records import CorpusInfo, Label, Utterance
from serein.synthetic.iemocap import GENERATED_FILE

ABOUT = CorpusInfo(
    title="Interactive Emotional Dyadic Motion Capture (IEMOCAP)",
    language="English",
    licence="for research, by agreement with its owners",
    home="https://sail.usc.edu/iemocap/",
)
COUNTS = {"Session1": 1819, "Session2": 1811, "Session3": 2136, "Session4": 2103, "Session5": 2170}
EMOTIONS = {
    "ang": "anger",
    "dis": "disgust",
    "exc": "excitement",
    "fea": "fear",
    "fru": "frustration",
    "hap": "happiness",
    "neu": "neutral",
    "oth": "other",
    "sad": "sadness",
    "sur": "surprise",
}
NO_MAJORITY = "xxx"
RATER_EMOTIONS = {"excited": "excitement", "neutral state": "neutral"}
"""Emotion names of the evaluators that differ from ``EMOTIONS``."""
EVALUATOR_PREFIX = "emotion:E"
"""Begins the names of the evaluators' labels; F and M are actors."""
DIMENSIONS = {"val": "valence", "act": "arousal", "dom": "dominance"}
SCALE = (1.0, 5.0)
"""Lowest and highest rating."""
GENDERS = {"F": "female", "M": "male"}
STYLES = {"impro": "improvised", "script": "scripted"}

NUMBER_PATTERN = r"(\d+(?:\.\d+)?)"
MEAN_PATTERN = r"(\d+(?:\.\d+)?|[Nn]a[Nn])"
TURN_PATTERN = re.compile(
    rf"\[.+?\]\s+(\S+)\s+(\S+)\s+\[{MEAN_PATTERN},\s*{MEAN_PATTERN}(?:,\s*{MEAN_PATTERN}?)?\]\s*"
)
NAME_PATTERN = re.compile(r"Ses0([1-5])[FM]_((impro|script)0\d(?:[ab]?_\d)?)[ab]?_([FM])[X\d]\d\d")
RATING_PATTERN = re.compile(r"([AC])-([EFM]\d+):\s*(.*)")
VALUES_PATTERN = re.compile(r"(?:(?:val|act|dom)\s*[\d.]*\s*;?\s*)*")
VALUE_PATTERN = re.compile(rf"(val|act|dom)\s*{NUMBER_PATTERN}")
TRANSCRIPT_PATTERN = re.compile(r"(\w+)\s*\[.*?\]:?\s*(.*?)\s*")
RESTORE_ADVICE = restore_advice(ABOUT.home)


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance under ``root``, in order of ids.

    Args:
        root: the folder that holds ``Session1/`` to ``Session5/``.
        partial: accept an incomplete copy.

    Raises:
        CorpusError: a folder, a file, a line or the count differs from IEMOCAP's.
    """
    sessions = [root / name for name in COUNTS if (root / name).is_dir()]
    if not sessions:
        find_subfolder(root, "Session1", "IEMOCAP", ABOUT.home)
    if len(sessions) < len(COUNTS) and not partial:
        missing = [name for name in COUNTS if root / name not in sessions]
        raise CorpusError(
            f"{root} lacks {', '.join(missing)} of IEMOCAP's sessions. {RESTORE_ADVICE}"
        )
    utterances = [
        utterance for session in sessions for utterance in _read_session(session, partial)
    ]
    if not partial:
        session_names = [f"Session{utterance.session}" for utterance in utterances]
        check_counts(root, "IEMOCAP", session_names, COUNTS, RESTORE_ADVICE)
    return sorted(utterances, key=lambda utterance: utterance.id)


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return notes of missing recordings, means and texts, and of means off the scale.

    The first note says whether the copy was generated by this package.
    """
    notes = _describe_generated(root)
    if len(utterances) != sum(COUNTS.values()):
        files = [file for name in COUNTS for file in _evaluation_files(root / name)]
        unrecorded = sum(len(_read_turns(file)) for file in files) - len(utterances)
        if unrecorded > 0:
            notes.append(f"evaluated turns without a recording, skipped: {unrecorded}")
    for name in DIMENSIONS.values():
        unrated = sum(name not in utterance.labels for utterance in utterances)
        if unrated:
            notes.append(f"utterances without a mean of {name}: {unrated}")
    notes += _describe_off_scale(root, {utterance.id for utterance in utterances})
    without_text = sum(utterance.text is None for utterance in utterances)
    if without_text:
        notes.append(f"utterances without a text: {without_text}")
    return notes


def _describe_generated(root: Path) -> list[str]:
    file = root / GENERATED_FILE
    return file.read_text(encoding="utf-8").splitlines()[:1] if file.is_file() else []


def _describe_off_scale(root: Path, ids: Container[str]) -> list[str]:
    """Return a note about the means of each dimension that were moved to an end of the scale."""
    found: dict[str, list[str]] = {name: [] for name in DIMENSIONS.values()}
    for file in (file for name in COUNTS for file in _evaluation_files(root / name)):
        for line in _read_lines(file):
            match = TURN_PATTERN.fullmatch(line) if line.startswith("[") else None
            if match and match[1] in ids:
                for name, mean in _parse_means(match):
                    if mean != _move_to_scale(mean):
                        found[name].append(f"{match[1]} ({mean:g})")
    return [
        f"means of {name} outside 1 to 5, which became the nearest end: {len(turns)}, such as "
        f"{turns[0]}"
        for name, turns in found.items()
        if turns
    ]


def _evaluation_files(session: Path) -> list[Path]:
    return sorted((session / "dialog/EmoEvaluation").glob("Ses*.txt"))


def _read_session(session: Path, partial: bool) -> Iterator[Utterance]:
    """Yield every utterance that the evaluations of a session list."""
    for part in ("sentences/wav", "dialog/EmoEvaluation"):
        if not ((session / part).is_dir() or partial):
            raise CorpusError(f"{session} has no folder {part}/. {RESTORE_ADVICE}")
    for file in _evaluation_files(session):
        folder = session / "sentences/wav" / file.stem
        files = {recording.stem: recording for recording in list_recordings(folder, AUDIO_SUFFIXES)}
        texts = _read_transcripts(session / "dialog/transcriptions" / file.name, partial)
        for number, name, labels in _read_turns(file):
            where = f"{file}, line {number}"
            if name in files:
                yield _parse_utterance(where, session, files[name], labels, texts.get(name))
            elif not partial:
                raise CorpusError(f"{where}: {folder} has no recording {name}. {RESTORE_ADVICE}")


Turn = tuple[int, str, dict[str, Label]]
"""Line number, name and labels of an utterance."""


def _read_turns(file: Path) -> list[Turn]:
    """Return the labels of each utterance in an evaluation file."""
    turns: list[Turn] = []
    for number, line in enumerate(_read_lines(file), 1):
        is_rating = turns and line.startswith(("A-", "C-"))
        labels = _parse_rating(line.partition("(")[0].strip()) if is_rating else None
        if labels is not None:
            turns[-1][2].update(labels)
        elif match := TURN_PATTERN.fullmatch(line):
            turns.append((number, match[1], _parse_majority(match, f"{file}, line {number}")))
        elif line.strip() and not line.startswith("%"):
            raise CorpusError(
                f"{file}, line {number}: {line!r} is neither an utterance such as '[6.2901 - "
                "8.2357]\\tSes01F_impro01_F000\\tneu\\t[2.5000, 2.5000, 2.5000]' nor a rating such "
                "as 'C-E2:\\tNeutral;\\t()' of one; restore the file"
            )
    return [(number, name, {**labels, **_count_votes(labels)}) for number, name, labels in turns]


def _count_votes(labels: Mapping[str, Label]) -> dict[str, str]:
    """Return the label ``emotion_votes``; actors' answers on themselves do not count."""
    votes: dict[str, float] = {}
    for name, answers in labels.items():
        if name.startswith(EVALUATOR_PREFIX):
            words = str(answers).split(", ")
            for word in words:
                votes[word] = votes.get(word, 0.0) + 1 / len(words)
    text = ", ".join(f"{word}={votes[word]:.6g}" for word in sorted(votes))
    return {"emotion_votes": text} if text else {}


def _read_lines(file: Path) -> list[str]:
    # Comments are free text; Latin-1 decodes any byte.
    return file.read_text(encoding="latin-1").split("\n")


def _parse_majority(match: re.Match[str], where: str) -> dict[str, Label]:
    """Return the evaluators' majority vote and means for an utterance."""
    code = match[2]
    labels: dict[str, Label] = {name: _move_to_scale(mean) for name, mean in _parse_means(match)}
    if code != NO_MAJORITY:
        if code not in EMOTIONS:
            listing = ", ".join([*EMOTIONS, NO_MAJORITY])
            raise CorpusError(f"{where}: unknown emotion {code!r}; IEMOCAP has {listing}")
        labels["emotion"] = EMOTIONS[code]
    return labels


def _parse_means(match: re.Match[str]) -> Iterator[tuple[str, float]]:
    """Yield the dimension and value of each mean that is there."""
    for name, mean in zip(DIMENSIONS.values(), match.groups()[2:], strict=True):
        if mean and mean.lower() != "nan":
            yield name, float(mean)


def _move_to_scale(rating: float) -> float:
    return min(max(rating, SCALE[0]), SCALE[1])


@cache
def _parse_rating(line: str) -> dict[str, Label] | None:
    """Return one person's rating; None if the line (without its comment) is not a rating."""
    match = RATING_PATTERN.fullmatch(line)
    if match is None:
        return None
    kind, rater, rating = match.groups()
    if kind == "A":
        values = {
            f"{DIMENSIONS[name]}:{rater}": _move_to_scale(float(n))
            for name, n in VALUE_PATTERN.findall(rating)
        }
        return {**values} if VALUES_PATTERN.fullmatch(rating) else None
    words = [word.strip().lower() for word in rating.split(";")]
    answers = ", ".join(RATER_EMOTIONS.get(word, word) for word in words if word)
    return {f"emotion:{rater}": answers} if answers else {}


def _read_transcripts(file: Path, partial: bool) -> dict[str, str]:
    """Return the text of each utterance in a dialogue; empty without a transcriptions folder."""
    if not file.exists():
        if file.parent.is_dir() and not partial:
            raise CorpusError(
                f"{file} is missing, but other transcriptions exist. {RESTORE_ADVICE}"
            )
        return {}
    texts = {}
    for number, line in enumerate(_read_lines(file), 1):
        if line.startswith(f"{file.stem}_"):
            match = TRANSCRIPT_PATTERN.fullmatch(line)
            if match is None:
                raise CorpusError(
                    f"{file}, line {number}: {line!r} is not an utterance, its times and its "
                    "words such as 'Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.'; restore "
                    "the file"
                )
            texts[match[1]] = match[2]
    return texts


def _parse_utterance(
    where: str, session: Path, file: Path, labels: dict[str, Label], text: str | None
) -> Utterance:
    """Parse session, script and speaker from a file name."""
    dialogue, name = file.parent.name, file.stem
    match = NAME_PATTERN.fullmatch(name)
    if match is None or not name.startswith(f"{dialogue}_") or session.name[-1] != match[1]:
        raise CorpusError(
            f"{where}: {name!r} is not an utterance of {dialogue} in {session.name}, such as "
            f"{dialogue}_F000; move the file elsewhere"
        )
    number, script, style, letter = match.groups()
    return Utterance(
        id=name,
        path=file,
        speaker=f"{number}{letter}",
        session=number,
        dialogue=dialogue,
        gender=GENDERS[letter],
        language="en",
        text=text,
        labels={**labels, "style": STYLES[style], "script": script},
    )
