"""How to split: every setting of every protocol.

Which protocol takes which of them stands in ``protocols.PROTOCOLS``.
"""

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Ge, Gt

from serein.errors import ConfigError

Value = str | bool | int | float
Values = Value | tuple[Value, ...]
"""One value, several with commas between them, or a list."""
Amount = Annotated[float, Ge(0)] | dict[str, Annotated[float, Ge(0)]]
"""One number for all corpora, or one for each corpus or language."""


@dataclass(frozen=True)
class SplitConfig:
    """How to split.

    Attributes:
        name: which protocol, or the file of a saved one (.json, .csv).
        validation: how many speakers a fold sets aside to choose the epoch (sessions or folds,
            where the protocol deals in those), or which values of a fixed list; "none" trains on
            them too.
        folds: how many.
        seed: other seeds give other folds, or other utterances; not the seed of the training.
        stratify: label whose classes every fold gets its share of.
        by: attribute or label whose values make the sides.
        train: values of the training side; without any, all that are on no other side.
        test: values of the test side.
        only: leave out whatever has other values: ``only.style = "improvised"``.
        longest: leave out what lasts longer, in seconds.
        disjoint: attributes or labels whose tested values must not be trained on either; such
            utterances leave the training and validation sides.
        groups: how many groups of such values are tested apart, each in folds of its own, so that
            a value that everybody says leaves something to train on.
        most: how many utterances of each training side train, every class in proportion; a smaller
            number takes some of what a larger one takes. Without it, all.
        main: of several corpora the one that is split; the others train in every fold.
        share: how much of each other corpus trains, 0 to 1.
        ratio: how many of its utterances train for each one of the main corpus; replaces
            ``share``.
        allow: what the leakage check may find without stopping the run.
    """

    name: str = "leave-one-speaker-out"
    validation: Annotated[int, Ge(1)] | str | tuple[Value, ...] = 1
    folds: Annotated[int, Ge(2)] = 5
    seed: int = 0
    stratify: str = "emotion"
    by: str = ""
    train: Values = ()
    test: Values = ()
    only: dict[str, Values] = field(default_factory=dict)
    max_duration: Annotated[float, Gt(0)] | None = None
    disjoint: Values = ()
    disjoint_groups: Annotated[int, Ge(1)] = 1
    train_size: Annotated[int, Ge(1)] | None = None
    main: str = ""
    auxiliary_share: Amount = 1.0
    auxiliary_ratio: Amount | None = None
    allow: Values = ()

    @property
    def num_validation(self) -> int:
        """How many speakers, sessions or folds validate.

        Raises:
            ConfigError: values are named instead, and this protocol takes none.
        """
        if isinstance(self.validation, int):
            return self.validation
        if self.validation != "none":
            raise ConfigError(
                f"protocol.validation = {self.validation!r}; {self.name} expects how many, "
                'at least 1, or "none"'
            )
        return 0


def parse_values(values: Values) -> tuple[str, ...]:
    """The words of a setting.

    >>> parse_values("dev-clean, dev-other"), parse_values((1, 2.5))
    (('dev-clean', 'dev-other'), ('1', '2.5'))
    """
    if isinstance(values, str):
        return tuple(part.strip() for part in values.split(",") if part.strip())
    return (
        tuple(map(format_value, values)) if isinstance(values, tuple) else (format_value(values),)
    )


def format_value(value: Value) -> str:
    """A value as a person would write it: the label 1.0 is the setting 1."""
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else f"{value:g}"
