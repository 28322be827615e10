"""The most confident errors, with what the model looked at.

T = steps of an attention map.
"""

from collections.abc import Sequence

from serein import audio
from serein.audio import seconds_of
from serein.dataset import Frames
from serein.experiment.plan import Plan
from serein.layers.transcript import FOUND, READ
from serein.predict import answer, steps
from serein.records import Fold
from serein.results import Look, Mistake, Prediction
from serein.training.course import Course
from serein.waveform import envelope

MOST = 12
"""How many errors a report shows."""


def mistakes(
    todo: Plan, courses: dict[str, Course], records: Sequence[Prediction], selection: str
) -> list[Mistake]:
    """The errors of the leading task that were made with most confidence, the worst first.

    None where that task answers with numbers, which are neither right nor wrong.

    Attention is that of the weights that each fold kept, those of the quoted epoch.

    Args:
        todo: the plan.
        courses: what came of each fold.
        records: every prediction.
        selection: whose answers are looked at.
    """
    task = next(iter(todo.classes))
    if not todo.classes[task]:
        return []
    known = [one for one in records if one.truth[task] is not None]
    wrong = [
        one for one in known if one.answer(selection, task, todo.classes[task]) != one.truth[task]
    ]
    worst = sorted(wrong, key=lambda one: (-max(one.selections[selection][task]), one.id))[:MOST]
    if not worst:
        return []
    frames = todo.frames()
    return [_mistake(todo, courses[one.fold], frames, one, selection, task) for one in worst]


def _mistake(
    todo: Plan, course: Course, frames: Frames, one: Prediction, selection: str, task: str
) -> Mistake:
    utterance = todo.corpus.of([one.id])[0]
    fold = next(fold for fold in todo.protocol.folds if fold.name == one.fold)
    seconds = seconds_of(utterance)
    wave_s = audio.load(utterance.path, 16_000, start=utterance.start, end=utterance.end)
    return Mistake(
        id=one.id,
        fold=one.fold,
        task=task,
        truth=str(one.truth[task]),
        answer=str(one.answer(selection, task, todo.classes[task])),
        confidence=max(one.selections[selection][task]),
        seconds=seconds,
        envelope=envelope(wave_s),
        attention=looks(todo, fold, course, frames, one.id, seconds),
    )


def looks(
    todo: Plan, fold: Fold, course: Course, frames: Frames, id_: str, seconds: float
) -> dict[str, Look]:
    """The attention maps of one utterance, averaged over heads; none without kept weights."""
    if not course.weights:
        return {}
    system = todo.untrained(fold)
    system.load_state_dict(course.weights)
    (batch,) = todo.side((id_,), frames, system).batches(1)
    _, output = answer(system, batch.inputs, todo.numbers)
    maps = {}
    for name, (weight_bht, stride) in output.attention.items():
        if name in (FOUND, READ):
            continue
        weight_t = weight_bht[0].flatten(0, -2).mean(dim=0)
        times = steps(len(weight_t), stride, system.front_end.hop, seconds)
        weights = [round(weight, 5) for weight in weight_t[: len(times)].tolist()]
        maps[name] = Look(times=times, weight=weights)
    return maps
