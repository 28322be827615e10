"""The value of each group of functionals: speaker-independent scores of an SVM on one corpus.

    python -m benchmarks.functionals --corpus ravdess=FOLDER --speakers 01,02,03 -o FILE.md

The support vector machine (Gaussian kernel) uses functionals of ``serein-light``'s front end,
without augmentation. Only the given speakers are used.
"""

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from serein import audio, corpora
from serein.config import build_config
from serein.evaluation.provenance import describe_machine, utc_now
from serein.features import voice
from serein.layers.functionals import Functionals, speech_mask
from serein.metrics.bootstrap import confusion_by_group
from serein.metrics.classification import unweighted_accuracy_from_confusion
from serein.metrics.jackknife import jackknife_interval
from serein.recipes import load
from serein.records import Utterance
from serein.utils.files import write_text

FOLDS = 4
COST = 5.0
FIRST = "contours", "rhythm", "pitch"
"""Groups that the others are added to."""


def compute_groups(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """Compute the functionals (N, D) of each group."""
    settings = {k: v for k, v in load("serein-light").features.items() if k != "name"}
    front_end = voice.FrontEnd(build_config(voice.Config, settings, "features"))
    functionals, within = Functionals(front_end.width - 3), front_end.given["within"]
    groups = []
    for utterance in utterances:
        start, end = utterance.start, utterance.end
        wave_s = audio.load(utterance.path, front_end.rate, start=start, end=end)
        wave_bs = torch.from_numpy(wave_s)[None]
        x_btf, mask_bt = front_end(wave_bs, torch.tensor([wave_bs.shape[1]]))
        spoken_bt = speech_mask(x_btf[..., -3], mask_bt, within)
        groups.append(functionals.compute_groups(x_btf, mask_bt, spoken_bt, front_end.hop))
    return {name: torch.cat([one[name] for one in groups]).numpy() for name in groups[0]}


def format_row(name: str, x_nd: np.ndarray, labels: list[str], speakers: list[str]) -> str:
    """Evaluate one choice of groups, and format a row of the table."""
    classifier = make_pipeline(StandardScaler(), SVC(C=COST, class_weight="balanced"))
    predictions = cross_val_predict(classifier, x_nd, labels, groups=speakers, cv=GroupKFold(FOLDS))
    classes = sorted(set(labels))
    confusions = confusion_by_group(labels, predictions.tolist(), speakers, classes)
    score = float(unweighted_accuracy_from_confusion(confusions.sum(axis=0)))
    low, high = jackknife_interval(confusions, unweighted_accuracy_from_confusion)
    return f"| {name} | {x_nd.shape[1]} | {100 * score:.1f} [{100 * low:.1f}, {100 * high:.1f}] |"


def format_rows(utterances: Sequence[Utterance]) -> Iterator[str]:
    """Yield rows for the first groups, for these with each other group, and for all groups."""
    labels = [str(utterance.label("emotion")) for utterance in utterances]
    speakers = [str(utterance.speaker) for utterance in utterances]
    groups = compute_groups(utterances)
    first = [groups.pop(name) for name in FIRST]
    choices = {", ".join(FIRST): first}
    choices |= {f"and {name}": [*first, x_nd] for name, x_nd in groups.items()}
    choices["all"] = [*first, *groups.values()]
    for name, arrays in choices.items():
        yield format_row(name, np.concatenate(arrays, axis=1), labels, speakers)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--speakers", required=True)
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    wanted = set(args.speakers.split(","))
    utterances = [u for u in corpora.load(args.corpus).utterances if u.speaker in wanted]
    if missing := wanted - {utterance.speaker for utterance in utterances}:
        parser.error(f"{args.corpus} has no speaker {', '.join(sorted(missing))}")
    lines = [
        f"`python -m benchmarks.functionals {shlex.join(sys.argv[1:])}`, {utc_now()}, "
        f"{describe_machine()}. {len(utterances)} utterances of {len(wanted)} speakers, "
        f"{FOLDS} folds.",
        "",
        "| functionals | how many | UA, % |",
        "|---|---|---|",
        *format_rows(utterances),
    ]
    print("\n".join(lines))
    if args.output:
        write_text(args.output, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
