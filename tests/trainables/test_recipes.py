"""The recipes: published hyper-parameters at full size, the same methods at small ones."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainables.trained import finished_trial, tiny
from trainables.adaptation.photometric import distort, draw_distortion
from trainables.config import (
    SGD,
    DAFormer,
    DeepLabV2,
    Experiment,
    FeatureDistance,
    ImageNetWeights,
    Margins,
    MaskedConsistency,
    MaskedView,
    Mfm,
    MiT,
    PackedPair,
    PatchContrast,
    PhotoMetricDistortion,
    PixelContrast,
    QuadMix,
    RareClassSampling,
    SegFormer,
    SelfTraining,
    SourceDataset,
    SourceStyle,
    ToyCity,
)
from trainables.data.domains import open_domains
from trainables.models.encoders import MiTEncoder, mit_strides
from trainables.optimization import learning_rate_factor
from trainables.randomness import Streams
from trainables.recipes import (
    MIDI,
    MINI,
    PAPER,
    SMOKE,
    Scale,
    dacs,
    daformer,
    from_synthia,
    hrda,
    mfm,
    mic,
    oracle,
    original_dacs,
    pipa,
    pipa_control,
    pipa_hrda,
    quadmix,
    segformer,
    source_only,
    with_quadmix,
)
from trainables.running import trial
from trainables.running.initial import assemble, new_student
from trainables.step_data import Batch
from trainables.training import Losses, State, self_training_step, supervised_step

CPU = torch.device("cpu")
SMALL = (SMOKE, MINI)
METHODS = (dacs, daformer, segformer, hrda, mic)


def adaptation(config: Experiment) -> SelfTraining:
    """The self-training settings of a config."""
    assert isinstance(config.adaptation, SelfTraining)
    return config.adaptation


def task(config: Experiment, kind: type) -> object:
    """The settings of one auxiliary task."""
    return next(one for one in config.auxiliary if isinstance(one, kind))


# -- at full size: sheet section 2.3, and the papers' implementation details --------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_the_familys_schedule(method: object) -> None:
    """AdamW 6e-5, decoder times 10, 1500 steps of warm-up, 40,000 steps, linear decay, 2 + 2 images."""
    config = method(PAPER)  # type: ignore[operator]
    assert (config.optimizer.learning_rate, config.optimizer.head_factor) == (6e-5, 10)
    assert (config.optimizer.weight_decay, config.optimizer.betas) == (0.01, (0.9, 0.999))
    assert (config.schedule.steps, config.schedule.warmup_steps, config.schedule.power) == (40_000, 1500, 1.0)
    assert (config.batch_size, config.evaluation.interval) == (2, 4000)
    assert learning_rate_factor(config.schedule, 750) == pytest.approx((1 - 750 / 40_000) * (1 - 0.5 * (1 - 1e-6)))
    assert adaptation(config).threshold == 0.968
    assert adaptation(config).jitter.probability == 0.8  # type: ignore[union-attr]


def test_dacs_is_the_familys_re_implementation() -> None:
    """DeepLab-V2 R101, momentum 0.99, 512 x 512 crops, weight decay on the encoder's norms, nothing else."""
    config = dacs(PAPER)
    assert (config.network, config.initial) == (DeepLabV2(), ImageNetWeights.RESNET101_V1C)
    assert (adaptation(config).momentum, adaptation(config).margins) == (0.99, None)
    assert config.optimizer.decay_norms  # type: ignore[union-attr]
    assert config.data == PackedPair(crop_size=(512, 512))
    assert (config.auxiliary, config.rare_class_sampling, config.evaluation.slide) == ((), None, None)


def test_the_original_dacs_is_a_preset() -> None:
    """SGD 2.5e-4 with a classifier ten times as fast, 250,000 steps, poly 0.9, no warm-up, jitter of 0.25."""
    config = original_dacs(PAPER)
    assert config.optimizer == SGD(learning_rate=2.5e-4, head_factor=10, weight_decay=5e-4, momentum=0.9)
    assert (config.schedule.steps, config.schedule.warmup_steps, config.schedule.power) == (250_000, 0, 0.9)
    assert adaptation(config).jitter.hue == 0.25  # type: ignore[union-attr]


