"""The most confident errors of an evaluation, with the attention over each utterance.

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
from serein.utils.device import restore_torch_state

MAX_ERRORS = 12
"""Number of errors that a report shows."""


def find_confident_errors(
    plan: Plan,
    training_runs: dict[str, TrainingRun],
    predictions: Sequence[Prediction],
    selection: str,
) -> list[ConfidentError]:
    """Find the errors of the first task with the highest confidence, the most confident first.

    The list is empty if the first task is a regression. The attention is computed with the weights
    that each fold kept: those of the headline's epoch.

    Args:
        plan: the plan.
        training_runs: the training run of each fold.
        predictions: every prediction.
        selection: the selection whose predictions are used.
    """
    task = next(iter(plan.classes))
    if not plan.classes[task]:
        return []
    wrong = [
        p
        for p in predictions
        if p.truth[task] is not None
        and p.predicted_label(selection, task, plan.classes[task]) != p.truth[task]
    ]
    wrong.sort(key=lambda p: (-max(p.selections[selection][task]), p.id))
    if not wrong:
        return []
    has_attention = any(training_run.weights for training_run in training_runs.values())
    frames = plan.load_frames() if has_attention else None
    return [
        _build_error(plan, training_runs[prediction.fold], frames, prediction, selection, task)
        for prediction in wrong[:MAX_ERRORS]
    ]


def _build_error(
    plan: Plan,
    training_run: TrainingRun,
    frames: Frames | None,
    prediction: Prediction,
    selection: str,
    task: str,
) -> ConfidentError:
    utterance = plan.corpus.select([prediction.id])[0]
    fold = next(fold for fold in plan.protocol.folds if fold.name == prediction.fold)
    seconds = utterance_duration(utterance)
    wave_s = audio.load(utterance.path, 16_000, start=utterance.start, end=utterance.end)
    return ConfidentError(
        id=prediction.id,
        fold=prediction.fold,
        task=task,
        truth=str(prediction.truth[task]),
        answer=str(prediction.predicted_label(selection, task, plan.classes[task])),
        confidence=max(prediction.selections[selection][task]),
        seconds=seconds,
        envelope=compute_envelope(wave_s),
        attention={}
        if frames is None
        else trace_attention(plan, fold, training_run, frames, prediction.id, seconds),
    )


def trace_attention(
    plan: Plan, fold: Fold, training_run: TrainingRun, frames: Frames, id_: str, seconds: float
) -> dict[str, AttentionTrace]:
    """Compute the attention over one utterance, averaged over heads; empty without kept weights."""
    if not training_run.weights:
        return {}
    with restore_torch_state():  # the weights that are drawn here are replaced
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
