"""Statistics of the features of each class over a run, and losses against them. N cells, C classes, A channels."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ClassStatistics(nn.Module):
    """Running sums over all cells ever seen, without forgetting, and the means of each class in the latest steps.

    All of it is in the checkpoint. A bank begins with a vector of zeros, as the reference's does; a class that was
    never seen has mean 0.

    Args:
        classes: C.
        dim: A.
        bank_steps: Steps that a bank holds, the vector of zeros counted.
    """

    count: Tensor  # [C], float64
    total: Tensor  # [C, A]
    squares: Tensor  # [C, A]
    bank: Tensor  # [C, bank_steps, A], the newest last
    filled: Tensor  # [C], int64: rows of a bank that hold something, its last ones

    def __init__(self, classes: int, dim: int, bank_steps: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(classes, dtype=torch.float64))
        self.register_buffer("total", torch.zeros(classes, dim, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(classes, dim, dtype=torch.float64))
        self.register_buffer("bank", torch.zeros(classes, bank_steps, dim, dtype=torch.float64))
        self.register_buffer("filled", torch.ones(classes, dtype=torch.int64))

    def _apply(self, fn: object, recurse: bool = True) -> ClassStatistics:
        """Move with the task, and stay in float64."""
        assert callable(fn)
        for name, buffer in list(self._buffers.items()):
            assert buffer is not None
            self._buffers[name] = buffer.to(fn(buffer).device)
        return self

    @torch.no_grad()
    def add(self, features: Tensor, label: Tensor) -> None:
        """Count a step's cells.

        Args:
            features: [N, A].
            label: [N], 0 to C - 1.
        """
        given, chosen = features.double(), F.one_hot(label, len(self.count)).double()
        count, total = chosen.sum(dim=0), chosen.T @ given
        self.count += count
        self.total += total
        self.squares += chosen.T @ given.square()
        seen = (count > 0).view(-1, 1, 1)
        newest = (total / count.clamp(min=1).unsqueeze(1)).unsqueeze(1)
        self.bank.copy_(torch.where(seen, torch.cat([self.bank[:, 1:], newest], dim=1), self.bank))
        self.filled.copy_((self.filled + (count > 0)).clamp(max=self.bank.shape[1]))

    def mean(self) -> Tensor:
        """[C, A]."""
        return self.total / self.count.clamp(min=1).unsqueeze(1)

    def variance(self) -> Tensor:
        """Of each channel, [C, A]."""
        return self.squares / self.count.clamp(min=1).unsqueeze(1) - self.mean().square()

    def held(self) -> Tensor:
        """Which rows of the banks hold something, [C, bank_steps], bool."""
        steps = self.bank.shape[1]
        return torch.arange(steps, device=self.bank.device) >= steps - self.filled.unsqueeze(1)


def prototype_loss(features: Tensor, label: Tensor, mean: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of the cells' products with class means.

    Args:
        features: Unit vectors [N, A].
        label: [N].
        mean: [C, A].
    """
    return F.cross_entropy(features @ mean.T / temperature, label)


def distribution_loss(features: Tensor, label: Tensor, mean: Tensor, variance: Tensor, temperature: float) -> Tensor:
    """The bound of the expected cross-entropy over normally distributed members of each class.

    Args:
        features: Unit vectors [N, A].
        label: [N].
        mean, variance: [C, A].
    """
    spread = features.square() @ variance.T / (2 * temperature**2)
    own = spread.gather(1, label.unsqueeze(1)).mean()
    return F.cross_entropy(features @ mean.T / temperature + spread, label) + own


def bank_loss(features: Tensor, label: Tensor, bank: Tensor, held: Tensor, temperature: float) -> Tensor:
    """Contrast with each member of the own bank against the mean products with the others.

    Args:
        features: Unit vectors [N, A].
        label: [N].
        bank: [C, M, A].
        held: Which members there are, [C, M].
    """
    scores = features @ bank_mean(bank, held).T / temperature
    own = F.one_hot(label, len(bank)).bool()
    others = scores.masked_fill(own, -torch.inf).logsumexp(dim=1)
    each = torch.zeros_like(others)
    for one in label.unique().tolist():
        cells = label == one
        similar = features[cells] @ bank[one][held[one]].T / temperature
        each[cells] = F.softplus(others[cells].unsqueeze(1) - similar).mean(dim=1)
    return each.mean()


def bank_mean(bank: Tensor, held: Tensor) -> Tensor:
    """Mean of what each bank holds: [C, M, A] -> [C, A]."""
    return (bank * held.unsqueeze(2)).sum(dim=1) / held.sum(dim=1, keepdim=True)


def diversity(features: Tensor, mean: Tensor, temperature: float) -> Tensor:
    """The regulariser: log-probabilities of the mean feature under all classes, over C ln C."""
    classes = len(mean)
    return (features.mean(dim=0) @ mean.T / temperature).log_softmax(dim=0).sum() / (classes * math.log(classes))
