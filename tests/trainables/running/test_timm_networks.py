"""Whole trials of networks with an encoder of timm."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainables.tasks.training import smoke, train
from trainables.config import HRDA, DAFormerHead, Execution, Network, Norm, Segmenter, SummingHead, Timm
from trainables.export import model_of
from trainables.recipes import SMOKE, mfm

HEAD = DAFormerHead(embed_dim=8, channels=8, rates=(1, 2))
NETWORKS = {
    "frozen norms": Segmenter(encoder=Timm("mobilenetv3_small_050", norm=Norm.FROZEN), head=SummingHead(channels=8)),
    "plain ViT": Segmenter(encoder=Timm("vit_tiny_patch16_224", blocks=(1,), layer_decay=0.9), head=HEAD),
    "HRDA": HRDA(
        base=Segmenter(encoder=Timm("mobilenetv4_conv_small_050"), head=HEAD), detail_crop=(32, 32), attention_dim=8
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_trial_with_masked_feature_modeling_ends_in_a_model(name: str, tmp_path: Path) -> None:
    """DACS + MFM, then the export of its last checkpoint, which predicts at an image's size."""
    network: Network = NETWORKS[name]
    config = smoke(mfm(SMOKE), steps=2)
    config = replace(
        config,
        network=network,
        data=replace(config.data, image_size=(64, 64)),
        execution=Execution(checkpointing=name == "plain ViT"),
    )
    report, student = train(config, tmp_path)
    assert report["outcome"] == "finished"
    assert "loss/mfm" in report["metrics"]
    model = model_of(tmp_path / "trial")
    assert model.description.network == network
    weights = model.segmentor.state_dict()
    assert all(torch.equal(tensor, weights[key]) for key, tensor in student.items())
    logits = model.segmentor.predict(torch.randn(1, 3, 64, 64))
    assert logits.shape == (1, len(model.description.classes), 64, 64)
