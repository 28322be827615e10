"""What a model answers where it was not trained: other speakers, channels, noises, mixtures.

    python -m benchmarks.shift --corpus ravdess=FOLDER --speakers 13,14,15 -o results/shift.md

Every utterance of a corpus whose emotion the model knows is heard as it is and in each condition,
by chance that depends on its name alone. Answers below the model's own threshold are withheld.
"""

import argparse
import hashlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from serein import audio, corpora
from serein.audio import Samples
from serein.augment import waveform
from serein.evaluation.labels import apply_label_scheme
from serein.evaluation.provenance import describe_machine, utc_now
from serein.inference.recognizer import DEFAULT_MODEL, Recognizer
from serein.labels.targets import get_task_labels
from serein.records import Utterance
from serein.utils.files import write_text

RATE = 16_000
Change = Callable[[Samples, np.random.Generator, Samples], Samples]
"""Samples, chance, and another speaker's samples -> samples."""
BATCH = 16
SURE = 0.5
"""More than that is sure, of six emotions or seven."""


def clipped(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """A tenth of all samples at the limit."""
    limit = max(1e-6, float(np.quantile(np.abs(wave_s), 0.9)))
    return (wave_s / limit).clip(-1, 1).astype(np.float32)


def whispered(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Noise in the place of the voice: each frame keeps its smoothed spectrum, not its phases.

    Not ``waves.whispered``, by which the recipe trains: nobody is asked what it was taught.
    """
    size, hop = 512, 128
    padded_s = np.pad(wave_s, size)
    window_s = np.hanning(size + 1)[:-1]
    starts = range(0, len(padded_s) - size, hop)
    out_s, weight_s = np.zeros(len(padded_s)), np.full(len(padded_s), 1e-6)
    for start in starts:
        here = slice(start, start + size)
        power_c = np.abs(np.fft.rfft(padded_s[here] * window_s)) ** 2
        smooth_c = np.sqrt(np.convolve(power_c, np.ones(17) / 17, "same"))
        noise_c = np.fft.rfft(rng.normal(size=size))
        made_s = np.fft.irfft(smooth_c * noise_c / np.abs(noise_c).mean())
        out_s[here] += made_s * window_s
        weight_s[here] += window_s**2
    return (out_s / np.sqrt(weight_s))[size:-size].astype(np.float32)


def noisy(snr: float) -> Change:
    """Beside pink noise."""

    def change(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
        return waveform.add_noise(wave_s, waveform.generate_noise(len(wave_s), RATE, rng), snr)

    return change


def both(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Another speaker at the same loudness, all the time."""
    return waveform.add_noise(wave_s, np.resize(other_s, len(wave_s)), 0.0)


def alone(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Its loudest 0.3 s within 30 s of silence."""
    size = round(0.3 * RATE)
    energy_s = np.convolve(np.square(wave_s, dtype=np.float64), np.ones(size), "valid")
    start = int(energy_s.argmax())
    out_s = np.zeros(30 * RATE, np.float32)
    out_s[10 * RATE : 10 * RATE + size] = wave_s[start : start + size]
    return out_s


CONDITIONS: dict[str, Change] = {
    "as recorded": lambda wave_s, rng, other_s: wave_s,
    "20 dB softer": lambda wave_s, rng, other_s: waveform.apply_gain(wave_s, -20.0),
    "telephone, 8 kHz": lambda wave_s, rng, other_s: waveform.telephone(wave_s, RATE),
    "a tenth clipped": clipped,
    "with a DC offset of 0.2": lambda wave_s, rng, other_s: wave_s + np.float32(0.2),
    "a room of 0.6 s": lambda wave_s, rng, other_s: waveform.add_reverb(
        wave_s, waveform.simulate_impulse_response(RATE, 0.6, rng)
    ),
    "pink noise, 10 dB": noisy(10.0),
    "pink noise, 0 dB": noisy(0.0),
    "whispered": whispered,
    "two speakers at once": both,
    "0.3 s in 30 s of silence": alone,
    "noise alone": lambda wave_s, rng, other_s: (
        waveform.generate_noise(len(wave_s), RATE, rng) * 0.1
    ),
}


def heard(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    waves_: Sequence[Samples],
    change: Change,
) -> Iterator[tuple[str | None, float, str]]:
    """Of each utterance: what is answered, how sure the model is, and what it thinks at all."""
    for start in range(0, len(waves_), BATCH):
        batch = []
        for place in range(start, min(start + BATCH, len(waves_))):
            digest = hashlib.sha256(utterances[place].id.encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8]))
            wave_s = change(waves_[place], rng, waves_[(place + len(waves_) // 2) % len(waves_)])
            batch.append((utterances[place].id, wave_s))
        for answer in recognizer.predict_many(batch, attention=False):
            found = answer.tasks.get("emotion") if answer.speech else None
            chances = found.probabilities if found else {}
            best = max(chances, key=chances.__getitem__) if chances else ""
            yield answer.label, chances.get(best, 0.0), best


def row(name: str, truths: Sequence[str], found: Sequence[tuple[str | None, float, str]]) -> str:
    """One condition as a line of a table."""
    right = np.array([best == truth for truth, (_, _, best) in zip(truths, found, strict=True)])
    said = np.array([label is not None for label, _, _ in found])
    spoken = np.array([bool(best) for _, _, best in found])
    kinds = np.array(truths)
    recalls = [
        right[(kinds == kind) & spoken].mean()
        for kind in sorted(set(truths))
        if ((kinds == kind) & spoken).any()
    ]
    uar = f"{100 * np.mean(recalls):.1f}" if recalls else "-"
    kept = f"{100 * right[said].mean():.1f}" if said.any() else "-"
    sure = [chance for _, chance, best in found if best]
    median = f"{np.median(sure):.2f}" if sure else "-"
    surest = 100 * np.mean([chance > SURE for _, chance, _ in found])
    silent, answered = 100 * (~spoken).mean(), 100 * said.mean()
    cells = [name, uar, median, *(f"{x:.1f}" for x in (surest, silent, answered)), kept]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--corpus", action="append", required=True)
    parser.add_argument("--speakers", default="")
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    recognizer = Recognizer(asked.model, confidence="auto")
    recipe = recognizer.system.recipe
    known = recognizer.classes["emotion"]
    read, _ = apply_label_scheme(corpora.as_corpus(asked.corpus), recipe)
    wanted = set(asked.speakers.split(",")) - {""}
    some = [one for one in read.utterances if not wanted or str(one.speaker) in wanted]
    labels = get_task_labels(some, "emotion", recipe)
    pairs = [(u, str(label)) for u, label in zip(some, labels, strict=True) if label in known]
    utterances, truths = [u for u, _ in pairs], [label for _, label in pairs]
    waves_ = [audio.load(one.path, RATE) for one in utterances]
    words = shlex.join(sys.argv[1:])
    lines = [
        f"# {recognizer.name} under shift",
        "",
        f"`python -m benchmarks.shift {words}`, {utc_now()}, {describe_machine()}. "
        f"{len(utterances)} utterances of {len({u.speaker for u in utterances})} speakers, of "
        f"{len(set(truths))} emotions that the model knows; threshold "
        f"{recognizer.thresholds['emotion']:.2f}.",
        "",
        f"| condition | UA, % | confidence, median | above {SURE}, % | nobody speaks, % "
        "| answered, % | of these right, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, change in CONDITIONS.items():
        lines.append(row(name, truths, list(heard(recognizer, utterances, waves_, change))))
        print(lines[-1], flush=True)
    if asked.output:
        write_text(asked.output, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
