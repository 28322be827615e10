"""Write made-up corpora in the layout of IEMOCAP: at its full size, or small ones for tests.

The full copy has IEMOCAP's 10,039 utterances in 151 dialogues, with the official number of
utterances of each session, emotion code, style and level of the ratings, and with the corpus's
irregularities: utterances without a majority (``xxx``), seven mean ratings off the scale of 1 to 5,
ratings of dominance that are missing, utterances of 0.6 to 34 s, script sentences that recur in
every session, and utterances whose speaker is not the actor whose letter is in the file name.
Recordings are noise in the middle of digital silence, as FLAC; words are made up.

Busso et al., "IEMOCAP: Interactive emotional dyadic motion capture database", Language Resources
and Evaluation, 2008. Counts were taken from the labels of the corpus.
"""

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import soundfile

from serein.errors import StorageError
from serein.synthetic.speech import LEXICON, RATE, Voice, make_rng, synthesize, write_wav

Array = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Emotion(NamedTuple):
    """An emotion code of IEMOCAP.

    Attributes:
        majority: the evaluators' word; empty without a majority.
        style: the speaking style of ``synthetic.speech`` that is nearest.
        ratings: typical valence, activation and dominance.
    """

    majority: str
    style: str
    ratings: tuple[int, int, int]


EMOTIONS = {
    "neu": Emotion("Neutral", "neutral", (3, 2, 3)),
    "fru": Emotion("Frustration", "anger", (2, 3, 3)),
    "xxx": Emotion("", "neutral", (3, 3, 3)),
    "ang": Emotion("Anger", "anger", (2, 4, 4)),
    "sad": Emotion("Sadness", "sadness", (2, 2, 2)),
    "exc": Emotion("Excited", "happiness", (4, 4, 3)),
    "hap": Emotion("Happiness", "happiness", (4, 3, 3)),
    "sur": Emotion("Surprise", "happiness", (3, 4, 3)),
    "fea": Emotion("Fear", "fear", (2, 3, 2)),
    "oth": Emotion("Other", "neutral", (3, 3, 3)),
    "dis": Emotion("Disgust", "disgust", (2, 2, 3)),
}
SESSION_COUNTS = {
    "ang": (229, 137, 240, 327, 170),
    "hap": (135, 117, 135, 65, 143),
    "exc": (143, 210, 151, 238, 299),
    "neu": (384, 362, 320, 258, 384),
    "sad": (194, 197, 305, 143, 245),
    "fru": (280, 325, 382, 481, 381),
    "fea": (12, 9, 2, 7, 10),
    "sur": (25, 17, 28, 19, 18),
    "dis": (1, 0, 1, 0, 0),
    "oth": (1, 1, 0, 1, 0),
    "xxx": (415, 436, 572, 564, 520),
}
"""Utterances of each code in sessions 1 to 5."""
SESSION_SIZES = tuple(map(sum, zip(*SESSION_COUNTS.values(), strict=True)))
IMPROVISED_COUNTS = {"ang": 289, "hap": 284, "exc": 663, "neu": 1099, "sad": 608}
"""Improvised utterances of the usual four classes: anger, happiness, neutral, sadness."""
NUM_IMPROVISED = 4784
LEVEL_COUNTS = ((3223, 4869, 1947), (1112, 7235, 1692), (1041, 6484, 2514))
"""Utterances with a low, middle and high mean of valence, activation and dominance."""
OFF_SCALE_MEANS = {
    **{f"Ses03M_impro07_M0{number}": (0, 5.5) for number in ("03", "10", "13", "21")},
    "Ses01F_script03_1_F026": (2, 0.5),
    "Ses02F_script02_2_F046": (2, 0.5),
    "Ses04M_script03_2_M009": (2, 0.5),
}
"""Index of the dimension, and the mean."""
NUM_WITHOUT_DOMINANCE = 36
"""Evaluators' ratings that lack the dominance."""
NUM_OTHER_SPEAKER = 2750
"""Utterances of the four classes whose speaker is not the actor in the name of the dialogue."""

