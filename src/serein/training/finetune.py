"""Initialisation of a training from a saved model."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from serein import bundle
from serein.errors import BundleError
from serein.system import System


def load_initial_weights(system: System, init: str) -> list[str]:
    """Copy the weights of a saved model into a system.

    Weights of the same name and shape are copied. If classes or words differ, only the rows of
    common ones are copied: the system can have new classes and keep what was learnt of old ones.
    Normalisation statistics are not copied but fitted on the training subset; an estimator with
    ``start_from`` takes those of the saved model, and its new classes start from the mean of the
    common ones.

    Args:
        system: with random weights; changed in place.
        init: path of the saved model; empty changes nothing.

    Returns:
        The names of the weights that were copied, whole or in part.

    Raises:
        BundleError: the model cannot be read, has another front end, or has no weight in common.
    """
    if not init:
        return []
    saved = bundle.load(Path(init)).system
    if saved.front_end.config != system.front_end.config:
        raise BundleError(
            f"{init} has the front end {saved.recipe.features}; this recipe has "
            f"{system.recipe.features}. Start from a model with the same front end"
        )
    source, target = saved.state_dict(), dict(system.named_parameters())
    copied = [
        name
        for name in target
        if name in source and _copy_weight(name, target, source, system, saved)
    ]
    if not copied:
        raise BundleError(
            f"{init} has no weight in common with this recipe: its model is "
            f"{saved.recipe.model['name']}, the recipe's is {system.recipe.model['name']}"
        )
    if callable(start_from := getattr(system.model, "start_from", None)):
        start_from(saved.model)
        _average_new_classes(system, saved)
    return copied


def _average_new_classes(system: System, saved: System) -> None:
    """Set the rows of classes that the saved model lacks to the mean of the common ones."""
    for task, head in system.heads.items():
        is_common = torch.tensor([c in saved.classes.get(task, ()) for c in system.classes[task]])
        for name, weight in head.named_parameters():
            if name in ("head.weight", "head.bias") and is_common.any():
                with torch.no_grad():
                    weight[~is_common] = weight[is_common].mean(dim=0)


def _copy_weight(
    name: str,
    target: Mapping[str, Tensor],
    source: Mapping[str, Tensor],
    system: System,
    saved: System,
) -> bool:
    """Copy a weight, or its rows of common classes or words; return whether any was copied."""
    with torch.no_grad():
        target_rows, source_rows = _get_row_names(name, system), _get_row_names(name, saved)
        if target_rows != source_rows:
            return _copy_rows(target[name], source[name], target_rows, source_rows)
        if target[name].shape != source[name].shape:
            return False
        target[name].copy_(source[name])
        return True


def _copy_rows(
    target: Tensor, source: Tensor, target_rows: Sequence[str], source_rows: Sequence[str]
) -> bool:
    common = [row for row in source_rows if row in set(target_rows)]
    fits = (
        target.shape[1:] == source.shape[1:]
        and len(target) == len(target_rows)
        and len(source) == len(source_rows)
    )
    if not common or not fits:
        return False
    to = [target_rows.index(row) for row in common]
    target[to] = source[[source_rows.index(row) for row in common]]
    return True


def _get_row_names(name: str, system: System) -> Sequence[str]:
    """Return the class or word of each row of a weight; empty if its rows are something else."""
    module, _, path = name.partition(".")
    if module == "heads":
        task = path.removesuffix(".head.weight").removesuffix(".head.bias")
        return system.classes.get(task, ())
    word_weights = getattr(system.model, "WORD_WEIGHTS", ())
    return system.words if name.removeprefix("model.") in word_weights else ()
