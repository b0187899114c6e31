"""How a trial ends: what it keeps where pictures fail, in bf16, and where weights are no numbers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainables.tasks.training import smoke, train
from trainables.adaptation.augmentation import gaussian_blur
from trainables.config import Blur, Execution, Precision, SelfTraining
from trainables.running import trial


def test_a_bf16_trial_ends_with_its_pictures_where_the_last_images_were_blurred(tmp_path: Path) -> None:
    """Images are float32 whatever was done to them: bf16 is for the network's arithmetic."""
    blurred = SelfTraining(blur=Blur(probability=1.0))
    execution = Execution(precision=Precision.BFLOAT16)
    report, final = train(replace(smoke(steps=1), adaptation=blurred, execution=execution), tmp_path)
    assert report["outcome"] == "finished"
    assert {"mixed", "source", "target", "pseudo-label", "prediction-0"} <= report["pictures"].keys()
    assert final


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
