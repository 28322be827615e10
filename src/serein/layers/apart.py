"""A network of its own for each task, trained side by side."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from serein.layers.attention import AttentionWeights, ModelOutput


class SingleTaskEnsemble(nn.Module):
    """Several single-task systems as one: they see the same batches and share no parameter.

    Adam, L2 and the clipping of single values act on each parameter alone, so that training them
    together is training each of them by itself.
    """

    def __init__(
        self, build_model: Callable[[Sequence[str]], nn.Module], tasks: Sequence[str]
    ) -> None:
        """Build them.

        Args:
            build_model: a network for some tasks, with a ``width``.
            tasks: names, dots and all.
        """
        super().__init__()
        self.tasks = tuple(tasks)
        self.models = nn.ModuleList(build_model((task,)) for task in self.tasks)
        self.width: int = self.models[0].width  # type: ignore[assignment]

    @property
    def pinned(self) -> Mapping[str, Any]:
        """What the networks say of themselves, all of one recipe."""
        return getattr(self.models[0], "pinned", {})

    def forward(self, **inputs: tuple[Tensor, Tensor]) -> ModelOutput:
        """Each task's vector and attention from its own network."""
        vectors: dict[str, Tensor] = {}
        attention: dict[str, AttentionWeights] = {}
        for task, model in zip(self.tasks, self.models, strict=True):
            encoded = model(**inputs)
            vectors[task] = encoded.vectors[task]
            for name, found in encoded.attention.items():
                attention[name if name == task else f"{task}: {name}"] = found
        return ModelOutput(vectors, attention)
