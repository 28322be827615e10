"""Berlin Database of Emotional Speech (EMO-DB): 535 utterances, 10 actors, 7 emotions, German.

    root/
        wav/03a01Fa.wav     03 speaker | a01 text | F emotion | a version
        erkennung.txt       Latin-1, padded with no-break spaces; more rows than wav/ has files:

            Nr.	Satz	erkannt	natuerlich
            3	03a01Fa.wav	90,00	75,00

The ten sentences are those of the corpus's ``README.txt``; the label ``sentence`` is their code.
``recognition`` and ``naturalness`` are percentages of the listeners, 0 to 100. A later release has
all 816 recordings.

Burkhardt et al., "A Database of German Emotional Speech", Interspeech 2005.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from serein.corpora._reading import (
    check_counts,
    decode_field,
    describe_skipped,
    find_subfolder,
    find_unread,
    list_recordings,
    restore_advice,
)
from serein.errors import CorpusError
from serein.records import CorpusInfo, Utterance

ABOUT = CorpusInfo(
    title="Berlin Database of Emotional Speech (EMO-DB)",
    language="German",
    licence="CC0",
    home="http://emodb.bilderbar.info/",
)
COUNTS = {
    "anger": 127,
    "boredom": 81,
    "disgust": 46,
    "fear": 69,
    "happiness": 71,
    "neutral": 79,
    "sadness": 62,
}
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
GENDERS = {
    **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
    **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
}
TEXTS = {
    "a01": "Der Lappen liegt auf dem Eisschrank.",
    "a02": "Das will sie am Mittwoch abgeben.",
    "a04": "Heute abend könnte ich es ihm sagen.",
    "a05": "Das schwarze Stück Papier befindet sich da oben neben dem Holzstück.",
    "a07": "In sieben Stunden wird es soweit sein.",
    "b01": "Was sind denn das für Tüten, die da unter dem Tisch stehen?",
    "b02": "Sie haben es gerade hochgetragen und jetzt gehen sie wieder runter.",
    "b03": "An den Wochenenden bin ich jetzt immer nach Hause gefahren und habe Agnes besucht.",
    "b09": "Ich will das eben wegbringen und dann mit Karl was trinken gehen.",
    "b10": "Die wird auf dem Platz sein, wo wir sie immer hinlegen.",
}
JUDGEMENT_PATTERN = re.compile(r"\d+\s*\t(\w+)\.wav\s*\t(\d+,\d+)\s*\t(\d+,\d+)\s*", re.IGNORECASE)


def read(root: Path, *, partial: bool = False) -> list[Utterance]:
    """Read every utterance under ``root``, in order of file name.

    Args:
        root: the folder that holds ``wav/``.
        partial: accept an incomplete copy.

    Raises:
        CorpusError: the folder, a file name, a line or the count differs from EMO-DB's.
    """
    folder = find_subfolder(root, "wav", "EMO-DB", ABOUT.home)
    judgements = _read_judgements(root / "erkennung.txt")
    utterances = [
        _parse_utterance(file, judgements.get(file.stem, {})) for file in list_recordings(folder)
    ]
    if not partial:
        _check_utterance_counts(folder, utterances)
    return utterances


def notes(root: Path, utterances: Sequence[Utterance]) -> list[str]:
    """Return a note of recordings elsewhere under ``root``, such as a copy in ``wav/wav/``."""
    return describe_skipped(root, find_unread(root, utterances), "recordings")


def _parse_utterance(file: Path, judgement: dict[str, float]) -> Utterance:
    """Parse speaker, text and emotion from a file name."""
    name = file.stem
    speaker, text, emotion = name[:2], name[2:5], name[5:6]
    if len(name) != 7:
        raise CorpusError(f"{file} is not an EMO-DB name such as 03a01Fa.wav; move it elsewhere")
    return Utterance(
        id=name,
        path=file,
        speaker=speaker,
        gender=decode_field(file, "speaker", speaker, GENDERS, "EMO-DB"),
        language="de",
        text=decode_field(file, "text", text, TEXTS, "EMO-DB"),
        labels={
            "emotion": decode_field(file, "emotion", emotion, EMOTIONS, "EMO-DB"),
            "sentence": text,
            **judgement,
        },
    )


def _read_judgements(file: Path) -> dict[str, dict[str, float]]:
    """Return the labels from listeners for each recording; empty without the file."""
    if not file.exists():
        return {}
    judgements = {}
    for number, line in enumerate(file.read_text(encoding="latin-1").splitlines(), 1):
        if not line.strip() or line.startswith("Nr."):
            continue
        match = JUDGEMENT_PATTERN.fullmatch(line)
        percents = [float(text.replace(",", ".")) for text in match.groups()[1:]] if match else []
        if match is None or max(percents) > 100:
            raise CorpusError(
                f"{file}, line {number}: {line!r} is not a number, a file name and two percentages "
                "such as '3\\t03a01Fa.wav\\t90,00\\t75,00'; restore the file or remove it"
            )
        judgements[match[1]] = dict(zip(("recognition", "naturalness"), percents, strict=True))
    return judgements


def _check_utterance_counts(folder: Path, utterances: list[Utterance]) -> None:
    """Compare the counts with those that EMO-DB publishes."""
    advice = restore_advice(ABOUT.home)
    if len(utterances) == 816:
        advice = "This is the later release with all 816; keep the 535, or read it with --partial"
    emotions = [str(utterance.labels["emotion"]) for utterance in utterances]
    check_counts(folder, "EMO-DB", emotions, COUNTS, advice)