def test_daformer_has_its_published_parts() -> None:
    """MiT-B5, momentum 0.999, rare-class sampling, thing-class feature distance, rows without pseudo-labels."""
    config = daformer(PAPER)
    assert (config.network, config.initial) == (DAFormer(encoder=MiT()), ImageNetWeights.MIT_B5)
    assert not config.optimizer.decay_norms  # type: ignore[union-attr]
    assert adaptation(config).momentum == 0.999
    assert adaptation(config).margins == Margins(top=15, bottom=120)
    assert config.rare_class_sampling == RareClassSampling(temperature=0.01, min_pixels=3000, min_crop_ratio=0.5)
    things = (6, 7, 11, 12, 13, 14, 15, 16, 17, 18)
    assert config.auxiliary == (FeatureDistance(weight=0.005, min_ratio=0.75, classes=things),)
    assert config.evaluation.slide is None


def test_segformer_has_its_published_parts() -> None:
    """MiT-B5 under embeddings of 768 channels, from ImageNet weights; the rest is DACS."""
    config = segformer(PAPER)
    assert config.network == SegFormer(encoder=MiT(), embed_dim=768)
    assert config.initial is ImageNetWeights.MIT_B5
    assert config.optimizer == daformer(PAPER).optimizer
    same = dacs(PAPER)
    assert replace(config, network=same.network, initial=same.initial, optimizer=same.optimizer) == same


def test_hrda_has_its_published_parts() -> None:
    """Crops of 1024 with details of 512, 0.1 of the loss on these, double images, windows of 1024, margins of v2."""
    config = hrda(PAPER)
    network = config.network
    assert (network.base, network.detail_crop, network.detail_weight) == (DAFormer(), (512, 512), 0.1)  # type: ignore[union-attr]
    data = config.data
    assert isinstance(data, PackedPair)
    assert (data.crop_size, data.source_size, data.target_size) == ((1024, 1024), (1440, 2560), (1024, 2048))
    assert (data.evaluation_size, config.evaluation.slide) == ((1024, 2048), (1024, 1024))
    assert config.rare_class_sampling == RareClassSampling(temperature=0.01, min_pixels=3000, min_crop_ratio=2.0)
    assert adaptation(config).margins == Margins(top=30, bottom=240, left=30, right=30, of_size=(1024, 2048))


def test_mic_is_hrda_and_masked_consistency() -> None:
    """70 % of blocks of 64 pixels, weight 1, on the augmented target, and nothing else changed."""
    masked = MaskedConsistency(weight=1.0, ratio=0.7, block=64, view=MaskedView.TARGET_AUGMENTED)
    assert mic(PAPER) == replace(hrda(PAPER), auxiliary=(*hrda(PAPER).auxiliary, masked))


def test_pipa_has_its_published_recipe() -> None:
    """DAFormer with crops of 640 of images of 640 x 1280, 60,000 steps and T 0.1; the control has no contrast."""
    config, control, base = pipa(PAPER), pipa_control(PAPER), daformer(PAPER)
    assert config == replace(control, auxiliary=(*base.auxiliary, PixelContrast(), PatchContrast()))
    data = config.data
    assert isinstance(data, PackedPair)
    assert (data.crop_size, data.source_size, data.target_size) == ((640, 640), (720, 1280), (640, 1280))
    assert data.evaluation_size == (640, 1280)
    assert (config.schedule.steps, config.schedule.warmup_steps, config.evaluation.slide) == (60_000, 1500, None)
    assert config.rare_class_sampling == RareClassSampling(temperature=0.1, min_pixels=3000, min_crop_ratio=0.5)
    same = {"data": base.data, "schedule": base.schedule, "rare_class_sampling": base.rare_class_sampling}
    assert replace(control, **same) == base
    second = pipa(from_synthia(PAPER)).data
    assert isinstance(second, PackedPair)
    assert (second.source, second.source_size, second.crop_size) == ("synthia", (760, 1280), (640, 640))


def test_pipa_on_hrda_is_hrda_for_60_000_steps() -> None:
    """Its images, sampling and crops; the patch loss weighs a tenth of what it does on DAFormer."""
    config, base = pipa_hrda(PAPER), hrda(PAPER)
    assert replace(config, auxiliary=base.auxiliary, schedule=base.schedule) == base
    assert config.auxiliary == (*base.auxiliary, PixelContrast(weight=0.1), PatchContrast(weight=0.01))
    assert config.schedule.steps == 60_000


