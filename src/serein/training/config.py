"""What may vary in training."""

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Lt

from serein.utils.device import PrecisionSetting

BalanceKey = Literal["class", "corpus", "speaker"]
"""What an epoch may hold evenly: the classes of the leading task, corpora, speakers."""


@dataclass(frozen=True)
class TrainingConfig:
    """Settings of the loop.

    Attributes:
        epochs: passes over the training side.
        batch: utterances of one step.
        bucket: in every so many batches, utterances of like length meet; 1 is pure chance.
        optimiser: "adam", or "rmsprop" with Keras's constants (rho 0.9, epsilon 1e-7).
        rate: learning rate.
        decay: the rate is divided by 1 + decay x steps, as Keras's optimisers did.
        warmup: steps in which the rate rises evenly from 0; with 0 it begins as it is.
        schedule: "constant", or "cosine": the rate falls to 0 by the end of the last epoch.
        clip: gradients are cut to [-clip, clip]; 0 leaves them.
        weight_decay: L2 penalty of the weights.
        average: weights that are watched and kept are an exponential moving average over steps,
            with this decay, such as 0.999; 0 takes those of the last step.
        balance: what an epoch holds evenly, "class", "corpus" or "speaker"; of a list, the first
            one, and within each of its parts the next. As many utterances as ever, some of them
            more than once, others not at all.
        smooth: the epoch is chosen by the mean of its validation score and those of the epochs
            before it, so many in all; 1 takes single scores, which swing with few speakers.
        choose: whose UA, or CCC, chooses it: the "first" task's, or the "mean" over all tasks;
            "none" takes the last one, and validation speakers say only how sure a system may be.
        patience: a training ends when so many epochs have brought no better one; 0 never ends it
            early.
        precision: numbers that networks compute in: "fp32"; "bf16", or fp32 where the machine
            has none; "auto" likewise, without a warning. Recognition follows it too.
        flush: whether numbers too small to be normal are zero while training: where gradients fade
            over long LSTMs, steps are several times faster, and other last digits come out.
        init: a saved model that the training starts from: every weight of the same name and shape,
            those of classes and words by their names; empty starts anew.
        threads: processor threads of one training; more are faster and give other roundings.
        checkpoint: seconds after which the state is written within an epoch, too, unless that
            took 2 % of the time; 0 writes it after epochs alone.
    """

    epochs: Annotated[int, Ge(1)] = 100
    batch: Annotated[int, Ge(1)] = 40
    bucket: Annotated[int, Ge(1)] = 1
    optimiser: Literal["adam", "rmsprop"] = "adam"
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
