"""The ablations of the paper's second version: what they train, and what is not printed as the paper's."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from search_spaces.table_mrm import STUDIES, Architecture, architecture
from trainables.config import HRDA, DAFormer, DeepLabV2, Experiment
from trainables.program import Segmentation
from trainables.recipes import PAPER, SMOKE, mfm

PROFILES = tuple(STUDIES)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_default_alone_has_a_number_of_the_papers(profile: str) -> None:
    """55.9 in three tables, whose row is one config; what is known second-hand is no number of the paper's."""
    study = STUDIES[profile]
    printed = [cell for cell in study.cells() if cell.paper is not None]
    assert [cell.table for cell in printed] == ["mrm-domain", "mrm-trains", "mrm-rate"]
    assert {cell.paper for cell in printed} == {55.9}
    assert {cell.config_id for cell in printed} == {study.reference_ids["MFM"]}


def test_the_second_rate_is_higher_by_the_same_factor_at_each_scale() -> None:
    """6e-5 is the encoder's own rate at the paper's scale, and 2e-4 is written out."""
    cells = {profile: STUDIES[profile].cells_of(STUDIES[profile].tables[2]) for profile in PROFILES}
    trained = {profile: [cell.trained for cell in of] for profile, of in cells.items()}
    assert trained["paper"] == ["6.0e-05", "2.0e-04"]
    assert trained["mini"] == ["1.0e-03", "3.3e-03"]


def encoder_millions(config: Experiment) -> float:
    """Parameters of the encoder, in millions."""
    network = config.network.base if isinstance(config.network, HRDA) else config.network
    assert isinstance(network, DeepLabV2 | DAFormer)
    with torch.device("meta"):
        encoder = network.parts.encoder.build()
    return round(sum(p.numel() for p in encoder.parameters()) / 1e6, 1)


def test_the_papers_architectures_are_the_published_ones() -> None:
    """By the parameters of their encoders, and by the weights that must be given."""
    published = {Architecture.RESNET50: 23.5, Architecture.MIT_B2: 24.2, Architecture.MIT_B3: 44.1}
    assert {which: encoder_millions(architecture(PAPER, which)) for which in published} == published
    weights = {"resnet50-v1c", "resnet101-v1c", "mit-b2", "mit-b3"}
    assert set(STUDIES["paper"].needs) == {"gta", "cityscapes", *weights}


@pytest.mark.parametrize("which", Architecture, ids=lambda which: which.name)
def test_every_architecture_trains_with_mfm_at_smoke(which: Architecture, tmp_path: Path) -> None:
    """One step from random weights, at which every pseudo-label counts (a random teacher is sure of nothing)."""
    config = architecture(replace(SMOKE, threshold=0.0), which, mfm(SMOKE))
    config = replace(config, initial=None, schedule=replace(config.schedule, steps=1))
    trial = Segmentation().open(config, seed=0, folder=str(tmp_path / "t"), shared=str(tmp_path / "s"), data={})
    report = trial.advance()
    trial.close()
    assert report["outcome"] == "finished"
    assert report["metrics"]["loss/mfm"] > 0