@pytest.mark.parametrize("method", [pipa, pipa_control, pipa_hrda])
def test_a_scale_without_pipas_parts_says_so(method: object) -> None:
    assert MINI.daformer is not None
    scale = replace(MINI, daformer=replace(MINI.daformer, pipa=None))
    with pytest.raises(ValueError, match=r"^DAFormerScale\.pipa must be given for PiPa, got None in scale 'mini'; "):
        method(scale)  # type: ignore[operator]


def test_quadmix_is_mic_with_another_mixer() -> None:
    """From 15 % of the run on, two classes a template, sure pixels at 0.9; rare classes and counts are the source's."""
    config, base = quadmix(PAPER), mic(PAPER)
    assert replace(config, adaptation=base.adaptation) == base
    mixer = adaptation(config).mixer
    assert adaptation(config) == replace(adaptation(base), mixer=QuadMix())
    assert mixer.start * config.schedule.steps == 6000
    assert (mixer.source_classes, mixer.target_classes, mixer.rare.number, mixer.confidence) == (2, 2, 2, 0.9)
    assert (mixer.rare.classes, mixer.rare.more_than) == ((3, 4, 5, 6, 12, 15, 16, 17, 18), 50)
    second = adaptation(quadmix(from_synthia(PAPER))).mixer.rare
    assert (second.classes, second.more_than) == ((3, 3, 4, 4, 4, 4, 5, 5, 6, 7, 12, 13, 18), 10)


def test_midi_is_mini_trained_longer() -> None:
    """Both start from one file, and a report begins with which of the two is the answer."""
    longer_only = {name: getattr(MINI, name) for name in ("name", "schedule", "evaluation", "comparable")}
    assert replace(MIDI, **longer_only) == MINI
    assert MIDI.schedule.steps > MINI.schedule.steps
    assert {scale.comparable[0].partition(" is the")[0] for scale in (MINI, MIDI)} == {"Profile mini", "Profile midi"}


def test_rare_classes_of_the_small_scales_are_those_with_the_fewest_pixels() -> None:
    """Half of the classes; the second source's are those of them that it has."""
    for scale, smoke in ((MINI, SMOKE), (from_synthia(MINI), from_synthia(SMOKE))):
        domains = open_domains(dacs(scale), {}, CPU)
        pixels = torch.zeros(12)
        for step in range(100):
            label = domains.source(Streams(0), step, 4).label
            assert label is not None
            pixels += torch.bincount(label.flatten(), minlength=12)
        fewest = set(pixels.argsort()[:6].tolist()) & set(pixels.nonzero().flatten().tolist())
        assert set(scale.rare_patches.classes) == fewest
        assert smoke.rare_patches == scale.rare_patches


@pytest.mark.parametrize("method", [dacs, daformer, segformer, hrda])
def test_quadmix_goes_on_any_base(method: object) -> None:
    """In ClassMix's place; what mixes nothing is refused in a sentence."""
    base = method(MINI)  # type: ignore[operator]
    config = with_quadmix(base, MINI)
    assert replace(config, adaptation=base.adaptation) == base
    assert adaptation(config).mixer == QuadMix(rare=MINI.rare_patches)
    told = r"^Experiment\.adaptation must be SelfTraining for QuadMix, got SourceOnly, which mixes no images\.$"
    with pytest.raises(ValueError, match=told):
        with_quadmix(source_only(MINI), MINI)


@pytest.mark.parametrize("method", [*METHODS, pipa, pipa_control, pipa_hrda, quadmix])
@pytest.mark.parametrize("scale", [SMOKE, MINI, PAPER], ids=lambda scale: scale.name)
def test_mfm_is_added_and_nothing_else_moves(method: object, scale: Scale) -> None:
    """lambda 1, 40 %, 2 blocks, C' 512 on 16 x 16 cells at full size; the rest of the config is the baseline's."""
    baseline, config = method(scale), method(scale, mfm(scale))  # type: ignore[operator]
    assert replace(config, auxiliary=baseline.auxiliary) == baseline
    assert config.auxiliary == (*baseline.auxiliary, mfm(scale))
    settings = task(config, Mfm)
    assert isinstance(settings, Mfm)
    assert settings.rebuilder is not None
    assert (settings.weight, settings.ratio, settings.rebuilder.blocks) == (1.0, 0.4, 2)
    if scale is PAPER:
        assert (settings.rebuilder.dim, settings.grid, settings.rebuilder.learning_rate) == (512, (16, 16), None)


