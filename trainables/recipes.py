"""Complete configs as functions: one a baseline, at each scale. Imports no torch.

A recipe is taken at a scale of `trainables.experiment.scales`, which is imported from here, too.

Sources: DACS as the DAFormer family re-implements it (AdamW, 40,000 steps), DAFormer (Hoyer et al., CVPR 2022), HRDA
(ECCV 2022) and MIC (CVPR 2023) as their published code configures them, the paper's "Implementation details" for MFM,
and for the embedded benchmark the settings at which its gaps were measured (see docs/results.md).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from trainables.config import (
    HRDA,
    SGD,
    ClassModel,
    ColourJitter,
    Experiment,
    FeatureDistance,
    ImageNetWeights,
    Margins,
    MaskedConsistency,
    Mfm,
    Objective,
    PhotoMetricDistortion,
    QuadMix,
    RareClassSampling,
    Rebuilder,
    SegFormer,
    SelectionCriteria,
    SelfTraining,
    SourceHoldout,
    SourceOnly,
    TargetSupervised,
)
from trainables.experiment.scales import (
    MIDI,
    MINI,
    OVER_SEEDS,
    PAPER,
    PAPER_DIM,
    SCALES,
    SMOKE,
    DAFormerScale,
    PiPaScale,
    Scale,
    SePiCoScale,
    at_each_scale,
)
from trainables.experiment.variants import daformer_scale, from_synthia, pipa_scale, sepico_scale, with_batch_norm

__all__ = [
    "ABOUT",
    "MIDI",
    "MINI",
    "OVER_SEEDS",
    "PAPER",
    "PAPER_DIM",
    "SCALES",
    "SMOKE",
    "DAFormerScale",
    "PiPaScale",
    "Scale",
    "SePiCoScale",
    "at_each_scale",
    "dacs",
    "dacs_mfm",
    "daformer",
    "from_synthia",
    "hrda",
    "longer",
    "mfm",
    "mic",
    "needs_of",
    "oracle",
    "original_dacs",
    "pipa",
    "pipa_control",
    "pipa_hrda",
    "pipa_scale",
    "quadmix",
    "segformer",
    "sepico",
    "sepico_control",
    "sepico_scale",
    "source_only",
    "with_batch_norm",
    "with_quadmix",
    "with_selection_criteria",
]

# What the references of search spaces are, for readers of a report.
ABOUT = {
    "DACS": "the baseline, self-training on images mixed by ClassMix with pseudo-labels of an EMA teacher",
    "MFM": "DACS + MFM with the paper's settings",
}
SEGFORMER_WIDTH = 3  # times DAFormer's
PIPA_STEPS = 60_000
PIPA_TEMPERATURE = 0.1  # of rare-class sampling; DAFormer 0.01
PIPA_HRDA_PATCH_WEIGHT = 0.01
DAFORMER_MOMENTUM = 0.999  # of the teacher in DAFormer, HRDA and MIC; DACS 0.99


def mfm(
    scale: Scale,
    *,
    dim: int = PAPER_DIM,
    blocks: int = 2,
    grid: int = 16,
    weight: float = 1.0,
    ratio: float = 0.4,
    objective: Objective = Objective.PIXEL_CLASSIFICATION,
    rebuild: bool = True,
) -> Mfm:
    """MFM's settings as the paper prints them; `dim` and `grid` are printed levels, trained at the scale's size."""
    rebuilder = Rebuilder(
        dim=scale.dim(dim), blocks=blocks, heads=scale.heads, learning_rate=scale.rebuilder_learning_rate
    )
    return Mfm(
        weight=weight,
        ratio=ratio,
        grid=scale.grid(grid),
        rebuilder=rebuilder if rebuild else None,
        objective=objective,
    )


def dacs(scale: Scale, *auxiliary: object) -> Experiment:
    """DACS (Tranheden et al. 2021) in the DAFormer family's recipe, with auxiliary tasks."""
    return Experiment(
        data=scale.data,
        network=scale.network,
        initial=scale.initial,
        adaptation=SelfTraining(threshold=scale.threshold),
        auxiliary=auxiliary,
        optimizer=scale.optimizer,
        schedule=scale.schedule,
        batch_size=scale.batch_size,
        evaluation=scale.evaluation,
        execution=scale.execution,
    )


def dacs_mfm(scale: Scale) -> Experiment:
    """The paper's default: DACS + MFM with dim 512, 2 blocks, H' = W' = 16, ratio 0.4, lambda 1."""
    return dacs(scale, mfm(scale))


