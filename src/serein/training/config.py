"""Settings of training: ``[training]`` of a recipe."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from serein.utils.device import PrecisionSetting

BalanceKey = Literal["class", "corpus", "speaker"]
"""What an epoch can be balanced by: class of the first task, corpus, speaker."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of training.

    Attributes:
        epochs: passes over the training subset.
        batch: utterances of one step.
        bucket: number of consecutive batches within which utterances are sorted by length, so that
            batches need less padding; 1 does not sort.
        optimiser: "adam", or "rmsprop" with the constants of Keras (rho 0.9, epsilon 1e-7).
        epsilon: what is added to the square root by which the optimizer divides: 1e-8 in torch,
            1e-7 in Keras. Keras's Adam adds it before the correction of its moments, which are
            small in the first steps, and torch's after it. 0 takes 1e-8 for "adam" and 1e-7 for
            "rmsprop".
        rate: learning rate.
        decay: the learning rate is divided by 1 + decay x steps, as in Keras's optimizers.
        warmup: steps in which the learning rate rises linearly, from 1 / (warmup + 1) of it; 0 has
            no warm-up.
        schedule: "constant", or "cosine": the rate falls to 0 by the end of the last epoch.
        clip: each gradient value is clipped to [-clip, clip]; 0 does not clip.
        weight_decay: L2 penalty of the weights.
        ema_decay: decay of an exponential moving average of the weights over steps, such as 0.999.
            The averaged weights are evaluated and saved; 0 takes those of the last step.
        balance: what is balanced in an epoch: "class", "corpus" or "speaker"; of a list, the first
            one, and within each of its groups the next. The number of utterances stays the same:
            some occur more than once, others not at all.
        selection_window: number of epochs, up to the epoch itself, whose mean validation score
            selects the epoch; 1 takes the score of each epoch, which varies with few speakers.
        select_by: the UA or CCC that selects the epoch: of the "first" task, or the "mean" over
            all tasks; "none" takes the last epoch, and the validation subset only calibrates
            confidence.
        patience: training ends after this number of epochs without a better one; 0 never stops
            early.
        precision: of the network's computation: "fp32"; "bf16", or fp32 if the device has no
            bf16; "auto" is the same without a warning. Recognition uses it, too.
        flush_denormals: set denormal numbers to zero during training. Where gradients vanish over
            long LSTMs, steps are several times faster; results differ in the last digits.
        init: saved model to start from: every weight of the same name and shape is copied, those
            of classes and words by their names; empty starts from random weights.
        threads: CPU threads of one training; another number changes rounding.
        checkpoint: seconds between checkpoints within an epoch, which may take 2 % of the time at
            most; 0 writes checkpoints only after epochs.
    """

    epochs: Annotated[int, Ge(1)] = 100
    batch: Annotated[int, Ge(1)] = 40
    bucket: Annotated[int, Ge(1)] = 1
    optimiser: Literal["adam", "rmsprop"] = "adam"
    epsilon: Annotated[float, Ge(0)] = 0.0
    rate: Annotated[float, Gt(0)] = 1e-3
    decay: Annotated[float, Ge(0)] = 0.0
    warmup: Annotated[int, Ge(0)] = 0
    schedule: Literal["constant", "cosine"] = "constant"
    clip: Annotated[float, Ge(0)] = 0.0
    weight_decay: Annotated[float, Ge(0)] = 0.0
    ema_decay: Annotated[float, Ge(0), Lt(1)] = 0.0
    balance: Literal["none"] | BalanceKey | tuple[BalanceKey, ...] = "none"
    selection_window: Annotated[int, Ge(1)] = 1
    select_by: Literal["first", "mean", "none"] = "first"
    patience: Annotated[int, Ge(0)] = 0
    precision: PrecisionSetting = "fp32"
    flush_denormals: bool = False
    init: str = ""
    threads: Annotated[int, Ge(1)] = 1
    checkpoint: Annotated[float, Ge(0)] = 300.0
