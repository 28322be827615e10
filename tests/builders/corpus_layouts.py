"""Write synthetic speech in the layouts of published corpora, with their names and irregularities.

Each text code of a corpus has one random sentence of the synthetic lexicon.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from serein.synthetic.iemocap import split_proportionally
from serein.synthetic.speech import (
    EMOTION_STYLES,
    LEXICON,
    RATE,
    Voice,
    make_rng,
    synthesize,
    write_wav,
)
from serein.utils.files import write_bytes, write_text

SUBSTITUTE_STYLES = {"surprise": "happiness"}
"""Speaking styles of emotions without a style of their own."""


@dataclass(frozen=True, kw_only=True)
class SentenceRecorder:
    """A writer of synthetic recordings.

    Attributes:
        words: number of words per sentence; 0 writes 10 ms of silence, to test readers quickly.
        seed: determines the voices and sentences.
    """

    words: int
    seed: int

    def make_sentence(self, *key: object) -> str:
        """Return the sentence for a key, such as the text code of a corpus."""
        return " ".join(make_rng(self.seed, "sentence", *key).choice(LEXICON, self.words))

    def record(
        self, path: Path, *, name: str, speaker: str, gender: str, emotion: str, sentence: str
    ) -> None:
        """Write a recording; its random variation is seeded by ``name``.

        Raises:
            StorageError: the file could not be written.
        """
        samples = np.zeros(160, np.float32)
        if sentence:
            voice = Voice.for_speaker(speaker, gender, seed=self.seed)
            rng = make_rng(self.seed, name)
            samples = synthesize(
                sentence.split(), voice, SUBSTITUTE_STYLES.get(emotion, emotion), rng
            )
        write_wav(path, samples)


EMODB_LETTERS = dict(zip("WLEAFNT", EMOTION_STYLES, strict=True))
EMODB_COUNTS = dict(zip("WLEAFNT", (127, 81, 46, 69, 71, 79, 62), strict=True))
EMODB_MEN = ("03", "10", "11", "12", "15")
EMODB_SPEAKERS = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
EMODB_TEXTS = ("a01", "a02", "a04", "a05", "a07", "b01", "b02", "b03", "b09", "b10")


def write_emodb(root: Path, *, utterances: int = 535, words: int = 4, seed: int = 0) -> None:
    """Write synthetic speech in the layout of EMO-DB: ``wav/03a01Fa.wav``, ``erkennung.txt``.

    Speakers, genders, text codes and the proportions of the emotions are EMO-DB's. Each text code
    has one synthetic sentence instead of the German one.

    Args:
        root: the folder to fill.
        utterances: number of utterances; EMO-DB has 535.
        words: number per sentence; 0 for silence.
        seed: determines the voices and sentences.
    """
    names = _emodb_names(utterances)
    recorder = SentenceRecorder(words=words, seed=seed)
    for name in names:
        speaker, text, letter = name[:2], name[2:5], name[5]
        recorder.record(
            root / "wav" / f"{name}.wav",
            name=name,
            speaker=speaker,
            gender="male" if speaker in EMODB_MEN else "female",
            emotion=EMODB_LETTERS[letter],
            sentence=recorder.make_sentence(text),
        )
    dropped = [f"{name[:6]}x" for name in names[::2]]
    write_bytes(root / "erkennung.txt", _erkennung_table(names, dropped, seed).encode("latin-1"))


def _emodb_names(utterances: int) -> list[str]:
    """Return names in the format of EMO-DB that cycle through the speakers, then the texts."""
    names, first = [], 0
    for letter, share in zip(
        EMODB_COUNTS, split_proportionally(EMODB_COUNTS.values(), utterances), strict=True
    ):
        for number in range(share):
            turn, speaker = number // 10, (first + number) % 10
            version, text = "abcdefgh"[turn // 10], EMODB_TEXTS[(turn + speaker) % 10]
            names.append(f"{EMODB_SPEAKERS[speaker]}{text}{letter}{version}")
        first += share
    return sorted(names)


def _erkennung_table(kept: Sequence[str], dropped: Sequence[str], seed: int) -> str:
    """Return the judgements of listeners, padded with no-break spaces as in the original."""
    rng = make_rng(seed, "erkennung")
    lines, pad = ["Nr.\tSatz\terkannt\tnatuerlich"], "\xa0" * 5
    for number, name in enumerate(sorted([*kept, *dropped]), 1):
        lowest = 4 if name.endswith("x") else 16
        recognised, natural = rng.integers(lowest, 21) * 5, rng.integers(9, 21) * 5
        lines.append(f"{number}\xa0\xa0\t{name}.wav\t{recognised},00{pad}\t{natural},00{pad}")
    return "\r\n".join([*lines, ""])


RAVDESS_STYLES = {
    "01": "neutral",
    "02": "boredom",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "happiness",
}
RAVDESS_STEREO = (
    *("01-08-01-02-02-01", "01-02-01-01-02-05", "01-03-01-02-01-20"),
    *("01-06-01-01-02-20", "01-05-02-01-01-24"),
)
"""As many recordings as RAVDESS has, but not the same ones."""
RAVDESS_DUPLICATES = "03-01-03-01-02-01-07", "03-01-03-01-02-02-07"


def write_ravdess(
    root: Path,
    *,
    actors: int = 24,
    words: int = 1,
    suffix: str = ".wav",
    nested: bool = False,
    seed: int = 0,
) -> None:
    """Write synthetic speech in the layout of RAVDESS: ``Actor_01/03-01-06-01-02-01-01.wav``.

    Every actor has as many recordings in each emotion as in RAVDESS. Five recordings are stereo,
    and two of actor 07 are identical, as in the original. Each statement is one synthetic sentence;
    calm sounds like boredom, and surprised like happiness.

    Args:
        root: the folder to fill.
        actors: number of actors; RAVDESS has 24.
        words: number per statement.
        suffix: ".wav", or ".flac".
        nested: write a second copy below, in ``audio_speech_actors_01-24/``.
        seed: determines the voices and statements.
    """
    for number in range(1, actors + 1):
        voice = Voice.for_speaker(f"{number:02}", "male" if number % 2 else "female", seed=seed)
        for name in _ravdess_names(number):
            statement = make_rng(seed, "sentence", name[12:14]).choice(LEXICON, words).tolist()
            source = RAVDESS_DUPLICATES[0] if name in RAVDESS_DUPLICATES else name
            samples = synthesize(
                statement, voice, RAVDESS_STYLES[name[6:8]], make_rng(seed, source)
            )
            if name[3:] in RAVDESS_STEREO:
                samples = np.stack([samples, samples], axis=1)
            write_wav(root / f"Actor_{number:02}" / f"{name}{suffix}", samples)
    if nested:
        for folder in sorted(root.glob("Actor_*")):
            shutil.copytree(folder, root / "audio_speech_actors_01-24" / folder.name)


def _ravdess_names(actor: int) -> list[str]:
    """Return the sixty names of one actor; there is no strong neutral."""
    return [
        f"03-01-{emotion}-{intensity}-{statement}-{repetition}-{actor:02}"
        for emotion, intensity, statement, repetition in product(
            RAVDESS_STYLES, ("01", "02"), ("01", "02"), ("01", "02")
        )
        if (emotion, intensity) != ("01", "02")
    ]


SAVEE_LETTERS = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
SAVEE_SPEAKERS = ("DC", "JE", "JK", "KL")


def write_savee(
    root: Path, *, flat: bool = False, utterances: int = 56, words: int = 2, seed: int = 0
) -> None:
    """Write synthetic speech in a layout of SAVEE: ``AudioData/DC/a01.wav``, or ``DC_a01.wav``.

    Names and the proportions of the emotions are SAVEE's; the rate is 16 kHz. Each emotion and
    number has one synthetic sentence. Surprise sounds like happiness.

    Args:
        root: the folder to fill.
        flat: write all files into one folder.
        utterances: number of utterances; SAVEE has 480.
        words: number per sentence; 0 for silence.
        seed: determines the voices and sentences.
    """
    recorder = SentenceRecorder(words=words, seed=seed)
    names = [
        (speaker, f"{letters}{number:02}")
        for number in range(1, 31)
        for letters in SAVEE_LETTERS
        for speaker in SAVEE_SPEAKERS
        if number <= 15 or letters == "n"
    ]
    for speaker, sentence in names[:utterances]:
        name = f"{speaker}_{sentence}"
        recorder.record(
            root / (f"{name}.wav" if flat else f"AudioData/{speaker}/{sentence}.wav"),
            name=name,
            speaker=speaker,
            gender="male",
            emotion=SAVEE_LETTERS[sentence[:-2]],
            sentence=recorder.make_sentence(sentence),
        )
    write_text(root / ("Info.txt" if flat else "AudioData/Info.txt"), "Made-up speech.\n")


CREMAD_EMOTIONS = {
    "ANG": "anger",
    "DIS": "disgust",
    "FEA": "fear",
    "HAP": "happiness",
    "NEU": "neutral",
    "SAD": "sadness",
}
CREMAD_TEXTS = ("DFA", "IOM", "ITH", "ITS", "IWL", "IWW", "MTI", "TAI", "TIE", "TSI", "WSI")
CREMAD_INCOMPLETE_SPEAKERS = {"NEU": 5}
"""Number of last speakers that lack a take; three in any other emotion."""


def write_cremad(
    root: Path, *, speakers: int = 4, takes: int = 4, words: int = 2, seed: int = 0
) -> None:
    """Write synthetic speech in the layout of CREMA-D: ``AudioWAV/1001_DFA_ANG_XX.wav``.

    Names, levels and ``VideoDemographics.csv`` have CREMA-D's format; women and men alternate.
    Each text code has one synthetic sentence. All 91 speakers with 14 takes are 7,442 utterances:
    some of the last are left out, so that each emotion has as many as in CREMA-D.

    Args:
        root: the folder to fill.
        speakers: number of speakers; CREMA-D has 91.
        takes: number per speaker and emotion; 14 in CREMA-D, and 12 for neutral.
        words: number per sentence; 0 for silence.
        seed: determines the voices and sentences.
    """
    recorder = SentenceRecorder(words=words, seed=seed)
    genders = {str(1001 + number): ("male", "female")[number % 2] for number in range(speakers)}
    for speaker, gender in genders.items():
        for text, emotion, level in _cremad_takes(speaker, takes):
            name = f"{speaker}_{text}_{emotion}_{level}"
            recorder.record(
                root / "AudioWAV" / f"{name}.wav",
                name=name,
                speaker=speaker,
                gender=gender,
                emotion=CREMAD_EMOTIONS[emotion],
                sentence=recorder.make_sentence(text),
            )
    rows = [f"{name},{20 + int(name) % 55},{sex.title()},," for name, sex in genders.items()]
    table = ["ActorID,Age,Sex,Race,Ethnicity", *rows, ""]
    write_text(root / "VideoDemographics.csv", "\n".join(table))


def _cremad_takes(speaker: str, takes: int) -> Iterator[tuple[str, str, str]]:
    """Yield text code, emotion and level of each take of a speaker."""
    for emotion in CREMAD_EMOTIONS:
        levels = ("XX",) if emotion == "NEU" else ("LO", "MD", "HI")
        whole = [*(("IEO", level) for level in levels), *((text, "XX") for text in CREMAD_TEXTS)]
        lacking = int(speaker) > 1091 - CREMAD_INCOMPLETE_SPEAKERS.get(emotion, 3)
        for text, level in whole[: min(takes, len(whole) - lacking)]:
            has_typo = (speaker, text, emotion) == ("1040", "ITH", "SAD")
            yield text, emotion, "X" if has_typo else level


LIBRISPEECH_HEADER = ";ID  |SEX| SUBSET           |MINUTES| NAME"


def write_librispeech(
    root: Path,
    *,
    parts: Sequence[str] = ("dev-clean", "test-clean"),
    speakers: int = 2,
    chapters: int = 1,
    utterances: int = 3,
    words: int = 3,
    seed: int = 0,
) -> None:
    """Write synthetic speech in the layout of LibriSpeech: ``dev-clean/10/100/10-100-0000.flac``.

    Every transcript is correct. Its last line has no newline, as in some of LibriSpeech.

    Args:
        root: the folder to fill, with ``SPEAKERS.TXT``.
        parts: names of the parts; each speaker is in one part.
        speakers: number per part, alternating between female and male.
        chapters: number per speaker.
        utterances: number per chapter.
        words: number per utterance.
        seed: determines the voices and words.
    """
    lines = ["; Made up; the layout is LibriSpeech's.", LIBRISPEECH_HEADER]
    for number in range(speakers * len(parts)):
        part, speaker, sex = parts[number // speakers], f"{10 + number}", "FM"[number % 2]
        lines.append(f"{speaker:<4} | {sex} | {part:<16} | 0.10 | Voice {speaker}")
        voice = Voice.for_speaker(speaker, "female" if sex == "F" else "male", seed=seed)
        for chapter in range(100 * number, 100 * number + chapters):
            texts = {}
            for count in range(utterances):
                name = f"{speaker}-{chapter}-{count:04}"
                sentence = make_rng(seed, "words", name).choice(LEXICON, words).tolist()
                texts[name] = [word.upper() for word in sentence]
                samples = synthesize(sentence, voice, "neutral", make_rng(seed, name))
                write_wav(root / part / speaker / str(chapter) / f"{name}.flac", samples)
            transcript = "\n".join(
                f"{name} {' '.join(text).upper()}" for name, text in texts.items()
            )
            folder = root / part / speaker / str(chapter)
            write_text(folder / f"{speaker}-{chapter}.trans.txt", transcript)
    write_text(root / "SPEAKERS.TXT", "\n".join([*lines, ""]))


AUDFORMAT_EMOTIONS = ("anger", "neutral")
AUDFORMAT_HEADER = """\
name: made-up
source: serein
usage: unrestricted
languages: [deu]
description: 'Made-up speech: two sentences in every file, each a row of the table of
  its split, and speakers in a miscellaneous table.'