def test_synthia_keeps_the_method_and_changes_the_source() -> None:
    """760 x 1280 images, doubled for HRDA; ToyCity's second style at the small scales."""
    for method in METHODS:
        first, second = method(PAPER), method(from_synthia(PAPER))
        assert isinstance(second.data, PackedPair)
        large = method in (hrda, mic)
        assert (second.data.source, second.data.source_size) == (
            SourceDataset.SYNTHIA,
            (1520, 2560) if large else (760, 1280),
        )
        assert replace(second, data=first.data) == first
        for scale in SMALL:
            first, second = method(scale), method(from_synthia(scale))
            assert isinstance(first.data, ToyCity)
            assert second == replace(first, data=replace(first.data, source=SourceStyle.DIORAMA))
    assert from_synthia(PAPER).needs == ("synthia", "cityscapes", "resnet101-v1c")


def test_a_scale_without_transformers_says_so() -> None:
    """One sentence, naming the field."""
    with pytest.raises(ValueError, match=r"Scale\.daformer must be given"):
        daformer(replace(SMOKE, daformer=None))
    assert from_synthia(replace(SMOKE, daformer=None)).daformer is None


# -- small networks -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", SMALL, ids=lambda scale: scale.name)
def test_small_networks_are_small_and_of_the_family(scale: Scale) -> None:
    """Fewer than half a million parameters; the same classes of settings as at full size."""
    for method in METHODS:
        config, full = method(scale), method(PAPER)
        with torch.device("meta"):
            count = sum(p.numel() for p in config.network.build(12).parameters())
        assert count < 500_000
        if method is not dacs:  # DACS's small network is a residual one of its own
            assert type(config.network) is type(full.network)


def test_strides_of_a_mit_are_those_of_its_features() -> None:
    """A smaller total stride leaves more rows; the tensors are the same."""
    published = MiT(dims=(8, 8, 16, 16), depths=(1, 1, 1, 1), heads=(1, 1, 2, 2))
    fine = replace(published, strides=(4, 2, 1, 1))
    image = torch.rand(1, 3, 64, 128)
    for config, rows in ((published, [16, 8, 4, 2]), (fine, [16, 8, 8, 8])):
        features = MiTEncoder(config)(image)
        assert [feature.shape[-2] for feature in features] == rows
        assert [64 // stride for stride in mit_strides(config)] == rows
    shapes = [{n: p.shape for n, p in MiTEncoder(config).state_dict().items()} for config in (published, fine)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"strides": (4, 2, 2)}, r"MiT\.strides must be four integers"),
        ({"depths": (1, 0, 1, 1)}, r"MiT\.depths must be four integers from 1 to 200"),
        ({"dims": (64, 128, 320, 510)}, r"MiT\.dims must be multiples of MiT\.heads"),
        ({"drop_path": 1.0}, r"MiT\.drop_path must lie in \[0, 1\)"),
    ],
)
def test_a_wrong_mit_is_one_sentence(change: dict[str, object], sentence: str) -> None:
    """Names field, value and range."""
    with pytest.raises(ValueError, match=sentence):
        MiT(**change)  # type: ignore[arg-type]


# -- ToyCity takes part in rare-class sampling and margins --------------------------------------------------------


