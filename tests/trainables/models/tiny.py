"""Networks of the recorded cases, and what the tests of networks share."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tests.trainables.golden_cases import Arrays, packed
from trainables.config import HRDA, DAFormer, DeepLabV2, MiT, Network
from trainables.geometry import IMAGENET_MEAN, IMAGENET_STD, Box
from trainables.models.pretrained import load_segmentor_tensors, published_names
from trainables.models.segmentor import Segmentor

RECORDED = Path(__file__).resolve().parents[2] / "golden"
TINY_MIT = MiT(dims=(4, 8, 10, 16), depths=(1, 1, 2, 1), drop_path=0.0)
TINY_DAFORMER = DAFormer(encoder=TINY_MIT, embed_dim=8, channels=8, dropout=0.0)
TINY_DLV2 = DeepLabV2(layers=(1, 1, 2, 1), base_width=1, stem_width=4)
TINY_HRDA = {
    "hrda_daformer": HRDA(base=TINY_DAFORMER, detail_crop=(64, 64), attention_dim=12),
    "hrda_dlv2": HRDA(base=TINY_DLV2, detail_crop=(64, 64)),
}


def built(network: Network, classes: int = 19, seed: int = 0) -> Segmentor:
    """A network at the initial weights of a seed, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return network.build(classes).eval()


def recorded(network: Network, arrays: Arrays, group: str = "weights") -> Segmentor:
    """A network with the recorded weights, in eval mode."""
    segmentor = built(network)
    load_segmentor_tensors(segmentor, packed(arrays, group))
    return segmentor


def published_tensors(segmentor: Segmentor) -> dict[str, Tensor]:
    """A segmentor's tensors under the names of the published checkpoints."""
    state = segmentor.state_dict()
    return {group[0]: state[own] for own, group in published_names(segmentor).items()}


def normalised(image_u8: Tensor) -> Tensor:
    """[..., 3, H, W] grey levels as the networks of the recorded cases saw them."""
    centre, spread = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    return ((image_u8.double() - centre) / spread).float()


def box_of(corners: Tensor) -> Box:
    """A recorded box y1, y2, x1, x2."""
    top, bottom, left, right = corners.tolist()
    return Box(top, left, bottom - top, right - left)