def original_dacs(scale: Scale) -> Experiment:
    """DACS with the optimiser, schedule and jitter of its first publication (`configUDA.json` of its code).

    SGD 2.5e-4 (classifier times 10), poly 0.9 over 6.25 times the steps (250,000), no warm-up, jitter of 0.25. Its
    other habits are not taken over: COCO weights, frozen BatchNorm scales, bicubic images without flips, a source loss
    over labelled pixels alone, pasted classes drawn of each image's own, a teacher that follows at the end of a step.
    """
    config = longer(dacs(scale), 250_000 / 40_000)
    return replace(
        config,
        adaptation=SelfTraining(
            threshold=scale.threshold,
            jitter=ColourJitter(brightness=0.25, contrast=0.25, saturation=0.25, hue=0.25),
        ),
        optimizer=SGD(),
        schedule=replace(config.schedule, warmup_steps=0, power=0.9),
    )


def daformer(scale: Scale, *auxiliary: object) -> Experiment:
    """DAFormer (Hoyer et al. 2022; published as `gta2cs_uda_warm_fdthings_rcs_croppl_a999_daformer_mitb5_s0`).

    DACS with a teacher momentum of 0.999, rare-class sampling (T 0.01, 3000 pixels, half of them in the crop), the
    feature distance of thing classes (0.005, cells filled to 75 %), and no pseudo-labels in the top 15 and bottom 120
    rows of a crop.
    """
    own = daformer_scale(scale)
    return Experiment(
        data=scale.data,
        network=own.network,
        initial=own.initial,
        adaptation=SelfTraining(threshold=scale.threshold, momentum=DAFORMER_MOMENTUM, margins=own.margins),
        auxiliary=(FeatureDistance(classes=own.things), *auxiliary),
        rare_class_sampling=RareClassSampling(min_pixels=own.rare_pixels),
        optimizer=own.optimizer,
        schedule=scale.schedule,
        batch_size=scale.batch_size,
        evaluation=scale.evaluation,
        execution=scale.execution,
    )


def segformer(scale: Scale, *auxiliary: object) -> Experiment:
    """DACS on SegFormer (Xie et al. 2021): a Mix Transformer under its own head, with auxiliary tasks.

    Teacher, mixing and schedule are those of `dacs`; the optimiser (AdamW 6e-5, decoder times 10, no weight decay on
    norms, 1,500 warm-up steps) is SegFormer's own, which the DAFormer family took over. Embeddings are three times as
    wide as DAFormer's, as published for MiT-B5 (768 and 256).
    """
    own = daformer_scale(scale)
    return replace(
        dacs(scale, *auxiliary),
        network=SegFormer(encoder=own.network.encoder, embed_dim=SEGFORMER_WIDTH * own.network.embed_dim),
        initial=own.initial,
        optimizer=own.optimizer,
    )


