"""Predictions of a model under distribution shift: other speakers, channels, noise, mixtures.

    python -m benchmarks.robustness --corpus ravdess=FOLDER --speakers 13,14,15 -o FILE.md

Every utterance whose emotion is a class of the model is predicted as recorded and in each
condition, with a random generator seeded by its id. Predictions below the model's threshold are
withheld.
"""

import argparse
import hashlib
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from serein import audio, corpora
from serein.audio import Samples
from serein.augment import waveform
from serein.evaluation.labels import apply_label_scheme
from serein.evaluation.provenance import describe_machine, utc_now
from serein.inference.model_loading import DEFAULT_MODEL
from serein.inference.recognizer import Recognizer
from serein.labels.targets import get_task_labels
from serein.records import Utterance
from serein.utils.files import write_text

RATE = 16_000
Change = Callable[[Samples, np.random.Generator, Samples], Samples]
"""A function of samples, a random generator and another speaker's samples that returns samples."""
BATCH = 16
HIGH_CONFIDENCE = 0.5
"""For six or seven emotions."""


def clip(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Clip a tenth of all samples."""
    limit = max(1e-6, float(np.quantile(np.abs(wave_s), 0.9)))
    return (wave_s / limit).clip(-1, 1).astype(np.float32)


def whisper(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Replace the voice by noise: each frame keeps its smoothed spectrum, but not its phases.

    Unlike ``waveform.whisper``, which is in the training of the recipe.
    """
    size, hop = 512, 128
    padded_s = np.pad(wave_s, size)
    window_s = np.hanning(size + 1)[:-1]
    starts = range(0, len(padded_s) - size, hop)
    out_s, weight_s = np.zeros(len(padded_s)), np.full(len(padded_s), 1e-6)
    for start in starts:
        frame = slice(start, start + size)
        power_c = np.abs(np.fft.rfft(padded_s[frame] * window_s)) ** 2
        smooth_c = np.sqrt(np.convolve(power_c, np.ones(17) / 17, "same"))
        noise_c = np.fft.rfft(rng.normal(size=size))
        noise_s = np.fft.irfft(smooth_c * noise_c / np.abs(noise_c).mean())
        out_s[frame] += noise_s * window_s
        weight_s[frame] += window_s**2
    return (out_s / np.sqrt(weight_s))[size:-size].astype(np.float32)


def add_pink_noise(snr: float) -> Change:
    """Return a change that adds pink noise."""

    def change(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
        return waveform.add_noise(wave_s, waveform.generate_noise(len(wave_s), RATE, rng), snr)

    return change


def mix_speakers(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Add another speaker at the same loudness, for the whole duration."""
    return waveform.add_noise(wave_s, np.resize(other_s, len(wave_s)), 0.0)


def embed_in_silence(wave_s: Samples, rng: np.random.Generator, other_s: Samples) -> Samples:
    """Return the loudest 0.3 s in 30 s of silence."""
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
    "a tenth clipped": clip,
    "with a DC offset of 0.2": lambda wave_s, rng, other_s: wave_s + np.float32(0.2),
    "a room of 0.6 s": lambda wave_s, rng, other_s: waveform.add_reverb(
        wave_s, waveform.simulate_impulse_response(RATE, 0.6, rng)
    ),
    "pink noise, 10 dB": add_pink_noise(10.0),
    "pink noise, 0 dB": add_pink_noise(0.0),
    "whispered": whisper,
    "two speakers at once": mix_speakers,
    "0.3 s in 30 s of silence": embed_in_silence,
    "noise alone": lambda wave_s, rng, other_s: (
        waveform.generate_noise(len(wave_s), RATE, rng) * 0.1
    ),
}


def predict(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    waves_: Sequence[Samples],
    change: Change,
) -> Iterator[tuple[str | None, float, str]]:
    """Yield for each utterance the answer, the confidence and the most probable emotion."""
    for start in range(0, len(waves_), BATCH):
        batch = []
        for index in range(start, min(start + BATCH, len(waves_))):
            digest = hashlib.sha256(utterances[index].id.encode()).digest()
            rng = np.random.default_rng(int.from_bytes(digest[:8]))
            wave_s = change(waves_[index], rng, waves_[(index + len(waves_) // 2) % len(waves_)])
            batch.append((utterances[index].id, wave_s))
        for answer in recognizer.predict_many(batch, attention=False):
            prediction = answer.tasks.get("emotion") if answer.speech else None
            probabilities = prediction.probabilities if prediction else {}
            best = max(probabilities, key=probabilities.__getitem__) if probabilities else ""
            yield answer.label, probabilities.get(best, 0.0), best


def format_row(
    name: str, truths: Sequence[str], predictions: Sequence[tuple[str | None, float, str]]
) -> str:
    """Format the row of one condition."""
    is_correct = np.array(
        [best == truth for truth, (_, _, best) in zip(truths, predictions, strict=True)]
    )
    is_answered = np.array([label is not None for label, _, _ in predictions])
    has_speech = np.array([bool(best) for _, _, best in predictions])
    classes = np.array(truths)
    recalls = [
        is_correct[(classes == name) & has_speech].mean()
        for name in sorted(set(truths))
        if ((classes == name) & has_speech).any()
    ]
    uar = f"{100 * np.mean(recalls):.1f}" if recalls else "-"
    precision = f"{100 * is_correct[is_answered].mean():.1f}" if is_answered.any() else "-"
    confidences = [confidence for _, confidence, best in predictions if best]
    median = f"{np.median(confidences):.2f}" if confidences else "-"
    high = 100 * np.mean([confidence > HIGH_CONFIDENCE for _, confidence, _ in predictions])
    no_speech, answered = 100 * (~has_speech).mean(), 100 * is_answered.mean()
    cells = [name, uar, median, *(f"{x:.1f}" for x in (high, no_speech, answered)), precision]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--corpus", action="append", required=True)
    parser.add_argument("--speakers", default="")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    recognizer = Recognizer(args.model, confidence="auto")
    recipe = recognizer.system.recipe
    # The model's map is about labels of its own training data.
    tasks = {task: {**table, "map": {}} for task, table in recipe.tasks.items()}
    recipe = replace(recipe, tasks=tasks)
    classes = recognizer.classes["emotion"]
    corpus, _ = apply_label_scheme(corpora.as_corpus(args.corpus), recipe)
    speakers = set(args.speakers.split(",")) - {""}
    utterances = [u for u in corpus.utterances if not speakers or str(u.speaker) in speakers]
    labels = get_task_labels(utterances, "emotion", recipe)
    pairs = [
        (u, str(label)) for u, label in zip(utterances, labels, strict=True) if label in classes
    ]
    utterances, truths = [u for u, _ in pairs], [label for _, label in pairs]
    waves_ = [audio.load(utterance.path, RATE) for utterance in utterances]
    command = shlex.join(sys.argv[1:])
    lines = [
        f"# {recognizer.name} under shift",
        "",
        f"`python -m benchmarks.robustness {command}`, {utc_now()}, {describe_machine()}. "
        f"{len(utterances)} utterances of {len({u.speaker for u in utterances})} speakers, of "
        f"{len(set(truths))} emotions that the model has; threshold "
        f"{recognizer.thresholds['emotion']:.2f}.",
        "",
        f"| condition | UA, % | confidence, median | above {HIGH_CONFIDENCE}, % | no speech, % "
        "| answered, % | of these correct, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, change in CONDITIONS.items():
        predictions = list(predict(recognizer, utterances, waves_, change))
        lines.append(format_row(name, truths, predictions))
        print(lines[-1], flush=True)
    if args.output:
        write_text(args.output, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
