"""How a trial ends: what it keeps where pictures fail, in bf16, and where weights are no numbers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.trainables.tasks.training import smoke, train
from trainables.adaptation.augmentation import gaussian_blur
from trainables.config import Blur, Execution, Norm, Precision, SelfTraining, SmallDeepLab, SourceHoldout, SourceOnly
from trainables.running import trial
from trainables.training import Losses, State


def test_a_bf16_trial_ends_with_its_pictures_where_the_last_images_were_blurred(tmp_path: Path) -> None:
    """Images are float32 whatever was done to them: bf16 is for the network's arithmetic."""
    blurred = SelfTraining(blur=Blur(probability=1.0))
    execution = Execution(precision=Precision.BFLOAT16)
    report, final = train(replace(smoke(steps=1), adaptation=blurred, execution=execution), tmp_path)
    assert report["outcome"] == "finished"
    assert {"mixed", "source", "target", "pseudo-label", "prediction-0"} <= report["pictures"].keys()
    assert final


@pytest.mark.parametrize("adaptation", [SelfTraining(), SourceOnly(adapt_statistics=1)])
def test_a_float64_trial_is_evaluated_to_its_end(adaptation: SelfTraining | SourceOnly, tmp_path: Path) -> None:
    """Held-out source images, pseudo-labels, AdaBN's batches and pictures, too, are seen in the weights' dtype."""
    config = replace(smoke(steps=1), network=SmallDeepLab(norm=Norm.BATCH), adaptation=adaptation)
    exact = replace(config, execution=Execution(precision=Precision.FLOAT64), source_holdout=SourceHoldout(share=0.25))
    report, final = train(exact, tmp_path)
    assert (report["outcome"], report.get("notice")) == ("finished", None)
    assert "prediction-0" in report["pictures"]
    assert {value.dtype for value in final.values() if value.is_floating_point()} == {torch.float64}


def test_blur_keeps_an_images_dtype_under_autocast() -> None:
    """Of masked images and of view pairs, too, which are made within the autocast of their term."""
    image, sigma = torch.randn(2, 3, 32, 64), torch.tensor([0.5, 1.0])
    plain = gaussian_blur(image, sigma, reach=5.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(gaussian_blur(image, sigma, reach=5.0), plain)


def test_pictures_that_cannot_be_made_cost_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial is finished, with its final weights and a sentence."""

    def fails(*_: object) -> None:
        raise TypeError("no such pixel\nin any picture")

    monkeypatch.setattr(trial, "save_pictures", fails)
    report, final = train(smoke(steps=1), tmp_path)
    assert report["outcome"] == "finished"
    assert report["metrics"]["student/miou"] >= 0
    assert report["pictures"] == {}
    assert report["notice"] == (
        "The trial's pictures could not be made (TypeError: no such pixel); its results are whole."
    )
    assert final


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_weights_that_the_last_step_spoils_are_the_outcome_diverged(
    network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its losses were finite, and argmax would find a class in NaN: no mIoU, and no final weights."""
    take_step = trial.self_training_step

    def spoils(state: State, *batches: Any) -> Losses:
        losses = take_step(state, *batches)
        of = state.student if network == "student" else state.teacher.network  # type: ignore[union-attr]
        with torch.no_grad():
            next(of.parameters()).fill_(math.nan if network == "student" else math.inf)
        return losses

    monkeypatch.setattr(trial, "self_training_step", spoils)
    report, final = train(smoke(steps=1), tmp_path)
    assert report["outcome"] == "diverged"
    assert report["error"] == f"a weight of the {network} is not a finite number in the block that ends at step 1."
    assert all(math.isfinite(value) for value in report["metrics"].values())
    assert not final
