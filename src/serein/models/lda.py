"""Linear discriminant analysis against nuisances: recordings, corpora, and augmentation.

Ours; the model of serein's recipe `serein-base`. Fisher's linear discriminant (1936): the logit of
class c for a standardized vector x is

    w_c x - w_c m_c / 2 + log p_c,    w_c = S^-1 m_c,

m_c being the mean of the class, p_c its prior probability (equal by default), and S the covariance
of everything that is not emotion:

    S0 = W + corpus_weight C + augmentation_weight A
    S  = (1 - shrinkage) S0 + shrinkage trace(S0) / D I

- W, the covariance within a class of a corpus: speakers, sentences, rooms. The mean over classes
  and corpora, so that large corpora count no more than small ones.
- C, the scatter of the means of a class in each corpus about the mean of the class: language, room,
  microphone, and what each corpus means by the word.
- A, the mean square of the difference between an augmented copy and its recording: whatever
  augmentation changes is not emotion. Nuisance attribute projection (Solomonoff, Campbell &
  Boardman 2005) and within-class covariance normalization (Hatch, Kajarekar & Stolcke 2006) do the
  same for speakers.

The shrinkage is that of Friedman (1989): Regularized Discriminant Analysis. A corpus with a single
class, such as read speech that is all neutral, says nothing about the difference of classes: it has
no part in the means, and its mean counts in C with ``single_class_weight``.

A model that starts from a saved one (``training.init``) keeps its statistics, and the weights w of
each task are adapted to the new utterances: those that minimize

    sum_n v_n ce(w x_n + b, y_n) + adaptation_penalty |w - w_0|^2,
    w_0 = (1 - adaptation_share) w_saved + adaptation_share w_new,

the cross-entropy with a Gaussian prior about given weights (maximum a posteriori; Chelba & Acero
2004 adapt maximum entropy models so). w_new is the discriminant of the new utterances, scaled to
the norm of w_saved. That of a few utterances is poor, that of a hundred as good as the saved one.
The fewer the utterances, the less the weights change.

Penalty and share are those of ``PENALTIES`` and ``SHARES`` with the least cross-entropy on the
validation subset, at the temperature of ``TEMPERATURES`` that suits each. Without such a subset,
the penalty is the middle one, and the share of n utterances n / (n + ``SHARE_COUNT``). A class that
the saved model lacks starts from the mean of those that it has; one that the new utterances lack
keeps its saved weights.

If a task trains on votes, an utterance counts by the share of the raters who gave its own label:
one that nobody took for what it was meant to be does not count.

There are no random numbers and no epochs: another processor gives the same model up to rounding.

B = batch, n = utterances, T = frames, D = values of a vector, K = classes of a task.
"""

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Ge, Gt, Le
from torch import Tensor, nn

from serein.errors import ConfigError, UnknownName
from serein.layers.attention import ModelOutput
from serein.layers.outputs import Examples
from serein.tasks.heads import ClassificationTask

USES_COPIES = True
"""Whether ``fit`` uses augmented copies."""
USES_GROUPS = True
"""Whether ``fit`` uses the corpora of ``training.balance = "corpus"``."""
USES_VOTES = True
"""Whether ``fit`` uses votes."""
USES_INIT = True
"""Whether ``fit`` starts from the statistics and heads of a saved model."""
PENALTIES = (100.0, 300.0, 1000.0, 3000.0, 10_000.0)
"""Penalties of an adaptation among which the validation subset selects."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of the discriminant of the new utterances among which the validation subset selects."""
SHARE_COUNT = 100
"""Number of new utterances whose discriminant has a share of a half, without a validation subset.

Chosen on four speakers of RAVDESS, with 10, 30, 100 and 300 new utterances.
"""
TEMPERATURES = (0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0)
"""Temperatures at which penalties and shares are compared, since a model is calibrated later."""
ADAPTATION_STEPS = 100
"""Most steps of the minimization; it ends earlier where nothing changes."""
CLIP = 5.0
"""Largest standardized value; deviations from the mean."""
MIN_DEVIATION = 1e-3
"""Added to a deviation before the division."""
ABSENT_CLASS_LOGIT = -30.0
"""Logit of a class without training utterances."""
Weight = Annotated[float, Ge(0)]


