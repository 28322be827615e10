"""What a corpus consists of: classes, missing labels, durations, rates, genders, likely slips."""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches

from serein import audio
from serein.audio.decoding import open_audio, translate_decoding_errors
from serein.errors import AudioError
from serein.labels import harmonize_emotion
from serein.records import Utterance

MAX_CLASSES = 30
"""A label with more different texts is counted, not listed."""
MAX_EXAMPLES = 5
RARE_SHARE = 0.01
"""A class below this share of the labels may be a slip of a similar one."""
RARE_COUNT = 2
SIMILARITY = 0.75
SHORT_SECONDS, LONG_SECONDS = 0.3, 30.0


def summarize(utterances: Sequence[Utterance]) -> list[str]:
    """Describe the labels, speakers and recordings of a corpus, a line each.

    Raises:
        AudioError: a recording cannot be read.
    """
    return [
        *_describe_labels(utterances),
        *_describe_speakers(utterances),
        *_describe_recordings(utterances),
    ]


def _describe_labels(utterances: Sequence[Utterance]) -> Iterator[str]:
    total = len(utterances)
    for name in sorted({name for utterance in utterances for name in utterance.labels}):
        values = [u.labels[name] for u in utterances if name in u.labels]
        missing = f"; none for {total - len(values)} of {total}" if len(values) < total else ""
        numbers = [value for value in values if isinstance(value, float)]
        if numbers:
            mean = sum(numbers) / len(numbers)
            yield (
                f"label {name}: numbers from {min(numbers):g} to {max(numbers):g}, "
                f"mean {mean:.3g}{missing}"
            )
            continue
        counts = Counter(map(str, values))
        if len(counts) > MAX_CLASSES:
            yield f"label {name}: {len(counts)} different texts{missing}"
            continue
        listing = ", ".join(f"{label} {count}" for label, count in counts.most_common())
        yield f"label {name}: {listing}{missing}"
        yield from (f"warning: label {name}: {slip}" for slip in find_slips(counts))


def find_slips(counts: Counter[str]) -> list[str]:
    """Describe classes that look like other spellings of frequent ones.

    >>> find_slips(Counter({"anger": 90, "neutral": 80, "Anger": 3, "neutrla": 1}))
    ['Anger (3) and anger (90) differ in case or spaces', 'neutrla (1) may be neutral (80)']

    Args:
        counts: number of utterances of each class.
    """
    slips = []
    rare = max(RARE_COUNT, RARE_SHARE * counts.total())
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    for index, name in enumerate(ordered):
        others = ordered[:index]
        plain = {_strip(other): other for other in others}
        common = {harmonize_emotion(other): other for other in others}
        if _strip(name) in plain:
            other = plain[_strip(name)]
            reason = f"{name} ({counts[name]}) and {other} ({counts[other]}) differ in case or "
            slips.append(f"{reason}spaces")
        elif harmonize_emotion(name) in common:
            other = common[harmonize_emotion(name)]
            slips.append(
                f"{name} ({counts[name]}) and {other} ({counts[other]}) are names of one emotion"
            )
        elif counts[name] <= rare:
            similar = get_close_matches(name.lower(), plain, n=1, cutoff=SIMILARITY)
            if similar:
                other = plain[similar[0]]
                slips.append(f"{name} ({counts[name]}) may be {other} ({counts[other]})")
    return slips


def _strip(name: str) -> str:
    return "".join(name.lower().split())


def _describe_speakers(utterances: Sequence[Utterance]) -> Iterator[str]:
    counts = Counter(u.speaker for u in utterances)
    unknown = counts.pop(None, 0)
    if unknown:
        yield f"speaker: unknown of {unknown} of {len(utterances)} utterances"
    if counts:
        fewest, most = min(counts.values()), max(counts.values())
        each = f"{fewest}" if fewest == most else f"{fewest} to {most}"
        yield f"speakers: {len(counts)}, with {each} utterances each"
    genders = Counter(u.gender or "unknown" for u in utterances)
    yield f"gender: {', '.join(f'{name} {count}' for name, count in genders.most_common())}"
    genders_of: dict[str, set[str]] = {}
    for utterance in utterances:
        if utterance.speaker and utterance.gender:
            genders_of.setdefault(utterance.speaker, set()).add(utterance.gender)
    both = sorted(speaker for speaker, own in genders_of.items() if len(own) > 1)
    if both:
        yield f"warning: speakers with two genders: {_list(both)}"


def _describe_recordings(utterances: Sequence[Utterance]) -> Iterator[str]:
    seconds = audio.utterance_durations(utterances)
    yield (
        f"duration: {sum(seconds) / 3600:.2f} h, {min(seconds):.2f} to {max(seconds):.2f} s, "
        f"median {sorted(seconds)[len(seconds) // 2]:.2f} s"
    )
    pairs = list(zip(utterances, seconds, strict=True))
    short = [utterance.id for utterance, own in pairs if own < SHORT_SECONDS]
    if short:
        yield f"warning: {len(short)} shorter than {SHORT_SECONDS} s: {_list(short)}"
    long = [utterance.id for utterance, own in pairs if own > LONG_SECONDS]
    if long:
        yield f"warning: {len(long)} longer than {LONG_SECONDS:g} s: {_list(long)}"
    rates: Counter[int] = Counter()
    for path in {utterance.path for utterance in utterances}:
        try:
            with translate_decoding_errors(str(path)), open_audio(path, str(path)) as reader:
                rates[round(reader.rate)] += 1
        except AudioError:
            continue
    listing = ", ".join(f"{rate:,} Hz {count}" for rate, count in rates.most_common())
    yield f"sampling rate of the files: {listing}"
    if len(rates) > 1:
        yield "warning: a system may tell classes by the sampling rate if they differ in it"


def _list(names: Sequence[str]) -> str:
    more = len(names) - MAX_EXAMPLES
    return ", ".join(names[:MAX_EXAMPLES]) + (f" and {more} more" if more > 0 else "")
