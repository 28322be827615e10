"""The most confident errors, with what the model looked at.

T = steps of an attention map.
"""

from collections.abc import Sequence

from serein import audio
from serein.audio import utterance_duration
from serein.audio.envelope import compute_envelope
from serein.evaluation.plan import Plan
from serein.layers.outputs import ASR_ATTENTION, WORD_ATTENTION
from serein.records import Fold
from serein.results.evaluation import AttentionTrace, ConfidentError, Prediction
from serein.system import attention_step_times, predict_batch
from serein.training.checkpoint import TrainingRun
from serein.training.dataset import Frames

MAX_ERRORS = 12
"""How many errors a report shows."""


def find_confident_errors(
    plan: Plan, training_runs: dict[str, TrainingRun], records: Sequence[Prediction], selection: str
) -> list[ConfidentError]:
    """The errors of the leading task that were made with most confidence, the worst first.

    None where that task answers with numbers, which are neither right nor wrong.

    Attention is that of the weights that each fold kept, those of the quoted epoch.

    Args:
        plan: the plan.
        training_runs: what came of each fold.
        records: every prediction.
        selection: whose answers are looked at.
    """
    task = next(iter(plan.classes))
    if not plan.classes[task]:
        return []
    known = [one for one in records if one.truth[task] is not None]
    wrong = [
        one
        for one in known
        if one.predicted_label(selection, task, plan.classes[task]) != one.truth[task]
    ]
    worst = sorted(wrong, key=lambda one: (-max(one.selections[selection][task]), one.id))[
        :MAX_ERRORS
    ]
    if not worst:
        return []
    frames = plan.load_frames()
    return [
        _build_error(plan, training_runs[one.fold], frames, one, selection, task) for one in worst
    ]


def _build_error(
    plan: Plan,
    training_run: TrainingRun,
    frames: Frames,
    one: Prediction,
    selection: str,
    task: str,
) -> ConfidentError:
    utterance = plan.corpus.select([one.id])[0]
    fold = next(fold for fold in plan.protocol.folds if fold.name == one.fold)
    seconds = utterance_duration(utterance)
    wave_s = audio.load(utterance.path, 16_000, start=utterance.start, end=utterance.end)
    return ConfidentError(
        id=one.id,
        fold=one.fold,
        task=task,
        truth=str(one.truth[task]),
        answer=str(one.predicted_label(selection, task, plan.classes[task])),
        confidence=max(one.selections[selection][task]),
        seconds=seconds,
        envelope=compute_envelope(wave_s),
        attention=trace_attention(plan, fold, training_run, frames, one.id, seconds),
    )


def trace_attention(
    plan: Plan, fold: Fold, training_run: TrainingRun, frames: Frames, id_: str, seconds: float
) -> dict[str, AttentionTrace]:
    """The attention maps of one utterance, averaged over heads; none without kept weights."""
    if not training_run.weights:
        return {}
    system = plan.build_system(fold)
    system.load_state_dict(training_run.weights)
    (batch,) = plan.build_subset((id_,), frames, system).iter_batches(1)
    _, output = predict_batch(system, batch.inputs, plan.precision)
    maps = {}
    for name, (weight_bht, stride) in output.attention.items():
        if name in (ASR_ATTENTION, WORD_ATTENTION):
            continue
        weight_t = weight_bht[0].flatten(0, -2).mean(dim=0)
        times = attention_step_times(len(weight_t), stride, system.front_end.hop, seconds)
        weights = [round(weight, 5) for weight in weight_t[: len(times)].tolist()]
        maps[name] = AttentionTrace(times=times, weight=weights)
    return maps