@dataclass(frozen=True)
class Config:
    """Weights of the nuisances.

    Attributes:
        corpus_weight: of the differences between corpora.
        single_class_weight: of those of corpora with one class.
        augmentation_weight: of the differences between copies and recordings.
        shrinkage: towards equal variances without correlation.
        priors: how frequent a class is, by its name, relative to the others' 1; 0.25 makes an
            answer of this class four times less likely.
        adaptation_penalty: of the distance from a saved model's weights; 0 is selected.
        adaptation_share: of the new utterances' own discriminant in the weights from which the
            distance is measured; None is selected, or follows from their number.
    """

    corpus_weight: Weight = 10.0
    single_class_weight: Weight = 0.5
    augmentation_weight: Weight = 3.0
    shrinkage: Annotated[float, Gt(0), Le(1)] = 0.4
    priors: dict[str, Annotated[float, Gt(0)]] = field(default_factory=dict)
    adaptation_penalty: Weight = 0.0
    adaptation_share: Annotated[float, Ge(0), Le(1)] | None = None


class Model(nn.Module):
    """The standardized mean of the frames, the same vector for every task."""

    mean_d: Tensor
    deviation_d: Tensor
    limit: Tensor

    def __init__(self, config: Config, width: int, tasks: Sequence[str]) -> None:
        """Allocate the statistics.

        Args:
            config: weights.
            width: bins of a frame.
            tasks: names of the tasks that read the vector.
        """
        super().__init__()
        self.config, self.tasks, self.width = config, tuple(tasks), width
        self.saved_priors: dict[str, float] = {}
        self.register_buffer("mean_d", torch.zeros(width))
        self.register_buffer("deviation_d", torch.ones(width))
        self.register_buffer("limit", torch.tensor(math.inf))  # nothing is clipped before the fit

    def forward(self, frames: tuple[Tensor, Tensor]) -> ModelOutput:
        """Frames (B, T, D) with their mask (B, T) -> a vector (B, D) for each task."""
        x_btd, mask_bt = frames
        total_bd = x_btd.masked_fill(~mask_bt[..., None], 0).sum(dim=1)
        mean_bd = total_bd / mask_bt.sum(dim=1, keepdim=True)
        return ModelOutput(dict.fromkeys(self.tasks, self.standardize(mean_bd)), {})

    def standardize(self, x_bd: Tensor) -> Tensor:
        """Give vectors mean 0 and deviation 1 over the training subset; outliers are clipped."""
        return ((x_bd - self.mean_d) / self.deviation_d).clamp(-self.limit, self.limit)

    def fit(
        self, train: Examples, validation: Examples | None, tasks: Mapping[str, nn.Module]
    ) -> dict[str, float]:
        """Compute the statistics, and set the head of every task.

        Args:
            train: vectors of this model before it was fitted, with those of augmented copies and
                the corpus of each utterance.
            validation: not used; nothing is selected.
            tasks: classification tasks by name.

        Returns:
            For each task that is adapted, the penalty; otherwise nothing is selected.

        Raises:
            ConfigError: a task has no classes, or a prior is of a class that no task has.
        """
        self._check_priors(tasks)
        if self.is_fitted:
            return {
                name: self._adapt(name, task, train, validation) for name, task in tasks.items()
            }
        every = [vectors[self.tasks[0]] for vectors in (train.vectors, *train.copies)]
        self._fit_statistics(every)
        views = [self.standardize(x_nd) for x_nd in every]
        for name, task in tasks.items():
            task = _require_classes(name, task)
            groups = train.groups or [""] * len(views[0])
            weight_n = compute_vote_weights(train.targets[name], train.votes.get(name))
            moments = ClassMoments(views, train.targets[name], weight_n, groups)
            weight_kd, bias_k = moments.fit_discriminant(len(task.classes), self.config)
            bias_k += compute_log_priors(task.classes, self.config.priors)
            with torch.no_grad():
                task.head.weight.copy_(weight_kd)
                task.head.bias.copy_(bias_k)
        return {}

    @property
    def is_fitted(self) -> bool:
        """Whether the statistics are those of a training subset."""
        return bool(self.limit.isfinite())

    def start_from(self, saved: nn.Module) -> None:
        """Take the statistics of a saved model of the same kind.

        Raises:
            ConfigError: its vectors have another width.
        """
        if not isinstance(saved, Model) or saved.width != self.width:
            raise ConfigError(
                f"the model lda of {self.width} values starts from one of the same kind and size"
            )
        for name, value in saved.named_buffers():
            self.get_buffer(name).copy_(value)
        self.saved_priors = saved.config.priors

    def _adapt(
        self, name: str, task: nn.Module, train: Examples, validation: Examples | None
    ) -> float:
        """Adapt the head of a task to new utterances, and return the penalty."""
        task = _require_classes(name, task)
        views = [vectors[name] for vectors in (train.vectors, *train.copies)]
        weight_n = compute_vote_weights(train.targets[name], train.votes.get(name))
        groups = train.groups or [""] * len(views[0])
        moments = ClassMoments(views, train.targets[name], weight_n, groups)
        new = moments.fit_discriminant(len(task.classes), self.config)
        bias_k = task.head.bias.detach() - compute_log_priors(task.classes, self.saved_priors)
        saved = task.head.weight.detach().double(), bias_k
        target_n, weight_n = _repeat_labels(train.targets[name], weight_n, len(views))
        has_labels = validation is not None and bool((validation.targets[name] >= 0).any())
        x_nd = torch.cat(views)
        best = (math.inf, 0.0, saved)
        for share in self._list_shares(train.targets[name], has_labels):
            start = interpolate_weights(saved, new, share)
            for penalty in self._list_penalties(has_labels):
                weights = adapt_weights(start, x_nd, target_n, weight_n, penalty)
                loss = 0.0
                if validation is not None and has_labels:
                    logit_nk = F.linear(validation.vectors[name], *weights)
                    loss = compute_least_cross_entropy(logit_nk, validation.targets[name])
                if loss < best[0]:
                    best = loss, penalty, weights
        with torch.no_grad():
            task.head.weight.copy_(best[2][0])
            task.head.bias.copy_(best[2][1] + compute_log_priors(task.classes, self.config.priors))
        return best[1]

    def _list_penalties(self, has_labels: bool) -> Sequence[float]:
        """Return the penalties to compare: the given one, or one without validation labels."""
        if self.config.adaptation_penalty:
            return (self.config.adaptation_penalty,)
        return PENALTIES if has_labels else (PENALTIES[len(PENALTIES) // 2],)

    def _list_shares(self, target_n: Tensor, has_labels: bool) -> Sequence[float]:
        """Return the shares to compare: the given one, or one without validation labels."""
        count = int((target_n >= 0).sum())
        if self.config.adaptation_share is not None:
            return (self.config.adaptation_share,)
        return SHARES if has_labels else (count / (count + SHARE_COUNT),)

    def _check_priors(self, tasks: Mapping[str, nn.Module]) -> None:
        known = {name for task in tasks.values() for name in getattr(task, "classes", ())}
        for name in self.config.priors:
            if name not in known:
                raise UnknownName("class of model.priors", name, sorted(known))

    def _fit_statistics(self, every: Sequence[Tensor]) -> None:
        count = sum(len(x_nd) for x_nd in every)
        mean_d = torch.stack([x_nd.double().sum(dim=0) for x_nd in every]).sum(dim=0) / count
        squares = [(x_nd.double() - mean_d).square().sum(dim=0) for x_nd in every]
        self.mean_d.copy_(mean_d)
        self.deviation_d.copy_((torch.stack(squares).sum(dim=0) / count).sqrt() + MIN_DEVIATION)
        self.limit.fill_(CLIP)

    def to_onnx_module(self) -> "Model":
        """Return the model itself: ONNX has all its operations."""
        return self


def _require_classes(name: str, task: nn.Module) -> ClassificationTask:
    if not isinstance(task, ClassificationTask):
        raise ConfigError(
            f"the model lda is a classifier; task {name} has no classes: use another model"
        )
    return task


def compute_log_priors(classes: Sequence[str], priors: Mapping[str, float]) -> Tensor:
    """Return the logarithm of each class's prior (K,), relative to that of classes without one."""
    return torch.tensor([math.log(priors.get(name, 1.0)) for name in classes]).double()


def interpolate_weights(
    saved: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor], share: float
) -> tuple[Tensor, Tensor]:
    """Return weights (K, D) and biases (K,) between a saved discriminant and a new one, in fp32.

    Args:
        saved: weights (K, D) and biases (K,).
        new: the same of new utterances; they are multiplied by one number that gives all weights
            the norm of the saved ones. Classes without new utterances keep the saved ones.
        share: of the new ones.
    """
    present_k = new[0].norm(dim=1) > 0
    length = float(new[0][present_k].norm())
    scale = float(saved[0][present_k].norm()) / length if length else 0.0
    share_k = (share * present_k).double()
    weight_kd = (1 - share_k[:, None]) * saved[0] + share_k[:, None] * scale * new[0]
    bias_k = (1 - share_k) * saved[1] + share_k * scale * new[1]
    return weight_kd.float(), bias_k.float()


def compute_least_cross_entropy(logit_nk: Tensor, target_n: Tensor) -> float:
    """Return the mean cross-entropy of logits (n, K) at the best of ``TEMPERATURES``."""
    return min(
        float(F.cross_entropy(logit_nk / temperature, target_n, ignore_index=-1))
        for temperature in TEMPERATURES
    )


def _repeat_labels(target_n: Tensor, weight_n: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Repeat classes and weights for recordings and their copies, which share a weight."""
    weight_n = (weight_n * (target_n >= 0)).float() / count
    return target_n.clamp(min=0).repeat(count), weight_n.repeat(count)


@torch.enable_grad()
def adapt_weights(
    start: tuple[Tensor, Tensor],
    x_nd: Tensor,
    target_n: Tensor,
    weight_n: Tensor,
    penalty: float,
) -> tuple[Tensor, Tensor]:
    """Return weights (K, D) and biases (K,) that fit utterances and are near given ones.

    Args:
        start: weights and biases to be near; a distance of the biases costs nothing.
        x_nd: vectors.
        target_n: classes.
        weight_n: weights of the utterances.
        penalty: of the squared distance from the given weights.
    """
    change_kd = torch.zeros_like(start[0], requires_grad=True)
    bias_k = start[1].clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [change_kd, bias_k], max_iter=ADAPTATION_STEPS, line_search_fn="strong_wolfe"
    )

    def compute_loss() -> Tensor:
        optimizer.zero_grad()
        logit_nk = x_nd @ (start[0] + change_kd).T + bias_k
        loss = (F.cross_entropy(logit_nk, target_n, reduction="none") * weight_n).sum()
        loss = loss + penalty * change_kd.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    if float(weight_n.sum()):
        optimizer.step(compute_loss)  # type: ignore[no-untyped-call]
    return (start[0] + change_kd).detach(), bias_k.detach()


def compute_vote_weights(target_n: Tensor, votes_nk: Tensor | None) -> Tensor:
    """Return the weight (n,) of each utterance: the share of votes for its label, or 1 without."""
    weight_n = torch.ones(len(target_n), dtype=torch.float64)
    if votes_nk is None:
        return weight_n
    has_votes_n = ~votes_nk.isnan().any(dim=1) & (target_n >= 0)
    share_n = votes_nk.gather(1, target_n.clamp(min=0)[:, None])[:, 0].double()
    return torch.where(has_votes_n, share_n, weight_n)


class ClassMoments:
    """Means and covariances of the classes of each corpus, for one task.

    Attributes:
        means: for each corpus and class, (D,).
        within_dd: W, (D, D).
        augmentation_dd: A, (D, D).
    """

    def __init__(
        self,
        views: Sequence[Tensor],
        target_n: Tensor,
        weight_n: Tensor,
        groups: Sequence[Hashable],
    ) -> None:
        """Compute the moments.

        Args:
            views: (n, D) standardized vectors of the recordings, and of each of their copies.
            target_n: (n,) classes, -1 for an utterance without a label.
            weight_n: (n,) weights of the utterances.
            groups: (n) corpora.
        """
        size = views[0].shape[1]
        self.size = size
        self.means: dict[tuple[Hashable, int], Tensor] = {}
        self.within_dd = torch.zeros(size, size, dtype=torch.float64)
        self.augmentation_dd = torch.zeros(size, size, dtype=torch.float64)
        for key, index_n in _list_cells(target_n, weight_n, groups):
            part_n = weight_n[index_n] / weight_n[index_n].sum()
            cells = [x_nd[index_n].double() for x_nd in views]
            mean_d = torch.stack([part_n @ x_nd for x_nd in cells]).mean(dim=0)
            self.means[key] = mean_d
            for x_nd in cells:
                self.within_dd += _weighted_square(x_nd - mean_d, part_n) / len(cells)
            for x_nd in cells[1:]:
                self.augmentation_dd += _weighted_square(x_nd - cells[0], part_n) / (len(cells) - 1)
        self.within_dd /= max(len(self.means), 1)
        self.augmentation_dd /= max(len(self.means), 1)

    def fit_discriminant(self, classes: int, config: Config) -> tuple[Tensor, Tensor]:
        """Return weights (K, D) and biases (K,); a class without utterances is never predicted."""
        contrasting = self._list_contrasting()
        present = sorted({c for _, c in self.means})
        means = {c: self._average_class(c, contrasting) for c in present}
        corpus_dd = torch.zeros_like(self.within_dd)
        count = max(1, sum(group in contrasting for group, _ in self.means))
        for (group, c), mean_d in self.means.items():
            is_contrasting = group in contrasting
            weight = config.corpus_weight if is_contrasting else config.single_class_weight
            corpus_dd += weight / count * torch.outer(mean_d - means[c], mean_d - means[c])
        total_dd = self.within_dd + corpus_dd + config.augmentation_weight * self.augmentation_dd
        average = float(total_dd.trace()) / self.size or 1.0
        total_dd = (1 - config.shrinkage) * total_dd
        total_dd.diagonal().add_(config.shrinkage * average)
        weight_kd = torch.zeros(classes, self.size, dtype=torch.float64)
        bias_k = torch.full((classes,), ABSENT_CLASS_LOGIT, dtype=torch.float64)
        if present:
            mean_cd = torch.stack([means[c] for c in present])
            weight_cd = torch.cholesky_solve(mean_cd.T, torch.linalg.cholesky(total_dd)).T
            weight_kd[present] = weight_cd
            bias_k[present] = -0.5 * (weight_cd * mean_cd).sum(dim=1)
        return weight_kd, bias_k

    def _list_contrasting(self) -> set[Hashable]:
        """Return the corpora with several classes; all of them if none has several."""
        classes: dict[Hashable, set[int]] = {}
        for group, c in self.means:
            classes.setdefault(group, set()).add(c)
        return {group for group, own in classes.items() if len(own) > 1} or set(classes)

    def _average_class(self, c: int, contrasting: set[Hashable]) -> Tensor:
        """Return the mean of a class over the corpora; of one that no other has, its own."""
        means = [x_d for (group, k), x_d in self.means.items() if k == c and group in contrasting]
        return torch.stack(means or [x_d for (_, k), x_d in self.means.items() if k == c]).mean(0)


def _list_cells(
    target_n: Tensor, weight_n: Tensor, groups: Sequence[Hashable]
) -> Iterator[tuple[tuple[Hashable, int], Tensor]]:
    """Yield each corpus and class with the indices of its utterances, in a fixed order."""
    members: dict[tuple[Hashable, int], list[int]] = {}
    pairs = zip(groups, target_n.tolist(), weight_n.tolist(), strict=True)
    for index, (group, c, weight) in enumerate(pairs):
        if c >= 0 and weight > 0:
            members.setdefault((group, c), []).append(index)
    for key in sorted(members, key=repr):
        yield key, torch.tensor(members[key])


def _weighted_square(x_nd: Tensor, part_n: Tensor) -> Tensor:
    """Return the weighted mean of the outer products of rows, (D, D)."""
    return (x_nd * part_n[:, None]).T @ x_nd
