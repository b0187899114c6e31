"""Encoders of today: what the published rows are, and that each row trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from search_spaces.encoders import STUDIES, Family, dacs_row, vfm_row
from trainables.config import Mfm, Pretrained
from trainables.program import Segmentation
from trainables.recipes import PAPER, SMOKE

ROWS = {"dacs": dacs_row, "vfm-uda": vfm_row}


@pytest.mark.parametrize("recipe", ROWS)
@pytest.mark.parametrize("family", Family, ids=lambda family: family.name)
@pytest.mark.parametrize("added", [False, True], ids=["plain", "mfm"])
def test_every_row_trains_a_step_at_smoke(recipe: str, family: Family, added: bool, tmp_path: Path) -> None:
    """From random weights, scored, with a loss of each of its tasks; every pseudo-label counts."""
    config = ROWS[recipe](replace(SMOKE, threshold=0.0), (family, added))
    config = replace(config, initial=None, schedule=replace(config.schedule, steps=1))
    trial = Segmentation().open(config, seed=0, folder=str(tmp_path / "t"), shared=str(tmp_path / "s"), data={})
    report = trial.advance()
    trial.close()
    assert report["outcome"] == "finished"
    assert (report["metrics"].get("loss/mfm", 0) > 0) is added
    assert {"loss/masked_consistency", "loss/feature_distance"} <= set(report["metrics"]) or recipe == "dacs"


@pytest.mark.parametrize("profile", STUDIES)
def test_a_row_with_mfm_is_compared_with_the_same_row_without(profile: str) -> None:
    """Two families and two recipes; the grid is the positions of the last stage at stride 32."""
    cells = list(STUDIES[profile].cells())
    assert len({cell.config_id for cell in cells}) == len(cells) == 8
    for cell in cells:
        tasks = [task for task in cell.config.auxiliary if not isinstance(task, Mfm)]
        if cell.config.mfm is not None:
            assert cell.against_config == replace(cell.config, auxiliary=tuple(tasks))
            rows, columns = cell.config.data.training_size
            assert cell.config.mfm.grid == (rows // 32, columns // 32)


def test_the_papers_scale_has_published_weights_and_the_recipes_batch_and_rates() -> None:
    """8 + 8 images, 1.41e-4 for the decoder, the encoder a tenth of it; weights by name, not by --data."""
    config = vfm_row(PAPER, (Family.DINOV2, True))
    assert isinstance(config.initial, Pretrained)
    assert config.batch_size == 8
    assert config.data.training_size == (1024, 1024)
    assert config.optimizer.learning_rate * config.optimizer.head_factor == pytest.approx(1.41e-4)  # type: ignore[union-attr]
    assert STUDIES["paper"].needs == ("gta", "cityscapes")
    names = {each.name for each in Segmentation().weights([cell.config for cell in STUDIES["paper"].cells()])}
    assert names == {"convnext_base.fb_in22k", "vit_base_patch14_dinov2.lvd142m"}