def test_toy_city_draws_rare_classes_as_the_formula_says() -> None:
    """Class counts among 3000 draws against softmax((1 - f) / T) and uniform images, worked out with numpy."""
    config = replace(
        daformer(SMOKE),
        data=ToyCity(image_size=(32, 64), source_images=24, target_images=2, validation_images=1),
        rare_class_sampling=RareClassSampling(temperature=0.05, min_pixels=10),
    )
    domains = open_domains(config, {}, CPU)
    uniform = open_domains(replace(config, rare_class_sampling=None), {}, CPU)
    labels = uniform._source.label.numpy()  # type: ignore[attr-defined]
    counts = np.stack([np.bincount(label.ravel(), minlength=12) for label in labels])
    shows = counts > 10
    power = np.exp((1 - counts.sum(0) / counts.sum()) / 0.05) * shows.any(0)
    expected = ((power / power.sum()) * shows / np.maximum(shows.sum(0), 1)).sum(1)
    draws = Counter()  # type: ignore[var-annotated]
    for step in range(60):
        batch = domains.source(Streams(0), step, 50)
        for label in batch.label.numpy():  # type: ignore[union-attr]
            same = [np.array_equal(label, one) or np.array_equal(label, one[:, ::-1]) for one in labels]
            draws[same.index(True)] += 1
    found = np.array([draws[index] for index in range(24)]) / 3000
    deviation = np.sqrt(expected * (1 - expected) / 3000)
    assert (np.abs(found - expected) < 4.5 * deviation + 1e-9).all()
    assert np.abs(found - 1 / 24).max() > 0.02  # and it is not uniform


def test_pseudo_labels_weigh_nothing_in_the_margins_of_toy_city() -> None:
    """Both forms: rows of the crop (DAFormer) and borders of the whole image (HRDA)."""
    for method in (daformer, hrda):
        config = method(SMOKE)
        config = replace(config, initial=None, adaptation=replace(adaptation(config), threshold=0.0))  # q = 1
        domains = open_domains(config, {}, CPU)
        streams = Streams(0)
        state = assemble(config, streams, new_student(config, streams, 12, CPU), domains)
        self_training_step(state, adaptation(config), domains.source(streams, 0, 2), domains.target(streams, 0, 2))
        assert state.last is not None
        margins = adaptation(config).margins
        assert margins is not None
        expected = torch.zeros(2, 32, 64)
        expected[:, margins.top : 32 - margins.bottom, margins.left : 64 - margins.right] = 1
        assert torch.equal(state.last.pseudo.weight, expected)


def test_the_second_source_trains_without_its_missing_classes() -> None:
    """SYNTHIA's part: 12 outputs, 10 classes in the source, and the mean over these ten beside that over all.

    Every method trains on it with MFM, also where no pseudo-label counts: losses and weights stay finite.
    """
    config = dacs(from_synthia(SMOKE))
    domains = open_domains(config, {}, CPU)
    labels = torch.cat([domains.source(Streams(0), step, 8).label for step in range(8)])  # type: ignore[list-item]
    assert set(labels.unique().tolist()) <= set(range(12)) - {7, 11}
    assert dict(domains.means) == {"miou10": (0, 1, 2, 3, 4, 5, 6, 8, 9, 10)}
    assert len(domains.classes) == 12
    for method in METHODS:
        config = replace(method(from_synthia(SMOKE), mfm(SMOKE)), initial=None)
        state = assemble(config, Streams(0), new_student(config, Streams(0), 12, CPU), domains)
        for threshold, sure in ((0.0, 1.0), (1.0, 0.0)):  # all pseudo-labels count; none does
            settings = replace(adaptation(config), threshold=threshold)
            losses = self_training_step(
                state, settings, domains.source(Streams(0), 0, 2), domains.target(Streams(0), 0, 2)
            )
            assert float(losses["pseudo_label_share"]) == sure
            assert all(math.isfinite(float(value)) for value in losses.values())
        assert all(bool(p.isfinite().all()) for p in state.student.parameters())


