"""What each kind of functionals is worth: a machine on them, between speakers of one corpus.

    python -m benchmarks.functionals --corpus ravdess=FOLDER --speakers 01,02,03 -o FILE.md

A support vector machine with Gaussian kernels reads functionals of ``serein-base``'s front end, as
they are; speakers whose names are not given are not looked at. Nothing is augmented.
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
from serein.metrics.bootstrap import bootstrap_interval, confusion_by_group
from serein.metrics.classification import unweighted_accuracy_from_confusion
from serein.recipes import load
from serein.records import Utterance
from serein.utils.files import write_text

FOLDS = 4
COST = 5.0
FIRST = "lie and step", "rhythm", "melody"
"""Those that the others are added to."""


def parts_of(utterances: Sequence[Utterance]) -> dict[str, np.ndarray]:
    """Functionals (N, D) of each kind."""
    settings = {k: v for k, v in load("serein-base").features.items() if k != "name"}
    front_end = voice.FrontEnd(build_config(voice.Config, settings, "features"))
    functionals, within = Functionals(front_end.width - 3), front_end.given["within"]
    told = []
    for one in utterances:
        wave_s = audio.load(one.path, front_end.rate, start=one.start, end=one.end)
        wave_bs = torch.from_numpy(wave_s)[None]
        x_btf, mask_bt = front_end(wave_bs, torch.tensor([wave_bs.shape[1]]))
        spoken_bt = speech_mask(x_btf[..., -3], mask_bt, within)
        told.append(functionals.compute_groups(x_btf, mask_bt, spoken_bt, front_end.hop))
    return {name: torch.cat([one[name] for one in told]).numpy() for name in told[0]}


def row(name: str, x_nd: np.ndarray, labels: list[str], speakers: list[str]) -> str:
    """One choice as a line of a table."""
    kernels = make_pipeline(StandardScaler(), SVC(C=COST, class_weight="balanced"))
    found = cross_val_predict(kernels, x_nd, labels, groups=speakers, cv=GroupKFold(FOLDS))
    classes = sorted(set(labels))
    confusions = confusion_by_group(labels, found.tolist(), speakers, classes)
    score = float(unweighted_accuracy_from_confusion(confusions.sum(axis=0)))
    low, high = bootstrap_interval(confusions, unweighted_accuracy_from_confusion)
    return f"| {name} | {x_nd.shape[1]} | {100 * score:.1f} [{100 * low:.1f}, {100 * high:.1f}] |"


def rows(some: Sequence[Utterance]) -> Iterator[str]:
    """The first kinds, each of the others beside them, and all."""
    labels, speakers = [str(u.label("emotion")) for u in some], [str(u.speaker) for u in some]
    parts = parts_of(some)
    first = [parts.pop(name) for name in FIRST]
    choices = {", ".join(FIRST): first}
    choices |= {f"and {name}": [*first, x_nd] for name, x_nd in parts.items()}
    choices["all"] = [*first, *parts.values()]
    for name, chosen in choices.items():
        yield row(name, np.concatenate(chosen, axis=1), labels, speakers)


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", required=True)
    parser.add_argument("--speakers", required=True)
    parser.add_argument("-o", "--output", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    wanted = set(asked.speakers.split(","))
    some = [one for one in corpora.load(asked.corpus).utterances if one.speaker in wanted]
    if missing := wanted - {one.speaker for one in some}:
        parser.error(f"{asked.corpus} has no speaker {', '.join(sorted(missing))}")
    lines = [
        f"`python -m benchmarks.functionals {shlex.join(sys.argv[1:])}`, {utc_now()}, {describe_machine()}. "
        f"{len(some)} utterances of {len(wanted)} speakers, {FOLDS} folds.",
        "",
        "| functionals | how many | UA, % |",
        "|---|---|---|",
        *rows(some),
    ]
    print("\n".join(lines))
    if asked.output:
        write_text(asked.output, "\n".join([*lines, ""]))


if __name__ == "__main__":
    main()
