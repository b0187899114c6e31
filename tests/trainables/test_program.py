"""What a trial says of itself beforehand is what its reports hold."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.trainables.trained import tiny
from trainables.config import (
    Experiment,
    MfmInput,
    PackedPair,
    RealPhotographs,
    SourceDataset,
    SourceOnly,
    SourceStyle,
    TargetDataset,
    ToyCity,
)
from trainables.data.classes import CAMVID_CLASSES, CITYSCAPES_CLASSES, TOY_CITY_CLASSES
from trainables.program import Segmentation
from trainables.recipes import SMOKE, dacs, mfm, oracle, source_only, with_selection_criteria
from trainables.running.trial import Trial

DIORAMA = replace(dacs(SMOKE, mfm(SMOKE)), data=ToyCity(source=SourceStyle.DIORAMA))


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(with_selection_criteria(dacs(SMOKE, mfm(SMOKE))), id="all criteria"),
        pytest.param(DIORAMA, id="a source that lacks classes"),
        pytest.param(with_selection_criteria(source_only(SMOKE)), id="no teacher"),
        pytest.param(oracle(SMOKE), id="oracle"),
    ],
)
def test_the_metrics_of_a_config_are_those_that_its_trial_reports(config: Experiment, tmp_path: Path) -> None:
    """All of them and no other; losses are named by their terms, pseudo-labels by their classes."""
    chosen = tiny(config)
    trial = Trial(chosen, seed=0, folder=str(tmp_path / "trial"), shared=str(tmp_path), data={})
    report = trial.advance()
    trial.close()
    assert report["outcome"] == "finished"
    told = Segmentation().metrics(chosen)
    named = {key for key in report["metrics"] if key.startswith(("loss/", "pseudo_label/"))}
    assert named
    assert {f"{key.partition('/')[0]}/" for key in named} == {key for key in told if key.endswith("/")}
    assert set(report["metrics"]) - named == {key for key in told if not key.endswith("/")}
    assert tuple(report["confusion"]) == tuple(dict.fromkeys(key.split("/")[0] for key in told if "/iou/" in key))


@pytest.mark.parametrize(
    ("data", "classes", "means"),
    [
        (ToyCity(), TOY_CITY_CLASSES, set()),
        (ToyCity(source=SourceStyle.DIORAMA), TOY_CITY_CLASSES, {"miou10"}),
        (PackedPair(), CITYSCAPES_CLASSES, set()),
        (PackedPair(source=SourceDataset.SYNTHIA), CITYSCAPES_CLASSES, {"miou16", "miou13"}),
        (PackedPair(target=TargetDataset.CAMVID), CAMVID_CLASSES, {"miou8"}),
        (RealPhotographs(), CAMVID_CLASSES, {"miou8"}),
    ],
)
def test_classes_and_means_of_each_benchmark(data: ToyCity, classes: tuple[str, ...], means: set[str]) -> None:
    """The classes of the confusion matrix, and a mean for each subset that the field prints."""
    config = replace(source_only(SMOKE), data=data, adaptation=SourceOnly())
    assert Segmentation().class_names(config) == classes
    told = set(Segmentation().metrics(config))
    assert {key.removeprefix("student/") for key in told if key.startswith("student/miou")} - {"miou"} == means
    assert {f"student/iou/{name}" for name in classes} == {key for key in told if key.startswith("student/iou/")}


def test_a_config_of_another_kind_is_one_sentence() -> None:
    """The platform hands over what a search space made."""
    with pytest.raises(ValueError, match=r"^Segmentation trains an Experiment, got ToyCity\.$"):
        Segmentation().planned_steps(ToyCity())  # type: ignore[arg-type]


def test_mfm_that_takes_other_passes_has_its_own_cost_class() -> None:
    """None of its own on the shared pass, two for both domains; the other images cost what the target costs."""
    of = {reading: Segmentation().cost_class(dacs(SMOKE, replace(mfm(SMOKE), input=reading))) for reading in MfmInput}
    assert of[MfmInput.MIXED_SHARED] == f"{of[MfmInput.TARGET]}".replace(", batch", " + of mixed, shared pass, batch")
    assert len({of[MfmInput.MIXED_SHARED], of[MfmInput.BOTH], of[MfmInput.TARGET]}) == 3
    assert len(set(of.values())) == 3