media:
  microphone: {{type: audio, format: wav, channels: 1, sampling_rate: {rate}}}
raters:
  gold: {{type: human}}
schemes:
  age: {{dtype: int, minimum: 0}}
  arousal: {{dtype: float, minimum: 0, maximum: 1}}
  emotion:
    dtype: str
    labels: [anger, neutral]
  gender:
    dtype: str
    labels: [female, male]
  speaker: {{dtype: str, labels: speaker}}
  transcription:
    dtype: str
    labels:
      a01: {first}
      a02: {second}
splits:
  test: {{type: test}}
  train: {{type: train}}
tables:
  files:
    type: filewise
    media_id: microphone
    columns:
      speaker: {{scheme_id: speaker}}
  emotion.train: &emotion
    type: segmented
    split_id: train
    columns:
      emotion: {{scheme_id: emotion, rater_id: gold}}
      arousal: {{scheme_id: arousal, rater_id: gold}}
      sentence: {{scheme_id: transcription}}
  emotion.test:
    <<: *emotion
    split_id: test
misc_tables:
  speaker:
    levels: {{speaker: str}}
    columns:
      gender: {{scheme_id: gender}}
      age: {{scheme_id: age}}
"""


def write_audformat(root: Path, *, speakers: int = 4, words: int = 2, seed: int = 0) -> None:
    """Write synthetic speech in audformat: ``db.yaml``, its tables, and ``audio/01-anger.wav``.

    Each file contains two sentences, one segment each; the second one ends with the file. Every
    second pair of speakers is the test split. The second segment has no arousal label.

    Args:
        root: the folder to fill.
        speakers: number of speakers, alternating between female and male.
        words: number per sentence.
        seed: determines the voices and sentences.
    """
    sentences = {
        text: make_rng(seed, text).choice(LEXICON, words).tolist() for text in ("a01", "a02")
    }
    files, tables = ["file,speaker"], {"train": ["file,start,end,emotion,arousal,sentence"]}
    tables["test"] = tables["train"].copy()
    people = ["speaker,gender,age"]
    for number in range(1, speakers + 1):
        name, gender = f"{number:02}", ("female", "male")[number % 2]
        voice, rows = (
            Voice.for_speaker(name, gender, seed=seed),
            tables[("train", "test")[number // 2 % 2]],
        )
        people.append(f"{name},{gender},{20 + number}")
        for emotion in AUDFORMAT_EMOTIONS:
            file = f"audio/{name}-{emotion}.wav"
            samples = [
                synthesize(sentence, voice, emotion, make_rng(seed, file))
                for sentence in sentences.values()
            ]
            write_wav(root / file, *samples)
            files.append(f"{file},{name}")
            cut, arousal = _format_timedelta(len(samples[0])), 0.1 + 0.6 * (emotion == "anger")
            rows.append(f"{file},{_format_timedelta(0)},{cut},{emotion},{arousal},a01")
            rows.append(f"{file},{cut},NaT,{emotion},,a02")
    texts = [" ".join(sentence) for sentence in sentences.values()]
    header = AUDFORMAT_HEADER.format(rate=RATE, first=texts[0], second=texts[1])
    content = {"files": files, "speaker": people, **{f"emotion.{k}": v for k, v in tables.items()}}
    for name, lines in content.items():
        write_text(root / f"db.{name}.csv", "\n".join([*lines, ""]))
    write_text(root / "db.yaml", header)


def _format_timedelta(samples: int) -> str:
    """Format a duration in samples as pandas does."""
    whole, rest = divmod(samples * 1_000_000 // RATE, 1_000_000)
    return f"0 days 00:{whole // 60:02}:{whole % 60:02}" + (f".{rest:06}" if rest else "")
