"""What surrounds an iteration is the reference's: groups of parameters, EMA weights, valid rectangles, accuracies."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainables.golden_cases import RECORDED, read, tensor
from tests.trainables.models.tiny import TINY_DAFORMER, TINY_DLV2, TINY_MIT, built
from trainables.adaptation.pseudo_label import label_logits
from trainables.adaptation.teacher import Teacher
from trainables.config import AdamW, Margins, Network
from trainables.data.crops import Crop, valid_box
from trainables.evaluation import ConfusionMatrix, scores
from trainables.geometry import Box
from trainables.models.pretrained import published_names
from trainables.optimization import build_optimizer, parameter_groups


@pytest.fixture(scope="module")
def hooks() -> dict[str, Any]:
    """Recorded learning rates, EMA weights and groups of parameters."""
    content: dict[str, Any] = json.loads((RECORDED / "lr_schedule.json").read_text())
    return content


@pytest.mark.parametrize(
    ("name", "network", "optimizer"),
    [
        ("mit_daformer", replace(TINY_DAFORMER, encoder=replace(TINY_MIT, depths=(1, 1, 1, 1))), AdamW()),
        ("resnet_dlv2", replace(TINY_DLV2, base_width=2), AdamW(decay_norms=True)),
    ],
)
def test_every_parameter_has_the_references_rate_and_decay(
    hooks: dict[str, Any], name: str, network: Network, optimizer: AdamW
) -> None:
    """Tensor by tensor under the published names: the decoder ten times as fast, MiT's norms without decay."""
    segmentor = built(network)
    found = {}
    groups = build_optimizer(parameter_groups(segmentor, [], optimizer), optimizer).param_groups
    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    names = published_names(segmentor)
    for own, parameter in segmentor.named_parameters():
        group = group_of[id(parameter)]
        found[names[own][0]] = {"lr": pytest.approx(group["lr"]), "weight_decay": group["weight_decay"]}
    assert found == hooks["parameter_groups_base_6e_5"][name]
    assert len(groups) <= 3


@pytest.mark.parametrize(("key", "momentum"), [("alpha_0_99", 0.99), ("alpha_0_999", 0.999)])
def test_the_weight_of_the_average_is_the_references(hooks: dict[str, Any], key: str, momentum: float) -> None:
    """alpha of each recorded iteration, read off a teacher of 1 that follows a student of 0."""
    student = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(student.weight)
    for step, wanted in zip(hooks["ema_alpha"]["iterations"], hooks["ema_alpha"][key], strict=True):
        teacher = Teacher(student, momentum)  # type: ignore[arg-type]
        teacher.follow(nn.Linear(1, 1, bias=False).double().requires_grad_(False).apply(_zero), step)  # type: ignore[arg-type]
        assert float(next(teacher.network.parameters())) == pytest.approx(wanted, rel=1e-14), step


def _zero(module: nn.Module) -> None:
    for parameter in module.parameters():
        parameter.zero_()


def test_the_first_iteration_copies_bit_for_bit() -> None:
    """alpha is 0 at step 0, whatever the teacher was."""
    student, other = (nn.Linear(7, 5) for _ in range(2))
    teacher = Teacher(other, 0.999)  # type: ignore[arg-type]
    teacher.follow(student, 0)  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(teacher.network.parameters(), student.parameters(), strict=True))


def test_the_valid_rectangle_of_a_crop_is_the_references() -> None:
    """Margins of HRDA and MIC, followed through resize, crop and flip."""
    data = read(RECORDED / "pseudo_label.npz")
    margins, seen = Margins(top=30, bottom=240, left=30, right=30, of_size=(1024, 2048)), 0
    for key in data:
        found = re.fullmatch(r"crop_aware/resize(\d+)x(\d+)_crop(\d+)_offset(\d+)_(\d+)(_flipped)?_valid_y0y1x0x1", key)
        if found is None:
            continue
        columns, rows, crop, top, left = (int(part) for part in found.groups()[:5])
        window = Crop(Box(top, left, crop, crop), found[6] is not None)
        box = valid_box(margins, (1024, 2048), (rows, columns), window)
        assert [box.top, box.top + box.height, box.left, box.left + box.width] == data[key].tolist(), key
        seen += 1
    assert seen == 8


def test_weights_under_a_valid_mask_are_the_references() -> None:
    """q inside each image's rectangle, 0 outside."""
    data = read(RECORDED / "pseudo_label.npz")
    boxes = []
    for mask in data["valid_mask"]:
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert mask.sum() == len(rows) * len(columns)
        boxes.append(Box(int(rows[0]), int(columns[0]), len(rows), len(columns)))
    weight = label_logits(tensor(data["logits"]), 0.968, None, tuple(boxes)).weight
    assert torch.equal(weight, tensor(data["weight_valid_mask"]))


def test_the_accuracy_of_every_class_is_the_references() -> None:
    """The share of a class's labelled pixels that are right, from the confusion matrix; NaN where it has none."""
    data = read(RECORDED / "evaluation.npz")
    matrix = ConfusionMatrix(19, torch.device("cpu"))
    for prediction, label in zip(data["prediction"], data["label"], strict=True):
        matrix.add(tensor(label).long(), tensor(prediction).long())
    confusion = scores(matrix.counts).confusion.double()
    torch.testing.assert_close(confusion.diag() / confusion.sum(dim=1), tensor(data["class_accuracy"]).double(),
                               rtol=0, atol=1e-12, equal_nan=True)  # fmt: skip