LONG_TURNS = {
    ("1", "impro", "sad"): 2,
    ("1", "script", "sad"): 1,
    ("1", "script", "exc"): 1,
    ("1", "script", "ang"): 1,
    ("2", "script", "sad"): 1,
    ("2", "impro", "hap"): 1,
    ("4", "script", "ang"): 1,
    ("4", "impro", "sad"): 1,
    ("4", "script", "sad"): 1,
    ("5", "impro", "sad"): 2,
    ("5", "script", "sad"): 2,
    ("5", "script", "neu"): 1,
    ("5", "impro", "exc"): 1,
    ("1", "script", "fru"): 1,
    ("2", "impro", "xxx"): 1,
    ("3", "script", "xxx"): 1,
    ("4", "impro", "fru"): 1,
    ("5", "script", "fru"): 1,
}
"""Utterances longer than 20 s: 16 of the four classes, and 5 others."""
FOUR_CLASS_SECONDS, TOTAL_SECONDS = 6.99 * 3600, 12.44 * 3600
MIN_DURATION, MEDIAN_DURATION, MAX_DURATION = 0.585, 3.52, 34.14

SCRIPT_LENGTHS = {
    "script01_1": 1.2,
    "script01_2": 0.7,
    "script01_3": 1.3,
    "script02_1": 0.8,
    "script02_2": 1.7,
    "script03_1": 1.0,
    "script03_2": 1.0,
}
"""Relative numbers of utterances."""
WEARERS = "FM"
"""The wearer is the actor with the motion-capture markers: the first letter of a dialogue."""
OTHER_LETTER = {"F": "M", "M": "F"}
GENDERS = {"F": "female", "M": "male"}

NOISE_SAMPLES = 3200
NOISE_STEP = 256
"""Amplitudes are multiples of it, which FLAC stores in fewer bits."""
VOCABULARY = (*LEXICON, *(first + second for first in LEXICON for second in LEXICON))
WORDS_PER_SECOND = 2.4
GENERATED_FILE = "GENERATED.txt"
"""A file in generated copies whose first line says so."""
GENERATED_TEXT = "a generated copy: the recordings are noise, so that scores have no meaning"
APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X"
"""Content of the files that macOS writes beside others, with ``._`` before their names."""
TABLE_HEADER = "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]"

Ratings = tuple[int, int, int | None]
"""Valence, activation and dominance; the dominance may be missing."""


@dataclass(frozen=True, kw_only=True)
class IemocapTurn:
    """An utterance of a dialogue.

    Attributes:
        dialogue: such as "Ses01F_impro01".
        index: of the utterance in the dialogue, from 0.
        number: its number among those of its speaker, such as "000" or "X06".
        letter: of the speaker, "F" or "M".
        code: of the emotion.
        start: in the dialogue, in seconds.
        end: in the dialogue.
        text: its words.
        ratings: of each evaluator.
        own_ratings: of the actor.
    """

    dialogue: str
    index: int
    number: str
    letter: str
    code: str
    start: float
    end: float
    text: str
    ratings: tuple[Ratings, ...]
    own_ratings: Ratings

    @property
    def name(self) -> str:
        """The id of the utterance."""
        return f"{self.dialogue}_{self.letter}{self.number}"

    @property
    def means(self) -> tuple[float, ...]:
        """The evaluators' means; missing ratings are left out."""
        columns = zip(*self.ratings, strict=True)
        present = ([rating for rating in column if rating is not None] for column in columns)
        return tuple(sum(column) / len(column) for column in present)


# The full copy


