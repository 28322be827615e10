"""A training that starts from a saved model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from serein import bundle
from serein.errors import BundleError
from serein.system import System


def load_initial_weights(system: System, init: str) -> list[str]:
    """Copy into a system what a saved model has learnt.

    Weights of the same name and shape are copied. Where classes or words differ, the rows of those
    that both know are, so that new ones join without the loss of old ones; the normalisation is
    fitted anew on the training side.

    Args:
        system: as it was drawn; changed in place.
        init: the saved model; empty leaves the system as it is.

    Returns:
        The names of the weights that were copied, whole or in part.

    Raises:
        BundleError: the model cannot be read, hears other frames, or shares no weight.
    """
    if not init:
        return []
    saved = bundle.load(Path(init)).system
    if saved.front_end.config != system.front_end.config:
        raise BundleError(
            f"{init} hears frames of {saved.recipe.features}; this recipe makes them by "
            f"{system.recipe.features}. Train from a model of the same front end"
        )
    theirs, ours = saved.state_dict(), dict(system.named_parameters())
    copied = [
        name for name in ours if name in theirs and _copy_weight(name, ours, theirs, system, saved)
    ]
    if not copied:
        raise BundleError(
            f"{init} shares no weight with this recipe: it is a {saved.recipe.model['name']}, the "
            f"recipe a {system.recipe.model['name']}"
        )
    return copied


def _copy_weight(
    name: str,
    ours: Mapping[str, Tensor],
    theirs: Mapping[str, Tensor],
    system: System,
    saved: System,
) -> bool:
    """Copy one weight, or the rows of it that both know."""
    with torch.no_grad():
        rows = _get_row_names(name, system), _get_row_names(name, saved)
        if rows[0] != rows[1]:
            return _copy_rows(ours[name], theirs[name], *rows)
        if ours[name].shape != theirs[name].shape:
            return False
        ours[name].copy_(theirs[name])
        return True


def _copy_rows(own: Tensor, other: Tensor, ours: Sequence[str], theirs: Sequence[str]) -> bool:
    shared = [(ours.index(row), place) for place, row in enumerate(theirs) if row in set(ours)]
    fits = own.shape[1:] == other.shape[1:] and len(own) == len(ours) and len(other) == len(theirs)
    if not shared or not fits:
        return False
    to, of = zip(*shared, strict=True)
    own[list(to)] = other[list(of)]
    return True


def _get_row_names(name: str, system: System) -> Sequence[str]:
    """What the rows of a weight stand for: classes of a head, or words; else nothing."""
    kind, _, rest = name.partition(".")
    if kind == "heads":
        task = rest.removesuffix(".head.weight").removesuffix(".head.bias")
        return system.classes.get(task, ())
    by_words = getattr(system.model, "BY_WORDS", ())
    return system.words if name.removeprefix("model.") in by_words else ()