def hrda(scale: Scale, *auxiliary: object) -> Experiment:
    """HRDA (Hoyer et al. 2022; published as `gtaHR2csHR_hrda`): DAFormer at two resolutions.

    Crops of 1024 with an HR detail crop of 512, loss 0.9 fused + 0.1 detail; the crop of a rare class must show twice
    its 3000 pixels; pseudo-labels weigh 0 within 30 pixels of the borders of the whole image and 240 of its lower one;
    evaluation slides windows of 1024 by half their side.
    """
    own = daformer_scale(scale)
    rows, columns = own.hrda_data.training_size
    factor = rows // scale.data.training_size[0]
    top, bottom = factor * own.margins.top, factor * own.margins.bottom
    margins = Margins(top=top, bottom=bottom, left=top, right=top, of_size=own.hrda_data.evaluation_size)
    return replace(
        daformer(scale, *auxiliary),
        data=own.hrda_data,
        network=HRDA(base=own.network, detail_crop=(rows // 2, columns // 2), attention_dim=own.network.embed_dim),
        adaptation=SelfTraining(threshold=scale.threshold, momentum=DAFORMER_MOMENTUM, margins=margins),
        rare_class_sampling=RareClassSampling(min_pixels=own.rare_pixels, min_crop_ratio=2.0),
        evaluation=replace(scale.evaluation, slide=(rows, columns)),
    )


def mic(scale: Scale, *auxiliary: object) -> Experiment:
    """MIC on HRDA (Hoyer et al. 2023; published as `gtaHR2csHR_mic_hrda`): HRDA + masked image consistency.

    70 % of the blocks of 64 pixels are masked, weight 1, on the target image with its own jitter and blur.
    """
    return hrda(scale, MaskedConsistency(block=daformer_scale(scale).mask_block), *auxiliary)


def pipa(scale: Scale, *auxiliary: object) -> Experiment:
    """PiPa on DAFormer (Chen et al., ACM MM 2023): pixel and patch contrast in a recipe of their own.

    The losses are as the paper means them; as they were released, the patch loss trains no part of the network
    (`PixelContrast.as_released`, `PatchContrast.as_released`).
    """
    own = pipa_scale(scale)
    return pipa_control(scale, own.pixel, own.patch, *auxiliary)


def pipa_control(scale: Scale, *auxiliary: object) -> Experiment:
    """DAFormer in PiPa's recipe without its losses: what PiPa is to be compared with.

    Crops of 640 x 640 (512), target images of 640 x 1280 (512 x 1024), also at evaluation, 60,000 steps (40,000),
    rare classes at T = 0.1 (0.01); DAFormer's in brackets.
    """
    base = longer(daformer(scale, *auxiliary), PIPA_STEPS / 40_000)
    assert base.rare_class_sampling is not None
    return replace(
        base,
        data=pipa_scale(scale).data,
        rare_class_sampling=replace(base.rare_class_sampling, temperature=PIPA_TEMPERATURE),
    )


def pipa_hrda(scale: Scale, *auxiliary: object) -> Experiment:
    """PiPa on HRDA, as published: HRDA's images and sampling, 60,000 steps, and the patch loss a tenth as heavy."""
    own = pipa_scale(scale)
    patch = replace(own.patch, weight=PIPA_HRDA_PATCH_WEIGHT)
    return longer(hrda(scale, own.pixel, patch, *auxiliary), PIPA_STEPS / 40_000)


def sepico(scale: Scale, *auxiliary: object, model: ClassModel = ClassModel.DISTRIBUTION) -> Experiment:
    """SePiCo on DAFormer (Xie et al., TPAMI 2023): contrast with the classes of both domains in a recipe of its own."""
    return sepico_control(scale, replace(sepico_scale(scale).contrast, model=model), *auxiliary)


def sepico_control(scale: Scale, *auxiliary: object) -> Experiment:
    """DAFormer in SePiCo's recipe without its loss: what SePiCo is to be compared with.

    Crops of 640 x 640 (512) of images of 1280 x 720 and 1280 x 640 pixels (1024 x 512), those of the target balanced by
    class (anywhere), the source's colours augmented (plain), no feature distance (0.005), and evaluation at 1280 x 640
    (1024 x 512); DAFormer's in brackets.
    """
    base, own = daformer(scale), sepico_scale(scale)
    assert isinstance(base.adaptation, SelfTraining)
    adaptation = replace(base.adaptation, augment_source=True, class_crop=own.class_crop)
    return replace(base, data=own.data, adaptation=adaptation, auxiliary=auxiliary)


def quadmix(scale: Scale, *auxiliary: object) -> Experiment:
    """QuadMix on MIC (Zhang et al., TPAMI 2025; published as `gtaHR2csHR_udass_hrda`), from scratch.

    The published runs begin with a checkpoint of MIC, as a shortcut.
    """
    return with_quadmix(mic(scale, *auxiliary), scale)


def with_quadmix(config: Experiment, scale: Scale) -> Experiment:
    """The same training with QuadMix in ClassMix's place, from 15 % of its steps on.

    Raises:
        ValueError: It mixes nothing.
    """
    if not isinstance(config.adaptation, SelfTraining):
        raise ValueError(
            f"Experiment.adaptation must be SelfTraining for QuadMix, got {type(config.adaptation).__name__}, which "
            "mixes no images."
        )
    return replace(config, adaptation=replace(config.adaptation, mixer=QuadMix(rare=scale.rare_patches)))


def source_only(
    scale: Scale, adapt_statistics: int | None = None, distortion: PhotoMetricDistortion | None = None
) -> Experiment:
    """Cross-entropy on the source alone, for as many steps; `adapt_statistics`: AdaBN on that many target batches.

    It differs from DACS in the adaptation and in nothing else. The DAFormer family's own source-only training distorts
    colours as well: `distortion=PhotoMetricDistortion()`.
    """
    return replace(dacs(scale), adaptation=SourceOnly(adapt_statistics=adapt_statistics, distortion=distortion))


def oracle(scale: Scale) -> Experiment:
    """Cross-entropy on labelled target images, the upper mark; as many images a step as DACS sees of both domains."""
    return replace(dacs(scale), adaptation=TargetSupervised(), batch_size=2 * scale.batch_size)


def longer(config: Experiment, factor: float) -> Experiment:
    """The same training with `factor` times the steps, its schedule stretched to them."""
    steps = round(config.schedule.steps * factor)
    return replace(config, schedule=replace(config.schedule, steps=steps))


def with_selection_criteria(config: Experiment) -> Experiment:
    """The same training scored for a search that may see no target label.

    5 % of the source are held out and scored (`source/miou`), and the predictions on the target give the label-free
    criteria (`criterion/...`, see `trainables.selection`).
    """
    return replace(
        config,
        source_holdout=SourceHoldout(),
        evaluation=replace(config.evaluation, criteria=SelectionCriteria()),
    )


def needs_of(scale: Scale, configs: Iterable[Experiment]) -> tuple[str, ...]:
    """What must be given for configs: the scale's own needs, and the ImageNet weights that they start from."""
    weights = (config.initial.value for config in configs if isinstance(config.initial, ImageNetWeights))
    return tuple(dict.fromkeys((*scale.needs, *weights)))