def write_iemocap(root: Path, *, sound: bool = True, seed: int = 0) -> None:
    """Write a corpus of IEMOCAP's size, layout, counts and irregularities.

    Args:
        root: a new or empty folder.
        sound: write noise (30 MB in all). False writes the headers of FLAC files only, which give
            the durations: enough to read and split the corpus, quickly, but not to train.
        seed: determines the order of utterances, durations, ratings, words and noise; all counts
            are the same for any seed.

    Raises:
        StorageError: the folder is not empty, or a file could not be written.
    """
    if root.is_dir() and any(root.iterdir()):
        raise StorageError(f"{root} is not empty; give a new folder, which the copy can fill")
    turns = plan_iemocap(seed)
    _make_folder(root)
    _write_file(root / GENERATED_FILE, f"{GENERATED_TEXT}\n".encode())
    for dialogue, members in _group_by_dialogue(turns).items():
        _write_labels(root, dialogue, members)

    def write_recording(turn: IemocapTurn) -> None:
        frames = round((turn.end - turn.start) * RATE)
        content = _encode_noise(turn.name, frames, seed) if sound else _flac_header(turn, frames)
        _write_file(_recording_path(root, turn, ".flac"), content)

    if sound:
        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(write_recording, turns):
                pass
    else:
        for turn in turns:
            write_recording(turn)


def plan_iemocap(seed: int = 0) -> list[IemocapTurn]:
    """Return the utterances of the full copy, dialogue by dialogue."""
    slots = _assign_codes(seed)
    speakers = _assign_speakers(slots)
    names = [
        f"{slot.dialogue}_{letter}{number}"
        for slot, (letter, number) in zip(slots, speakers, strict=True)
    ]
    seconds = _draw_durations(slots, seed)
    ratings = _draw_ratings(slots, names, seed)
    pauses = make_rng(seed, "times").uniform(0.1, 1.5, len(slots)).tolist()
    turns: list[IemocapTurn] = []
    for slot, (letter, number), duration, evaluations, pause in zip(
        slots, speakers, seconds, ratings, pauses, strict=True
    ):
        before = turns[-1].end if slot.position else 5.0
        start = round(before + pause, 4)
        turns.append(
            IemocapTurn(
                dialogue=slot.dialogue,
                index=slot.position,
                number=number,
                letter=letter,
                code=slot.code,
                start=start,
                end=round(start + duration, 4),
                text=_make_text(slot, duration, seed),
                ratings=evaluations,
                own_ratings=evaluations[-1],
            )
        )
    return turns


class Slot(NamedTuple):
    """An utterance in a dialogue: its index, counted from 0, and the code of its emotion."""

    dialogue: str
    position: int
    code: str

    @property
    def session(self) -> str:
        """Number of the session."""
        return self.dialogue[4]

    @property
    def style(self) -> str:
        """Either "impro" or "script"."""
        return "impro" if "_impro" in self.dialogue else "script"

    @property
    def is_four_class(self) -> bool:
        """Whether the code is of the usual four classes."""
        return self.code in IMPROVISED_COUNTS


def _assign_codes(seed: int) -> list[Slot]:
    """Assign the codes of every session and style to its dialogues, in random order."""
    slots = []
    for session in range(1, 6):
        for style, lengths in _list_dialogues(session).items():
            counts = _count_codes()[session, style]
            codes = np.repeat(list(counts), list(counts.values()))
            make_rng(seed, "codes", session, style).shuffle(codes)
            sizes = split_proportionally(lengths.values(), len(codes))
            ends = accumulate(sizes)
            for dialogue, size, end in zip(lengths, sizes, ends, strict=True):
                dialogue_codes = codes[end - size : end].tolist()
                slots += [Slot(dialogue, index, code) for index, code in enumerate(dialogue_codes)]
    return slots


def _list_dialogues(session: int) -> dict[str, dict[str, float]]:
    """Return the dialogues of a session by style, with their relative numbers of utterances."""
    improvised, scripted = {}, {}
    for wearer in WEARERS:
        prefix = f"Ses0{session}{wearer}_"
        for number in range(1, 8 if session == 1 else 9):
            name = f"{prefix}impro0{number}"
            in_parts = session == 3 and wearer == "M" and number in (5, 8)
            parts = (f"{name}a", f"{name}b") if in_parts else (name,)
            improvised.update(dict.fromkeys(parts, 1 / len(parts)))
        scripted.update({f"{prefix}{part}": length for part, length in SCRIPT_LENGTHS.items()})
    if session == 5:
        scripted["Ses05M_script01_1b"] = 0.4
    return {"impro": improvised, "script": dict(sorted(scripted.items()))}