@pytest.mark.parametrize(
    "family",
    [
        (dacs(SMOKE), dacs(SMOKE, mfm(SMOKE))),
        (daformer(SMOKE), daformer(SMOKE, mfm(SMOKE))),
        (hrda(SMOKE), hrda(SMOKE, mfm(SMOKE)), mic(SMOKE), mic(SMOKE, mfm(SMOKE))),
    ],
    ids=["DACS", "DAFormer", "HRDA and MIC"],
)
def test_the_batches_of_a_seed_do_not_depend_on_mfm_or_mic(family: tuple[Experiment, ...]) -> None:
    """All rows of a family see the same images, labels, flips, mixes, colours and detail crops, step after step, and
    the same losses and pseudo-labels in the first."""
    seen = []
    for config in family:
        config = replace(config, initial=None)
        domains, streams = open_domains(config, {}, CPU), Streams(5)
        state = assemble(config, streams, new_student(config, streams, 12, CPU), domains)
        found: list[object] = []
        for step in range(2):
            source, target = domains.source(streams, step, 2), domains.target(streams, step, 2)
            losses = self_training_step(state, adaptation(config), source, target)
            assert state.last is not None
            if step == 0:
                found += [
                    losses["loss/source"],
                    losses["loss/mixed"],
                    state.last.pseudo.label,
                    state.last.mixed[0].label,
                ]
            found += [source.image, source.label, target.image, state.last.mixed[0].image, state.last.mixed[0].pasted]
            for purpose in (
                "detail crop, source pass",
                "detail crop, mixed pass",
                "detail crop, masked pass",
                "detail crop, auxiliary target pass",
            ):
                found.append(state.student.draw_box(streams, purpose, step, (32, 64)))
        seen.append(found)
    for other in seen[1:]:
        for one, two in zip(seen[0], other, strict=True):
            assert torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


def test_the_lower_and_upper_marks_see_as_many_images() -> None:
    """Source-only: as many source images a step; the oracle: as many target images as DACS sees of both."""
    for scale in (*SMALL, PAPER):
        assert source_only(scale).batch_size == dacs(scale).batch_size
        assert oracle(scale).batch_size == 2 * dacs(scale).batch_size
        assert source_only(scale).schedule == oracle(scale).schedule == dacs(scale).schedule


def test_source_only_distorts_colours_where_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained on are the source's images of each step, distorted by the draws of that step."""
    seen: list[Batch] = []

    def step(state: State, batch: Batch) -> Losses:
        seen.append(batch)
        return supervised_step(state, batch)

    monkeypatch.setattr(trial, "supervised_step", step)
    config = tiny(source_only(SMOKE, distortion=PhotoMetricDistortion()))
    finished_trial(tmp_path / "trial", config).close()
    streams, domains = Streams(0), open_domains(config, {}, CPU)
    assert len(seen) == config.schedule.steps
    for number, batch in enumerate(seen):
        plain = domains.source(streams, number, config.batch_size)
        draw = draw_distortion(PhotoMetricDistortion(), streams, number, config.batch_size)
        assert torch.equal(batch.image, distort(plain.image, draw, domains.mean, domains.std))
        assert not torch.equal(batch.image, plain.image)
        assert batch.label is not None
        assert torch.equal(batch.label, plain.label)


@pytest.mark.parametrize(
    "wrong", [0.5, (1.0, 0.5), (0.5, 1.0, 1.5), ("a", "b"), [0.5, 1.5], (True, 2), (0.5, math.inf)]
)
def test_a_wrong_range_of_a_distortion_is_one_sentence(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"^PhotoMetricDistortion\.contrast must be two numbers of at least 0"):
        PhotoMetricDistortion(contrast=wrong)


def test_a_distortion_reads_nothing_back() -> None:
    """On the meta device, which has no values."""
    image = torch.empty(2, 3, 8, 12, device="meta")
    draw = draw_distortion(PhotoMetricDistortion(), Streams(0), 0, 2)
    assert distort(image, draw, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)).shape == image.shape


def test_losses_of_every_small_recipe_are_finite_and_move_all_networks() -> None:
    """One step each with MFM: every term is there, finite, and every trained tensor has a gradient or none is due."""
    for method, terms in (
        (dacs, {"source", "mixed", "mfm"}),
        (daformer, {"source", "mixed", "feature_distance", "mfm"}),
        (hrda, {"source", "source detail", "mixed", "mixed detail", "feature_distance", "mfm"}),
        (mic, {"source", "source detail", "mixed", "mixed detail", "feature_distance", "masked_consistency", "mfm"}),
    ):
        config = replace(method(SMOKE, mfm(SMOKE)), initial=None)
        domains, streams = open_domains(config, {}, CPU), Streams(0)
        state = assemble(config, streams, new_student(config, streams, 12, CPU), domains)
        losses = self_training_step(
            state, adaptation(config), domains.source(streams, 0, 2), domains.target(streams, 0, 2)
        )
        assert {name.removeprefix("loss/") for name in losses if name.startswith("loss/")} == terms
        assert all(math.isfinite(float(value)) for value in losses.values())
        assert all(p.grad is not None for p in state.student.parameters())
