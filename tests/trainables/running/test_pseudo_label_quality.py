"""Precision and coverage of pseudo-labels, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
import torch
from torch import nn

from tests.trainables.tasks.training import CPU, FEW
from trainables.data.domains import Domains, open_domains
from trainables.data.packing.manifest import StoreError
from trainables.models.segmentor import Segmentor
from trainables.recipes import SMOKE, dacs
from trainables.running.pseudo_label_quality import PseudoLabelQuality
from trainables.step_data import Batch

SURE, UNSURE = 20.0, 1.0  # logits over 0 of the other classes


class Teacher(nn.Module):
    """Finds logits in the image."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        return image.clone()


class Labelled:
    """Four pixels: sure and right, sure and wrong, sure without a label, unsure; the last alone is called car."""

    classes = ("road", "car", "sky")

    def labelled_sample(self, streams: object, count: int) -> Batch | None:
        image = torch.zeros(count, 3, 1, 4)
        image[:, 0, 0, :3], image[:, 1, 0, 3] = SURE, UNSURE
        label = torch.tensor([[[0, 1, 255, 1]]]).expand(count, 1, 4)
        return Batch(image, label, None)


class Unlabelled(Labelled):
    def labelled_sample(self, streams: object, count: int) -> None:
        return None


def test_precision_and_coverage_are_those_of_confident_pixels_with_a_label() -> None:
    teacher = Teacher().train()
    measured = PseudoLabelQuality(cast(Domains, Labelled()), 0.9, 4)(cast(Segmentor, teacher))
    assert measured["pseudo_label/coverage"] == 75
    assert measured["pseudo_label/precision"] == 50  # the pixel without a label counts for neither side
    assert (measured["pseudo_label/coverage/road"], measured["pseudo_label/precision/road"]) == (100, 50)
    assert measured["pseudo_label/coverage/car"] == 0
    assert not {"pseudo_label/precision/car", "pseudo_label/coverage/sky"} & measured.keys()


def test_the_same_crops_are_measured_whatever_the_batch_size() -> None:
    """Of ToyCity, by a teacher that finds a class in each colour: one crop at once, a few, more than there are."""
    domains = open_domains(replace(dacs(SMOKE), data=FEW), {}, CPU)
    measured = [PseudoLabelQuality(domains, 0.6, size)(cast(Segmentor, Teacher())) for size in (1, 3, 64)]
    assert len(measured[0]) > 5
    assert measured[0] == measured[1] == measured[2]


def test_nothing_is_measured_without_labels_of_the_targets_training_images() -> None:
    assert PseudoLabelQuality(cast(Domains, Unlabelled()), 0.9, 4)(cast(Segmentor, Teacher())) == {}


def test_labels_that_cannot_be_read_are_not_taken_for_none() -> None:
    """A damaged store says so, instead of a trial without the measure."""

    class Damaged(Labelled):
        def labelled_sample(self, streams: object, count: int) -> Batch:
            raise StoreError("labels-0.arrow is damaged; make the store again.")

    with pytest.raises(StoreError, match="damaged"):
        PseudoLabelQuality(cast(Domains, Damaged()), 0.9, 4)
