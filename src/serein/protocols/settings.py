"""The settings of a split; ``protocols.PROTOCOLS`` lists which protocol takes which of them."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from annotated_types import Ge, Gt

from serein.errors import ConfigError

Value = str | bool | int | float
Values = Value | tuple[Value, ...]
"""One value, several values separated by commas, or a list."""
Amount = Annotated[float, Ge(0)] | dict[str, Annotated[float, Ge(0)]]
"""One number for all corpora, or one per corpus or language."""


@dataclass(frozen=True)
class SplitConfig:
    """The settings of a split.

    Attributes:
        name: a protocol, or the file of a saved one (.json, .csv).
        validation: number of speakers in each validation subset (of sessions or folds, where the
            protocol splits by those), or the values of a predefined subset; "none" leaves the
            validation subset empty and trains on its utterances.
        complete_validation: whether training speakers are added to a validation subset until it
            has every class of the training subset.
        folds: number of folds.
        seed: seed of the split; independent of the training seed.
        stratify: label by which folds and samples are stratified.
        by: attribute or label whose values define the subsets.
        train: values of the training subset; by default every value of no other subset.
        test: values of the test subset.
        only: keep only utterances with these values: ``only.style = "improvised"``.
        max_duration: leave out longer utterances, in seconds.
        unlabelled: "drop" leaves out the utterances without a label of the first task, "keep" has
            them train the other tasks and the transcripts.
        disjoint: attributes or labels whose test values must not be trained on; utterances that
            share a value with the test subset leave the training and validation subsets.
        disjoint_groups: divide the values of ``disjoint`` into this many groups, each tested in
            folds of its own, so that values that every speaker has leave some utterances to train
            on.
        train_size: number of training utterances in each fold, stratified; a smaller sample is
            part of a larger one. By default all.
        max_folds: number of folds to train and test, the first ones; 1 of random folds is a random
            hold-out. By default all.
        main: the corpus that is split; the other corpora train in every fold.
        auxiliary_share: fraction of each auxiliary corpus that trains, 0 to 1.
        auxiliary_ratio: training utterances of each auxiliary corpus per training utterance of the
            main corpus; replaces ``auxiliary_share``.
        allow: kinds of leak that do not stop the run.
    """

    name: str = "leave-one-speaker-out"
    validation: Annotated[int, Ge(1)] | str | tuple[Value, ...] = 1
    complete_validation: bool = True
    folds: Annotated[int, Ge(2)] = 5
    seed: int = 0
    stratify: str = "emotion"
    by: str = ""
    train: Values = ()
    test: Values = ()
    only: dict[str, Values] = field(default_factory=dict)
    max_duration: Annotated[float, Gt(0)] | None = None
    unlabelled: Literal["drop", "keep"] = "drop"
    disjoint: Values = ()
    disjoint_groups: Annotated[int, Ge(1)] = 1
    train_size: Annotated[int, Ge(1)] | None = None
    max_folds: Annotated[int, Ge(1)] | None = None
    main: str = ""
    auxiliary_share: Amount = 1.0
    auxiliary_ratio: Amount | None = None
    allow: Values = ()

    @property
    def num_validation(self) -> int:
        """Number of speakers, sessions or folds in the validation subset.

        Raises:
            ConfigError: ``validation`` holds values, and this protocol takes a number.
        """
        if isinstance(self.validation, int):
            return self.validation
        if self.validation != "none":
            raise ConfigError(
                f"protocol.validation = {self.validation!r}; {self.name} expects a number "
                'of at least 1, or "none"'
            )
        return 0


def parse_values(values: Values) -> tuple[str, ...]:
    """Split a setting into its values.

    >>> parse_values("dev-clean, dev-other"), parse_values((1, 2.5))
    (('dev-clean', 'dev-other'), ('1', '2.5'))
    """
    if isinstance(values, str):
        return tuple(part.strip() for part in values.split(",") if part.strip())
    values = values if isinstance(values, tuple) else (values,)
    return tuple(map(format_value, values))


def format_value(value: Value) -> str:
    """Return a value as it is written in a setting: 1 for the label 1.0."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"
