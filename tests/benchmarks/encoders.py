"""Which encoders of timm train under which heads: one of each family, at an even and at an odd size, random weights.

python -m tests.benchmarks.encoders                       every family: tens of minutes on one core
python -m tests.benchmarks.encoders --only swin convnext  those whose module's name has one of these words

Of each encoder and head: forward, backward and optimiser step on two images, then evaluation, at 64x128 and at 97x131,
then an export and its reload, whose logits are the same to the last bit. A family that does not work is shown with the
sentence that refuses it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import timm
import torch

from tests.trainables.models.encoder_walk import HEADS, SIZES, evaluate, reload, train_step, under
from trainables.config import Timm
from trainables.experiment.kinds import HeadSettings
from trainables.models.timm_encoder import TimmEncoder

# Of each of timm's modules a small architecture.
FAMILIES = {
    "beit": "beit_base_patch16_224",
    "byoanet": "halonet_h1",
    "byobnet": "mobileone_s0",
    "cait": "cait_xxs24_224",
    "coat": "coat_tiny",
    "convit": "convit_tiny",
    "convmixer": "convmixer_768_32",
    "convnext": "convnext_atto",
    "cpubone": "cpubone_nano",
    "crossvit": "crossvit_tiny_240",
    "csatv2": "csatv2",
    "cspnet": "darknet17",
    "cspnext": "cspnext_tiny",
    "davit": "davit_tiny",
    "deepseek_vit": "deepseek_vit_412m",
    "deit": "deit_tiny_patch16_224",
    "densenet": "densenet121",
    "dla": "dla34",
    "dpn": "dpn68",
    "edgenext": "edgenext_x_small",
    "efficientformer": "efficientformer_l1",
    "efficientformer_v2": "efficientformerv2_s0",
    "efficientnet": "efficientnet_lite0",
    "efficientvim": "efficientvim_m1",
    "efficientvit_mit": "efficientvit_b0",
    "efficientvit_msra": "efficientvit_m0",
    "eva": "eva02_tiny_patch14_224",
    "fasternet": "fasternet_t0",
    "fastvit": "fastvit_t8",
    "focalnet": "focalnet_tiny_srf",
    "gcvit": "gcvit_xtiny",
    "gemma4_vit": "gemma4_vit_167m",
    "ghostnet": "ghostnet_050",
    "hardcorenas": "hardcorenas_b",
    "hgnet": "hgnetv2_b0",
    "hiera": "hiera_tiny_224",
    "hieradet_sam2": "sam2_hiera_tiny",
    "hrnet": "hrnet_w18_small",
    "iformer": "iformer_t",
    "inception_next": "inception_next_atto",
    "inception_resnet_v2": "inception_resnet_v2",
    "inception_v3": "inception_v3",
    "inception_v4": "inception_v4",
    "lcnetv2": "lcnetv2_small",
    "levit": "levit_128",
    "lowformer": "lowformer_b0",
    "mambaout": "mambaout_femto",
    "maxxvit": "maxvit_base_tf_224",
    "metaformer": "caformer_s18",
    "mlp_mixer": "gmlp_ti16_224",
    "mobilenetv3 (v4)": "mobilenetv4_conv_small",
    "mobilenetv3": "mobilenetv3_small_050",
    "mobilenetv5": "mobilenetv5_base",
    "mobilevit": "mobilevit_xxs",
    "mvitv2": "mvitv2_tiny",
    "naflexvit": "naflexvit_base_patch16_gap",
    "nasnet": "nasnetalarge",
    "nest": "nest_tiny",
    "nextvit": "nextvit_small",
    "nfnet": "nf_regnet_b0",
    "pit": "pit_ti_224",
    "pnasnet": "pnasnet5large",
    "pvt_v2": "pvt_v2_b0",
    "qwen3_vit": "qwen3_vit_88m",
    "rdnet": "rdnet_tiny",
    "regnet": "regnetx_004_tv",
    "repghost": "repghostnet_050",
    "repvit": "repvit_m1",
    "res2net": "res2next50",
    "resnest": "resnest14d",
    "resnet": "resnet18",
    "resnetv2": "resnetv2_18",
    "rexnet": "rexnet_100",
    "selecsls": "selecsls42",
    "senet": "legacy_seresnet18",
    "sequencer": "sequencer2d_s",
    "shvit": "shvit_s1",
    "sknet": "skresnet18",
    "starnet": "starnet_s050",
    "swiftformer": "swiftformer_xs",
    "swin_transformer": "swin_tiny_patch4_window7_224",
    "swin_transformer_v2": "swinv2_tiny_window8_256",
    "swin_transformer_v2_cr": "swinv2_cr_tiny_224",
    "tiny_vit": "tiny_vit_5m_224",
    "tnt": "tnt_s_legacy_patch16_224",
    "tresnet": "tresnet_m",
    "twins": "twins_svt_small",
    "vgg": "vgg11_bn",
    "visformer": "visformer_tiny",
    "vision_transformer (DINOv2)": "vit_small_patch14_dinov2",
    "vision_transformer (DINOv3)": "vit_small_patch16_dinov3",
    "vision_transformer": "vit_tiny_patch16_224",
    "vision_transformer_hybrid": "vit_tiny_r_s16_p8_224",
    "vision_transformer_relpos": "vit_srelpos_small_patch16_224",
    "vision_transformer_sam": "samvit_base_patch16",
    "vitamin": "vitamin_small_224",
    "volo": "volo_d1_224",
    "vovnet": "vovnet39a",
    "xception": "legacy_xception",
    "xception_aligned": "xception41",
    "xcit": "xcit_nano_12_p8_224",
}


def under_head(encoder: TimmEncoder, settings: Timm, head: HeadSettings) -> str:
    """`yes` where it trained, evaluated and came back from an export, else what went wrong."""
    try:
        segmentor = under(encoder, head)
        for size in SIZES:
            train_step(segmentor, size)
            logits = evaluate(segmentor, size)
        with tempfile.TemporaryDirectory() as folder:
            again = reload(settings, head, segmentor, Path(folder))
    except Exception as error:  # goes into the table, and on with the next
        return _first_line(error)
    return "yes" if torch.equal(evaluate(again, SIZES[-1]), logits) else "other logits after an export"


def row(family: str, name: str) -> str:
    """A family's line of the table."""
    torch.manual_seed(0)
    settings = Timm(name)
    try:
        encoder = settings.build()
    except ValueError as error:
        return f"| {family} | `{name}` | | {error} |{' |' * len(HEADS)}"
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    stages = ", ".join(f"{c}/{s}" for c, s in zip(encoder.channels, encoder.strides, strict=True))
    found = " | ".join(under_head(encoder, settings, head) for head in HEADS.values())
    return f"| {family} | `{name}` | {parameters / 1e6:.1f} M | {stages} | {found} |"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0].replace("|", "/")


def heading() -> str:
    """The table's first lines."""
    return (
        f"| family (timm {timm.__version__}) | encoder | parameters | channels/stride of the stages "
        f"| {' | '.join(HEADS)} |\n|---|---|---:|---|{'---|' * len(HEADS)}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table, line by line as it is found."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.encoders", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--only", nargs="+", default=[""], metavar="WORD", help="families whose names have one of these"
    )
    given = parser.parse_args(argv)
    print(heading(), flush=True)
    for family, name in FAMILIES.items():
        if any(word in family for word in given.only):
            started = time.perf_counter()
            print(row(family, name), flush=True)
            print(f"{name}: {time.perf_counter() - started:.0f} s", file=sys.stderr, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
