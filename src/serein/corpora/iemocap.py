"""Interactive Emotional Dyadic Motion Capture (IEMOCAP): 10,039 utterances, 10 actors, English.

    root/Session1/
        sentences/wav/Ses01F_impro01/Ses01F_impro01_M000.wav
        dialog/EmoEvaluation/Ses01F_impro01.txt     emotion | [valence, activation, dominance]:

            [8.5000 - 9.7500]	Ses01F_impro01_M000	neu	[2.5000, 2.5000, 2.5000]
            C-E2:	Neutral; Other;	(amused)
            A-E3:	val 3; act 2; dom  2;	()

        dialog/transcriptions/Ses01F_impro01.txt    without this folder there are no texts

            Ses01F_impro01_M000 [008.5000-009.7500]: Of course.

The speaker is the session and the letter after the *last* underscore, here "1M". The letter in
``Ses01F`` says who wore the markers; in half of the utterances it is the other actor's.

``emotion`` is the evaluators' majority; where there was none (``xxx``) the utterance has no such
label. ``valence``, ``arousal`` (IEMOCAP's activation) and ``dominance`` are the evaluators' means.
What one person said is ``emotion:E2`` or ``valence:E3``: E stands for evaluators, F and M for the
actors themselves. Several answers are parted by commas; what was left open is absent, means too.
``style`` is improvised or scripted. ``script`` is what was played, such as impro05 or script01_1;
its parts a and b count as one. Scripts recur in every session, words and all.

Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources
and Evaluation, 2008.
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from serein.corpora._reading import check_counts, find_subfolder, list_recordings, restore_advice
from serein.errors import CorpusError
from serein.records import CorpusInfo, Label, Utterance

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
"""Words of the evaluators that differ from ``EMOTIONS``."""
DIMENSIONS = {"val": "valence", "act": "arousal", "dom": "dominance"}
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
        partial: take what is there, however much is missing.

    Raises:
        CorpusError: a folder, a file, a line or the count is not IEMOCAP's.
    """
    sessions = [root / name for name in COUNTS if (root / name).is_dir()]
    if not sessions:
        find_subfolder(root, "Session1", "IEMOCAP", ABOUT.home)
    if len(sessions) < len(COUNTS) and not partial:
        missing = [name for name in COUNTS if root / name not in sessions]
        raise CorpusError(
            f"{root} lacks {', '.join(missing)} of IEMOCAP's sessions. {RESTORE_ADVICE}"
        )
    utterances = [one for session in sessions for one in _read_session(session, partial)]
    if not partial:
        found = [f"Session{one.session}" for one in utterances]
        check_counts(root, "IEMOCAP", found, COUNTS, RESTORE_ADVICE)
    return sorted(utterances, key=lambda utterance: utterance.id)


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Evaluated turns without a recording; utterances without a mean, or without words."""
    told = []
    if len(utterances) != sum(COUNTS.values()):
        files = [file for name in COUNTS for file in _evaluation_files(root / name)]
        silent = sum(len(_read_turns(file)) for file in files) - len(utterances)
        told += [f"evaluated turns without a recording, passed over: {silent}"] * (silent > 0)
    for name in DIMENSIONS.values():
        without = sum(name not in one.labels for one in utterances)
        told += [f"utterances without a mean of {name}: {without}"] * (without > 0)
    wordless = sum(one.text is None for one in utterances)
    return [*told, *[f"utterances without words: {wordless}"] * (wordless > 0)]


def _evaluation_files(session: Path) -> list[Path]:
    return sorted((session / "dialog/EmoEvaluation").glob("Ses*.txt"))


def _read_session(session: Path, partial: bool) -> Iterator[Utterance]:
    """Every utterance that a session's evaluations list."""
    for part in ("sentences/wav", "dialog/EmoEvaluation"):
        if not ((session / part).is_dir() or partial):
            raise CorpusError(f"{session} has no folder {part}/. {RESTORE_ADVICE}")
    for file in _evaluation_files(session):
        folder = session / "sentences/wav" / file.stem
        heard = {one.stem: one for one in list_recordings(folder)}
        texts = _read_transcripts(session / "dialog/transcriptions" / file.name, partial)
        for number, name, labels in _read_turns(file):
            place = f"{file}, line {number}"
            if name in heard:
                yield _parse_utterance(place, session, heard[name], labels, texts.get(name))
            elif not partial:
                raise CorpusError(f"{place}: {folder} holds no recording {name}. {RESTORE_ADVICE}")


