"""BatchNorm whose statistics and affine parameters stay as they are, in student and teacher and in every pass."""

from __future__ import annotations

from torch import nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def freeze_norms(module: nn.Module) -> None:
    """Fix the affine parameters of all BatchNorm layers; names and contents of the state stay what they were."""
    for layer in module.modules():
        if isinstance(layer, BATCH_NORMS):
            layer.requires_grad_(False)
    hold_norms(module)


def moving_norms(module: nn.Module) -> list[BatchNorm]:
    """BatchNorm layers whose statistics move, of a module in training mode: frozen ones are in evaluation mode."""
    return [layer for layer in module.modules() if isinstance(layer, BATCH_NORMS) and layer.training]


def hold_norms(module: nn.Module) -> None:
    """Put all BatchNorm layers into evaluation mode, where they normalise by their running statistics."""
    for layer in module.modules():
        if isinstance(layer, BATCH_NORMS):
            layer.eval()