@cache
def _count_codes() -> dict[tuple[int, str], dict[str, int]]:
    """Return the number of utterances of each code by session and style.

    The style of a code is divided evenly over the sessions.
    """
    others = [code for code in SESSION_COUNTS if code not in IMPROVISED_COUNTS]
    pooled = [count for code in others for count in SESSION_COUNTS[code]]
    shares = split_proportionally(pooled, NUM_IMPROVISED - sum(IMPROVISED_COUNTS.values()))
    improvised = {code: shares[5 * n : 5 * n + 5] for n, code in enumerate(others)}
    for code, total in IMPROVISED_COUNTS.items():
        improvised[code] = split_proportionally(SESSION_COUNTS[code], total)
    counts: dict[tuple[int, str], dict[str, int]] = {}
    for session in range(1, 6):
        for code, all_counts in SESSION_COUNTS.items():
            share = improvised[code][session - 1]
            counts.setdefault((session, "impro"), {})[code] = share
            counts.setdefault((session, "script"), {})[code] = all_counts[session - 1] - share
    return counts


def _assign_speakers(slots: Sequence[Slot]) -> list[tuple[str, str]]:
    """Return letter and number of every utterance; about half are not the wearer's."""
    total = sum(slot.is_four_class for slot in slots)
    rest = len(slots) - total
    is_other = {
        True: _spread_evenly(NUM_OTHER_SPEAKER, total),
        False: _spread_evenly(rest // 2, rest),
    }
    speakers, counts = [], Counter[str]()
    for count, slot in enumerate(slots):
        wearer = slot.dialogue[5]
        letter = OTHER_LETTER[wearer] if next(is_other[slot.is_four_class]) else wearer
        if count % 41 == 7 and slot.position < 100:
            number = f"X{slot.position:02}"
        else:
            number = f"{counts[slot.dialogue + letter]:03}"
            counts[slot.dialogue + letter] += 1
        speakers.append((letter, number))
    return speakers


def _spread_evenly(selected: int, total: int) -> Iterator[bool]:
    """Yield ``total`` values of which ``selected`` are true, at even distances."""
    for count in range(total):
        yield (count + 1) * selected // total > count * selected // total


def _draw_durations(slots: Sequence[Slot], seed: int) -> list[float]:
    """Return durations in seconds, with the totals and the median of the corpus."""
    rng = make_rng(seed, "durations")
    seconds, missing = np.zeros(len(slots)), Counter(LONG_TURNS)
    long_indices: dict[bool, list[int]] = {True: [], False: []}
    for index in rng.permutation(len(slots)).tolist():
        slot = slots[index]
        if missing[key := (slot.session, slot.style, slot.code)]:
            missing[key] -= 1
            long_indices[slot.is_four_class].append(index)
    groups = (
        (True, MAX_DURATION, 0.65, FOUR_CLASS_SECONDS),
        (False, 27.0, MIN_DURATION, TOTAL_SECONDS - FOUR_CLASS_SECONDS),
    )
    for is_four_class, longest, shortest, total in groups:
        long = long_indices[is_four_class]
        seconds[long] = np.linspace(longest, 20.3, len(long))
        members = [n for n, slot in enumerate(slots) if slot.is_four_class is is_four_class]
        rest = np.setdiff1d(members, long)
        seconds[rest] = rng.permutation(
            _spread_durations(len(rest), shortest, total - seconds[long].sum())
        )
    return np.round(seconds, 4).tolist()


def _spread_durations(count: int, shortest: float, total: float) -> Array:
    """Return durations from ``shortest`` to 19.9 s with the corpus's median and a given sum.

    Their logarithms are normally distributed, and compressed towards both ends.
    """
    quantiles = ((index + 0.5) / count for index in range(count))
    normal_n = np.array([NormalDist().inv_cdf(quantile) for quantile in quantiles])
    limit_n = np.log(np.where(normal_n < 0, MEDIAN_DURATION / shortest, 19.9 / MEDIAN_DURATION))
    low, high = 0.1, 2.0
    for _ in range(50):
        spread = (low + high) / 2
        second_n: Array = MEDIAN_DURATION * np.exp(limit_n * np.tanh(spread * normal_n / limit_n))
        second_n[0] = shortest
        low, high = (low, spread) if second_n.sum() > total else (spread, high)
    return second_n


def _draw_ratings(
    slots: Sequence[Slot], names: Sequence[str], seed: int
) -> list[tuple[Ratings, ...]]:
    """Return the evaluators' ratings of every utterance, with the corpus's numbers of levels."""
    rng = make_rng(seed, "ratings")
    typical_n3 = np.array([EMOTIONS[slot.code].ratings for slot in slots])
    tendency_n3 = typical_n3 + rng.normal(0, 0.9, typical_n3.shape)
    positions = {name: index for index, name in enumerate(names)}
    for name, (dimension, mean) in OFF_SCALE_MEANS.items():
        tendency_n3[positions[name], dimension] = np.inf if mean > 3 else -np.inf
    ratings = []
    for index, level_3 in enumerate(_divide_into_levels(tendency_n3)):
        raters = 3 if index % 8 == 5 and names[index] not in OFF_SCALE_MEANS else 2
        columns = [_split_mean(int(level), raters, rng) for level in level_3]
        if names[index] in OFF_SCALE_MEANS:
            dimension, mean = OFF_SCALE_MEANS[names[index]]
            columns[dimension] = [int(mean), int(mean) + 1]
        ratings.append(tuple(zip(*columns, strict=True)))
    has_equal = [n for n, rows in enumerate(ratings) if len({row[2] for row in rows}) == 1]
    for n in rng.choice(has_equal, NUM_WITHOUT_DOMINANCE, replace=False).tolist():
        first, *rest = ratings[n]
        ratings[n] = ((*first[:2], None), *rest)
    return ratings


def _divide_into_levels(tendency_n3: Array) -> Integers:
    """Return 0, 1 or 2 for the lowest, middle and highest values of each dimension."""
    level_n3 = np.zeros(tendency_n3.shape, np.int64)
    for dimension, (low, middle, _) in enumerate(LEVEL_COUNTS):
        order = np.argsort(tendency_n3[:, dimension], kind="stable")
        level_n3[order[low:], dimension] = 1
        level_n3[order[low + middle :], dimension] = 2
    return level_n3


def _split_mean(level: int, raters: int, rng: np.random.Generator) -> list[int]:
    """Return ratings from 1 to 5 whose mean is in [1, 2], (2, 4) or [4, 5]."""
    sums = ((raters, 2 * raters), (2 * raters + 1, 4 * raters - 1), (4 * raters, 5 * raters))
    lowest, highest = sums[level]
    total = int(rng.integers(lowest, highest + 1))
    ratings = [total // raters + (rater < total % raters) for rater in range(raters)]
    if ratings[0] < 5 and ratings[-1] > 1 and rng.random() < 0.3:
        ratings[0], ratings[-1] = ratings[0] + 1, ratings[-1] - 1
    return ratings


def _make_text(slot: Slot, duration: float, seed: int) -> str:
    """Return the words of an utterance: a script's are the same in every session."""
    if slot.style == "script":
        rng = make_rng(seed, "script", slot.dialogue[7:], slot.position)
        count = int(rng.integers(2, 20))
    else:
        rng = make_rng(seed, "improvised", slot.dialogue, slot.position)
        count = max(1, round((duration - 0.5) * WORDS_PER_SECOND))
    words = [VOCABULARY[n] for n in np.searchsorted(_word_shares(), rng.random(count)).tolist()]
    return f"{' '.join(words).capitalize()}."


@cache
def _word_shares() -> Array:
    """Return the cumulative shares of the words, which fall with their rank."""
    share_n = 1 / (np.arange(len(VOCABULARY)) + 3)
    return np.cumsum(share_n / share_n.sum())


def _encode_noise(name: str, frames: int, seed: int) -> bytes | memoryview:
    """Encode noise in the middle of digital silence as FLAC, about 3 kB."""
    sample_n = np.zeros(frames, np.int16)
    first = (frames - NOISE_SAMPLES) // 2
    noise_n = np.rint(make_rng(seed, "noise", name).normal(0, 8, NOISE_SAMPLES))
    sample_n[first : first + NOISE_SAMPLES] = np.clip(noise_n, -64, 64) * NOISE_STEP
    content = io.BytesIO()
    soundfile.write(content, sample_n, RATE, format="FLAC", subtype="PCM_16")
    return content.getbuffer()


def _flac_header(turn: IemocapTurn, frames: int) -> bytes:
    """Return the header of a FLAC file of this length, without samples."""
    block_size = (4096).to_bytes(2)
    format_bits = RATE << 44 | 15 << 36 | frames  # rate, one channel, 16 bits, number of samples
    checksum = hashlib.md5(turn.name.encode(), usedforsecurity=False).digest()
    info = block_size + block_size + bytes(6) + format_bits.to_bytes(8) + checksum
    return b"fLaC\x80" + len(info).to_bytes(3) + info


# Small copies


SMALL_PARTS = (
    *("impro01", "script01_1", "impro05a", "script01_1b", "impro02", "script02_2", "impro03"),
    *("script01_2", "impro04", "script01_3", "impro06", "script03_1", "impro07", "script03_2"),
)


def write_small_iemocap(
    root: Path, *, utterances: int = 120, dialogues: int = 4, words: int = 2, seed: int = 0
) -> None:
    """Write synthetic speech in the layout of IEMOCAP, ``Session1`` to ``Session5``, for tests.

    The irregularities are IEMOCAP's; all emotion codes are equally frequent. Emotions without a
    speaking style use a similar one: excitement sounds like happiness.

    Args:
        root: the folder to fill.
        utterances: number of utterances.
        dialogues: number per session, up to 14; half of them are improvised.
        words: number per sentence; 0 writes 10 ms of silence, to test readers quickly.
        seed: determines the voices, sentences and ratings.

    Raises:
        StorageError: a file could not be written.
    """
    parts, codes, first = SMALL_PARTS[:dialogues], list(EMOTIONS), 0
    for session, share in enumerate(split_proportionally(SESSION_SIZES, utterances), 1):
        for number, size in enumerate(split_proportionally([1] * len(parts), share)):
            dialogue = f"Ses0{session}{WEARERS[number % 2]}_{parts[number]}"
            turns = [
                _plan_small_turn(dialogue, index, codes[(first + index) % len(codes)], words, seed)
                for index in range(size)
            ]
            for turn in turns:
                _write_speech(root, turn, seed)
            _write_labels(root, dialogue, turns)
            first += size


def _plan_small_turn(dialogue: str, index: int, code: str, words: int, seed: int) -> IemocapTurn:
    letter, part = WEARERS[index % 2], dialogue.partition("_")[2]
    scene = part if part.startswith("script") else dialogue
    rng = make_rng(seed, "evaluators", dialogue, index)
    rating_33 = np.clip(EMOTIONS[code].ratings + rng.integers(-1, 2, (3, 3)), 1, 5)
    first, second, own = (tuple(row) for row in rating_33.tolist())
    return IemocapTurn(
        dialogue=dialogue,
        index=index,
        number=f"X{index:02}" if index % 7 == 6 and index < 100 else f"{index // 2:03}",
        letter=letter,
        code=code,
        start=index * 3.0,
        end=index * 3.0 + 2.5,
        text=" ".join(make_rng(seed, "sentence", scene, index).choice(LEXICON, words)),
        ratings=(first, second),
        own_ratings=(*own[:2], None) if index % 5 == 4 else own,
    )


def _write_speech(root: Path, turn: IemocapTurn, seed: int) -> None:
    samples = np.zeros(160, np.float32)
    if turn.text:
        speaker = f"{turn.dialogue[4]}{turn.letter}"
        voice = Voice.for_speaker(speaker, GENDERS[turn.letter], seed=seed)
        style = EMOTIONS[turn.code].style
        samples = synthesize(turn.text.split(), voice, style, make_rng(seed, turn.name))
    write_wav(_recording_path(root, turn, ".wav"), samples)


# Files


def _write_labels(root: Path, dialogue: str, turns: Sequence[IemocapTurn]) -> None:
    """Write the evaluations and transcripts of a dialogue, and the files beside them."""
    session = root / f"Session{dialogue[4]}"
    evaluations, transcriptions = (
        session / "dialog/EmoEvaluation",
        session / "dialog/transcriptions",
    )
    recordings = session / "sentences/wav" / dialogue
    for folder in (evaluations / "Categorical", transcriptions, recordings):
        _make_folder(folder)
    evaluation = [TABLE_HEADER, "", *(line for turn in turns for line in _evaluation_lines(turn))]
    _write_lines(evaluations / f"{dialogue}.txt", evaluation)
    transcript = [line for turn in turns for line in _transcript_lines(turn)]
    _write_lines(transcriptions / f"{dialogue}.txt", transcript)
    _write_file(recordings / f"._{dialogue}.wav", APPLE_DOUBLE)
    _write_file(evaluations / f"._{dialogue}.txt", APPLE_DOUBLE)
    _write_lines(evaluations / f"Categorical/{dialogue}_e2_cat.txt", ["Made-up ratings."])


def _evaluation_lines(turn: IemocapTurn) -> Iterator[str]:
    """Yield the lines of an evaluation: majority, evaluators, and the actor's self-rating."""
    majority = EMOTIONS[turn.code].majority
    means = ", ".join(f"{mean:.4f}" for mean in turn.means)
    yield f"[{turn.start:.4f} - {turn.end:.4f}]\t{turn.name}\t{turn.code}\t[{means}]"
    answers = ("Neutral", "Anger", "Sadness")
    if majority:
        answers = (majority, majority, f"{majority}; Other")
    for rater, answer in zip(("E2", "E3", "E4"), answers, strict=True):
        yield f"C-{rater}:\t{answer};\t({'so (it) seems' if ';' in answer else ''})"
    yield f"C-{turn.letter}1:\t{answers[0]};\t()"
    raters = [f"E{number}" for number in range(3, 3 + len(turn.ratings))]
    ratings = zip([*raters, f"{turn.letter}1"], [*turn.ratings, turn.own_ratings], strict=True)
    for rater, (valence, activation, dominance) in ratings:
        last = "" if dominance is None else dominance
        yield f"A-{rater}:\tval {valence}; act {activation}; dom  {last};\t()"
    yield ""


def _transcript_lines(turn: IemocapTurn) -> Iterator[str]:
    """Yield the transcript of an utterance; some have other lines after it, as in IEMOCAP."""
    times = f"[{turn.start:08.4f}-{turn.end:08.4f}]"
    yield f"{turn.name} {times}: {turn.text}"
    if turn.index % 6 == 3:
        yield "M: [LAUGHTER]"
        yield f"{turn.dialogue}_{turn.letter}XX{turn.index // 6 % 10} {times}: [BREATHING]"


def _recording_path(root: Path, turn: IemocapTurn, suffix: str) -> Path:
    session = root / f"Session{turn.dialogue[4]}"
    return session / "sentences/wav" / turn.dialogue / f"{turn.name}{suffix}"


def _group_by_dialogue(turns: Iterable[IemocapTurn]) -> Mapping[str, list[IemocapTurn]]:
    groups: dict[str, list[IemocapTurn]] = {}
    for turn in turns:
        groups.setdefault(turn.dialogue, []).append(turn)
    return groups


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    _write_file(path, "\n".join([*lines, ""]).encode())


def _make_folder(path: Path) -> None:
    with _translate_write_errors(path):
        path.mkdir(parents=True, exist_ok=True)


def _write_file(path: Path, content: bytes | memoryview) -> None:
    """Write a file that need not survive a crash of the machine, unlike ``utils.files``."""
    with _translate_write_errors(path):
        path.write_bytes(content)


@contextmanager
def _translate_write_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"could not write {path}: {error.strerror or error}; free some space there"
        ) from error


def split_proportionally(counts: Iterable[float], total: int) -> list[int]:
    """Return integers that sum to ``total``, in the proportions of ``counts``."""
    ends = np.array([0, *accumulate(counts)])
    return np.diff(np.rint(ends * total / ends[-1]).astype(int)).tolist()