Turn = tuple[int, str, dict[str, Label]]
"""Number of a line, name of an utterance, its labels."""


def _read_turns(file: Path) -> list[Turn]:
    """What an evaluation says of each utterance."""
    turns: list[Turn] = []
    for number, line in enumerate(_read_lines(file), 1):
        rating = turns and line.startswith(("A-", "C-"))
        said = _parse_rating(line.partition("(")[0].strip()) if rating else None
        if said is not None:
            turns[-1][2].update(said)
        elif found := TURN_PATTERN.fullmatch(line):
            turns.append((number, found[1], _parse_majority(found, f"{file}, line {number}")))
        elif line.strip() and not line.startswith("%"):
            raise CorpusError(
                f"{file}, line {number}: {line!r} is neither an utterance such as '[6.2901 - "
                "8.2357]\\tSes01F_impro01_F000\\tneu\\t[2.5000, 2.5000, 2.5000]' nor a rating such "
                "as 'C-E2:\\tNeutral;\\t()' of one; restore the file"
            )
    return turns


def _read_lines(file: Path) -> list[str]:
    # Comments hold what people typed; Latin-1 takes any byte.
    return file.read_text(encoding="latin-1").split("\n")


def _parse_majority(found: re.Match[str], place: str) -> dict[str, Label]:
    """Labels of an utterance that its evaluators share."""
    code = found[2]
    labels: dict[str, Label] = {
        name: float(mean)
        for name, mean in zip(DIMENSIONS.values(), found.groups()[2:], strict=True)
        if mean and mean.lower() != "nan"
    }
    if code != NO_MAJORITY:
        if code not in EMOTIONS:
            listing = ", ".join([*EMOTIONS, NO_MAJORITY])
            raise CorpusError(f"{place}: unknown emotion {code!r}; IEMOCAP has {listing}")
        labels["emotion"] = EMOTIONS[code]
    return labels


@cache
def _parse_rating(line: str) -> dict[str, Label] | None:
    """What one person said of an utterance; None if the line, without comment, is no rating."""
    found = RATING_PATTERN.fullmatch(line)
    if found is None:
        return None
    kind, rater, said = found.groups()
    if kind == "A":
        values = {
            f"{DIMENSIONS[name]}:{rater}": float(n) for name, n in VALUE_PATTERN.findall(said)
        }
        return {**values} if VALUES_PATTERN.fullmatch(said) else None
    words = [word.strip().lower() for word in said.split(";")]
    answers = ", ".join(RATER_EMOTIONS.get(word, word) for word in words if word)
    return {f"emotion:{rater}": answers} if answers else {}


def _read_transcripts(file: Path, partial: bool) -> dict[str, str]:
    """What is said in each utterance; nothing where the corpus has no transcriptions."""
    if not file.exists():
        if file.parent.is_dir() and not partial:
            raise CorpusError(f"{file} is missing, and others are there. {RESTORE_ADVICE}")
        return {}
    texts = {}
    for number, line in enumerate(_read_lines(file), 1):
        if line.startswith(f"{file.stem}_"):
            found = TRANSCRIPT_PATTERN.fullmatch(line)
            if found is None:
                raise CorpusError(
                    f"{file}, line {number}: {line!r} is not an utterance, its times and its "
                    "words such as 'Ses01F_impro01_F000 [006.2901-008.2357]: Excuse me.'; restore "
                    "the file"
                )
            texts[found[1]] = found[2]
    return texts


def _parse_utterance(
    place: str, session: Path, file: Path, labels: dict[str, Label], text: str | None
) -> Utterance:
    """Read session, script and speaker from a file name."""
    dialogue, name = file.parent.name, file.stem
    found = NAME_PATTERN.fullmatch(name)
    if found is None or not name.startswith(f"{dialogue}_") or session.name[-1] != found[1]:
        raise CorpusError(
            f"{place}: {name!r} is not an utterance of {dialogue} in {session.name}, such as "
            f"{dialogue}_F000; move the file elsewhere"
        )
    number, script, style, letter = found.groups()
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
