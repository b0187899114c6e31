"""Masked Feature Modeling: what each objective is, what learns from it, and what it leaves alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import trainables.running.trial
from mfm_tune.planning.loading import load_search_space
from search_spaces.table2 import STUDIES
from tests.docs.pages import block
from tests.trainables.tasks.training import (
    FEW,
    names,
    reached,
    smoke,
    started,
    stepped,
    train,
    view_and_task,
    with_hrda,
)
from tests.trainables.trained import same_arrays
from trainables.config import (
    AttentionSource,
    Execution,
    Experiment,
    LabelWeight,
    LossRegion,
    Mfm,
    MfmInput,
    Norm,
    Objective,
    Precision,
    Projector,
    Rebuilder,
    SelfTraining,
    SmallDeepLab,
)
from trainables.losses import cross_entropy
from trainables.models.rebuilder import random_keep, resize_keep
from trainables.models.segmentor import upsample
from trainables.models.small import SmallEncoder
from trainables.randomness import Recorded
from trainables.running.trial import Trial
from trainables.step_data import Batch, StepView
from trainables.tasks.mfm import MfmTask
from trainables.tasks.target_pass import edited_target_loss
from trainables.training import self_training_step

SMALL = Mfm(grid=(4, 8), rebuilder=Rebuilder(dim=16, heads=2, blocks=1))
MASKING = replace(SMALL, rebuilder=None)
ENCODER, DECODER = "encoder.", "decoder."


def mfm_of(config: Experiment, streams: Recorded | None = None) -> tuple[StepView, MfmTask]:
    """A step's view and its MFM task."""
    view, task = view_and_task(config, streams)
    assert isinstance(task, MfmTask)
    return view, task


def mask_of(view: StepView, config: Mfm = SMALL, count: int = 2) -> Tensor:
    """The step's keep-mask."""
    return random_keep(view.streams, view.step, count, config.grid, config.ratio, config.draw)


def features_of(view: StepView) -> Tensor:
    """The student's decoded features of the target."""
    return view.student.encode(view.target.image).pyramids[0][-1]


# -- the grid -----------------------------------------------------------------------------------------------------


def test_a_grid_that_is_finer_than_the_last_stage_is_said_once(tmp_path: Path) -> None:
    """The first report has the sentence, with field, value, size and remedy; the trial trains, and goes on silently."""
    config = smoke(replace(SMALL, grid=(8, 17)), steps=2)
    config = replace(config, evaluation=replace(config.evaluation, interval=1))
    where = {"folder": str(tmp_path / "trial"), "shared": str(tmp_path)}
    trial = Trial(config, seed=0, **where, data={})
    said = trial.advance()["notice"]
    trial.close()
    assert said.startswith("Mfm.grid (8, 17) is finer than the last decoded stage, (8, 16): ")
    assert "give a grid of at most (8, 16)" in said
    assert "notice" not in Trial(config, seed=0, **where, data={}).advance()


@pytest.mark.parametrize(("shown", "profile"), [("encoder study", "mini"), ("own folders at full size", "paper")])
def test_the_studies_that_a_page_shows_have_no_finer_grid(shown: str, profile: str, tmp_path: Path) -> None:
    """Each of their configs with MFM, at the sizes of its network's stages."""
    path = tmp_path / f"shown_{profile}.py"
    path.write_text(block(shown))
    configs = load_search_space(path).declared[profile].configs().values()
    with_mfm = [config for config in configs if config.mfm is not None]
    assert with_mfm
    for config in with_mfm:
        with torch.device("meta"):
            task = MfmTask(config.mfm, SelfTraining(), config.network.build(12), config.data.training_size)
        assert not task.notice


# -- where gradients go --------------------------------------------------------------------------------------------

REBUILDER = ("rebuilder.embedding", "rebuilder.mask_token", "rebuilder.blocks", "rebuilder.norm", "rebuilder.projector")
TOKENS = (*REBUILDER[:-1], "pixel_head")
REACH = {
    "pixel classification": (SMALL, True, True, REBUILDER),
    "pixel reconstruction": (replace(SMALL, objective=Objective.PIXEL_RECONSTRUCTION), True, False, TOKENS),
    "features of the teacher": (replace(SMALL, objective=Objective.FEATURE_TEACHER), True, False, REBUILDER),
    "features of the student": (replace(SMALL, objective=Objective.FEATURE_STUDENT), True, False, REBUILDER),
    "masking": (MASKING, True, True, ()),
    "features detached": (replace(SMALL, detach_encoder=True), False, True, REBUILDER),
    "decoder detached": (replace(SMALL, detach_decoder=True), True, False, REBUILDER),
    "source": (replace(SMALL, input=MfmInput.SOURCE), True, True, REBUILDER),
    "chain": (replace(SMALL, rebuilder=Rebuilder(dim=16, heads=2, projector=Projector.CHAIN)), True, True, REBUILDER),
}


@pytest.mark.parametrize("case", list(REACH))
def test_gradients_reach_what_they_should(case: str) -> None:
    """Every parameter of the encoder, the decoder and the named parts of the task, no other, never the teacher."""
    settings, encoder, decoder, parts = REACH[case]
    view, task = mfm_of(smoke(settings))
    task.loss(view).backward()
    wanted = {
        name
        for name in names(view.student)
        if (name.startswith(ENCODER) and encoder) or (name.startswith(DECODER) and decoder)
    }
    assert reached(view.student) == wanted
    assert reached(task) == {name for name in names(task) if name.startswith(parts)}
    assert {name.split(".")[0] for name in names(task)} <= {"rebuilder", "pixel_head"}
    assert not any(p.requires_grad or p.grad is not None for p in view.teacher.parameters())
    assert all(p.requires_grad for p in view.student.parameters())


@pytest.mark.parametrize("objective", list(Objective))
def test_the_teacher_is_read_and_never_changed(objective: Objective) -> None:
    """Not a parameter, not a running statistic of the teacher moves when the term is evaluated."""
    config = replace(
        smoke(replace(SMALL, objective=objective)), network=SmallDeepLab(widths=(8, 16, 24), norm=Norm.BATCH)
    )
    view, task = mfm_of(config)
    before = {name: value.clone() for name, value in view.teacher.state_dict().items() if "num_batches" not in name}
    task.loss(view).backward()
    after = view.teacher.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("freeze", [False, True])
def test_frozen_statistics_are_those_without_the_term(freeze: bool) -> None:
    """`freeze_statistics`: the student's running statistics after a step are those of DACS; without it they are not."""
    network = SmallDeepLab(widths=(8, 16, 24), norm=Norm.BATCH)
    with_term = started(replace(smoke(replace(SMALL, freeze_statistics=freeze)), network=network)).student.state_dict()
    plain = started(replace(smoke(), network=network)).student.state_dict()
    running = [name for name in plain if "running" in name]
    assert running
    assert all(torch.equal(with_term[name], plain[name]) for name in running) is freeze


# -- what each objective is ----------------------------------------------------------------------------------------


def test_pixel_classification_is_the_cross_entropy_of_rebuilt_features() -> None:
    """Eq. 4, 6 and 7 step by step: rebuild where masked, decode, upsample, weigh by q, mean over all pixels."""
    view, task = mfm_of(smoke(SMALL))
    assert task.rebuilder is not None
    feature, keep = features_of(view), mask_of(view)
    (offset,) = task.rebuilder.offsets((feature,), keep)
    at_stage = keep.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert at_stage.shape[-2:] == feature.shape[-2:]
    logits = upsample(view.student.decoder(feature * at_stage + offset * (1 - at_stage)), (32, 64))
    log = logits.log_softmax(dim=1).gather(1, view.pseudo.label.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(task.loss(view), -(view.pseudo.weight * log).mean())


def test_masking_alone_fills_with_zeros() -> None:
    """Table 2(c), "Masking": the same cross-entropy of features with zeros, not rescaled."""
    view, task = mfm_of(smoke(MASKING))
    keep = resize_keep(mask_of(view), features_of(view))
    torch.testing.assert_close(task.loss(view), edited_target_loss(view, lambda stage: stage * keep))


@pytest.mark.parametrize("settings", [SMALL, MASKING])
def test_ratio_zero_is_a_plain_pseudo_label_pass(settings: Mfm) -> None:
    """With everything kept the loss is that of the features as they are, bit for bit."""
    view, task = mfm_of(smoke(replace(settings, ratio=0.0)))
    assert torch.equal(task.loss(view), edited_target_loss(view, lambda stage: stage))


@pytest.mark.parametrize("objective", [Objective.FEATURE_TEACHER, Objective.FEATURE_STUDENT])
def test_feature_reconstruction_is_smooth_l1_to_normalised_features(objective: Objective) -> None:
    """I-JEPA's loss by hand: 0.5 d^2 below 1, |d| - 0.5 above, at masked cells, target normalised over channels."""
    view, task = mfm_of(smoke(replace(SMALL, objective=objective)))
    assert task.rebuilder is not None
    with torch.no_grad():
        for parameter in view.teacher.parameters():  # at step 0 it equals the student of that step
            parameter.mul_(1.1)
    feature, keep = features_of(view), mask_of(view)
    by_teacher = objective is Objective.FEATURE_TEACHER
    target = view.teacher.encode(view.target.image).pyramids[0][-1] if by_teacher else feature
    centred = target - target.mean(dim=1, keepdim=True)
    target = (centred / (target.var(dim=1, keepdim=True, unbiased=False) + 1e-5).sqrt()).detach()
    (offset,) = task.rebuilder.offsets((feature,), keep)
    d = (offset - target).abs()
    each = torch.where(d < 1, 0.5 * d**2, d - 0.5).mean(dim=1)
    masked = resize_keep(keep, feature).squeeze(1) == 0
    loss, wanted = task.loss(view), each[masked].mean()
    torch.testing.assert_close(loss, wanted)
    learns = list(view.student.encoder.parameters())  # the target, a constant, sends no gradient back
    torch.testing.assert_close(torch.autograd.grad(loss, learns), torch.autograd.grad(wanted, learns))


def test_pixel_reconstruction_is_the_masked_patches_error() -> None:
    """MAE's loss by loops over images and cells: pixels normalised by the patch's mean and unbiased variance."""
    view, task = mfm_of(smoke(replace(SMALL, objective=Objective.PIXEL_RECONSTRUCTION)))
    assert task.rebuilder is not None
    assert task.pixel_head is not None
    keep = mask_of(view)
    predicted = task.pixel_head(task.rebuilder.tokens((features_of(view),), keep))
    errors = []
    for image in range(2):
        for row in range(4):
            for column in range(8):
                patch = view.target.image[image, :, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8].flatten()
                wanted = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                if keep[image, 0, row, column] == 0:
                    errors.append((predicted[image, 8 * row + column] - wanted).square().mean())
    torch.testing.assert_close(task.loss(view), torch.stack(errors).mean())


@pytest.mark.parametrize("objective", list(Objective))
def test_a_mask_that_masks_nothing_stays_finite(objective: Objective) -> None:
    """The reconstruction losses are 0 where nothing is masked, not 0/0."""
    view, task = mfm_of(smoke(replace(SMALL, objective=objective, ratio=0.0)))
    loss = task.loss(view)
    loss.backward()
    assert bool(loss.isfinite())
    assert float(loss.detach()) == 0 or objective is Objective.PIXEL_CLASSIFICATION


@pytest.mark.parametrize("objective", list(Objective))
def test_a_mask_that_masks_everything_stays_finite(objective: Objective) -> None:
    """Draws below any ratio mask all cells: loss and gradients are finite."""
    streams = Recorded(0, {("feature mask", 0, 0): torch.zeros(2, 1, 4, 8)})
    view, task = mfm_of(smoke(replace(SMALL, objective=objective)), streams)
    loss = task.loss(view)
    loss.backward()
    assert bool(loss.isfinite())
    assert all(
        bool(p.grad.isfinite().all()) for m in (view.student, task) for p in m.parameters() if p.grad is not None
    )


# -- readings that are switches ------------------------------------------------------------------------------------


def plain_loss(view: StepView, label: Tensor, weight: Tensor, image: Tensor) -> Tensor:
    """Cross-entropy of an unmasked pass."""
    return cross_entropy(upsample(view.student(image).logits, (32, 64)), label, weight)


def test_the_weight_of_pseudo_labels_is_a_switch() -> None:
    """q for all pixels, 1 for all, or 1 where the teacher is sure (a threshold at its median: half of them)."""
    losses = {}
    for reading in LabelWeight:
        settings = replace(SMALL, ratio=0.0, label_weight=reading)
        base = smoke(settings)
        threshold = float(started(base).last.pseudo.confidence.median())  # type: ignore[union-attr]
        view, task = mfm_of(replace(base, adaptation=SelfTraining(threshold=threshold)))
        sure = (view.pseudo.confidence >= threshold).float()
        assert 0.4 < float(sure.mean()) < 0.6
        weight = {
            LabelWeight.CONFIDENCE: view.pseudo.share.float().expand_as(sure),
            LabelWeight.NONE: torch.ones_like(sure),
            LabelWeight.PIXEL: sure,
        }[reading]
        losses[reading] = task.loss(view)
        torch.testing.assert_close(losses[reading], plain_loss(view, view.pseudo.label, weight, view.target.image))
    assert len({float(loss.detach()) for loss in losses.values()}) == 3


def test_the_loss_can_be_taken_where_features_were_masked() -> None:
    """`LossRegion.MASKED`: pixels of kept cells weigh 0; the mean still divides by all pixels."""
    view, task = mfm_of(smoke(replace(MASKING, region=LossRegion.MASKED)))
    keep = mask_of(view)
    stage = resize_keep(keep, features_of(view))
    logits = upsample(view.student.decoder(features_of(view) * stage), (32, 64))
    pixels = keep.repeat_interleave(8, 2).repeat_interleave(8, 3).squeeze(1)
    wanted = cross_entropy(logits, view.pseudo.label, view.pseudo.weight * (1 - pixels))
    torch.testing.assert_close(task.loss(view), wanted)


def test_the_mixed_image_brings_its_own_labels() -> None:
    """`MfmInput.MIXED` at ratio 0 is the mixed term itself: same image, labels and weights."""
    view, task = mfm_of(smoke(replace(SMALL, ratio=0.0, input=MfmInput.MIXED)))
    wanted = plain_loss(view, view.mixed[0].label, view.mixed[0].weight, view.mixed[0].image)
    torch.testing.assert_close(task.loss(view), wanted)


def test_on_the_shared_pass_the_encoder_runs_once_and_the_gradient_is_that_of_a_joint_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`MfmInput.MIXED_SHARED` and `MIXED` in float64: as many passes fewer as terms, and the same sum of gradients."""
    calls: list[int] = []
    forward = SmallEncoder.forward

    def counted(encoder: SmallEncoder, image: Tensor) -> object:
        calls.append(len(image))
        return forward(encoder, image)

    monkeypatch.setattr(SmallEncoder, "forward", counted)
    gradients, passes = [], []
    for reading in (MfmInput.MIXED, MfmInput.MIXED_SHARED):
        calls.clear()
        config = smoke(replace(SMALL, weight=3.0, input=reading))
        state = stepped(replace(config, execution=Execution(precision=Precision.FLOAT64)))
        passes.append(len(calls))
        gradients.append({name: p.grad for m in (state.student, state.tasks) for name, p in m.named_parameters()})
    apart, joint = gradients
    assert passes == [4, 3]  # source, teacher, mixed, and one of MFM's own
    assert all(bool(gradient.count_nonzero()) for gradient in joint.values())
    torch.testing.assert_close(joint, apart, rtol=1e-9, atol=1e-12)


def test_hrdas_shared_pass_has_the_mixed_passes_detail_crop(tmp_path: Path) -> None:
    """Features of both resolutions are rebuilt where the mixed pass took them; training goes on."""
    report, _ = train(with_hrda(smoke(replace(SMALL, input=MfmInput.MIXED_SHARED))), tmp_path)
    assert report["outcome"] == "finished"
    assert report["metrics"]["loss/mfm"] > 0


def test_source_images_bring_their_true_labels() -> None:
    """`MfmInput.SOURCE` at ratio 0 is the supervised term itself, whatever pseudo-labels weigh."""
    view, task = mfm_of(smoke(replace(SMALL, ratio=0.0, input=MfmInput.SOURCE, label_weight=LabelWeight.PIXEL)))
    assert view.source.label is not None
    wanted = plain_loss(view, view.source.label, torch.ones(2, 32, 64), view.source.image)
    torch.testing.assert_close(task.loss(view), wanted)


def test_both_domains_are_two_terms_with_a_mask_each(tmp_path: Path) -> None:
    """Their sum is the terms of each alone; the logs have both and the sum; the masks differ."""
    both = replace(SMALL, input=MfmInput.BOTH)
    view, task = mfm_of(smoke(both))
    terms = dict(task.losses(view))
    assert list(terms) == ["source", "target"]
    for reading in (MfmInput.SOURCE, MfmInput.TARGET):
        task.config = replace(SMALL, input=reading)
        assert torch.equal(task.loss(view), terms[reading.value])
    masks = [
        random_keep(view.streams, 0, 2, SMALL.grid, SMALL.ratio, SMALL.draw, purpose=purpose)
        for purpose in ("feature mask", "source feature mask")
    ]
    assert not torch.equal(*masks)
    report, _ = train(smoke(both, steps=1), tmp_path)
    parts = [report["metrics"][f"loss/mfm {name}"] for name in ("source", "target")]
    assert report["metrics"]["loss/mfm"] == pytest.approx(sum(parts))


@pytest.mark.parametrize("objective", list(Objective)[1:])
def test_a_decoder_is_not_detached_where_it_never_learns(objective: Objective) -> None:
    """Nor together with the encoder, which would leave nothing of the network to train."""
    with pytest.raises(ValueError, match=r"Mfm\.detach_decoder must be False with the objective"):
        replace(SMALL, objective=objective, detach_decoder=True)
    with pytest.raises(ValueError, match="must not both be True"):
        replace(SMALL, detach_encoder=True, detach_decoder=True)


def test_the_augmented_target_is_another_image() -> None:
    """`MfmInput.TARGET_AUGMENTED` jitters colours; labels stay."""
    gate = Recorded(0, {("target jitter gate", 0, 0): torch.tensor(0.9)})
    losses = [
        mfm_of(smoke(replace(SMALL, ratio=0.0, input=reading)), gate)
        for reading in (MfmInput.TARGET, MfmInput.TARGET_AUGMENTED)
    ]
    plain, augmented = (float(task.loss(view).detach()) for view, task in losses)
    assert plain != augmented


def test_the_augmented_target_has_draws_of_its_own() -> None:
    """Mixed images that are jittered otherwise, or not at all, leave it as it is."""
    config = smoke(replace(SMALL, input=MfmInput.TARGET_AUGMENTED))
    draws = {"jitter gate": 0.9, "blur gate": 0.9}
    images = []
    for gates in (draws, dict.fromkeys(draws, 0.0)):
        recorded = {(purpose, 0, 0): torch.tensor(value) for purpose, value in gates.items()}
        view, task = mfm_of(config, Recorded(0, recorded))
        images.append((view.mixed[0].image, next(task._inputs(view)).image))
    (mixed, target), (plain_mixed, same_target) = images
    assert not torch.equal(mixed, plain_mixed)
    assert torch.equal(target, same_target)


def test_the_term_can_start_late(tmp_path: Path, dacs_weights: Mapping[bool, dict[str, Tensor]]) -> None:
    """Of three steps: a term that starts after the third leaves DACS bit-equal, one that starts at it does not."""
    for start, equal in ((3, True), (2, False)):
        _, weights = train(smoke(replace(SMALL, start_step=start)), tmp_path / str(start))
        assert same_arrays(weights, dacs_weights[False]) is equal


# -- HRDA ----------------------------------------------------------------------------------------------------------


def test_hrdas_context_and_detail_have_masks_of_their_own() -> None:
    """Both views go through one Rebuilder as one batch; the loss is 0.9 fused + 0.1 detail of the rebuilt stages."""
    view, task = mfm_of(with_hrda(smoke(SMALL)))
    assert task.rebuilder is not None
    masks: list[Tensor] = []
    handle = task.rebuilder.register_forward_pre_hook(lambda module, args: masks.append(args[1]))
    loss = task.loss(view)
    handle.remove()
    (keep,) = masks
    assert keep.shape == (4, 1, 4, 8)
    assert len({tuple(one.flatten().tolist()) for one in keep}) == 4
    box = view.student.draw_box(view.streams, "detail crop, auxiliary target pass", 0, (64, 64))
    encoded = view.student.encode(view.target.image, box)
    context, detail = encoded.pyramids
    rebuilt = (task.rebuilder(context, keep[:2]), task.rebuilder(detail, keep[2:]))
    parts = view.student.loss(
        view.student.decode(encoded.with_pyramids(rebuilt)), view.pseudo.label, view.pseudo.weight
    )
    assert parts.detail is not None
    torch.testing.assert_close(loss, parts.main + parts.detail)


def test_a_detail_crop_that_is_not_half_the_image_is_one_sentence() -> None:
    """Its features have other sizes than the context's, and one mask is drawn for both."""
    config = with_hrda(smoke(SMALL))
    config = replace(config, network=replace(config.network, detail_crop=(32, 64)))
    with pytest.raises(ValueError, match=r"half the training image, \(32, 32\) for 64 x 64, got \(32, 64\): it masks"):
        started(config)


def test_what_hrdas_attention_sees_is_a_switch() -> None:
    """Rebuilt or original context features; with everything kept the two agree."""
    view, task = mfm_of(with_hrda(smoke(SMALL)))
    losses = {}
    for ratio in (0.0, 0.6):
        for source in AttentionSource:
            task.config = replace(SMALL, ratio=ratio, attention=source)
            losses[ratio, source] = float(task.loss(view).detach())
    assert losses[0.0, AttentionSource.REBUILT] == losses[0.0, AttentionSource.ORIGINAL]
    assert losses[0.6, AttentionSource.REBUILT] != losses[0.6, AttentionSource.ORIGINAL]


def test_hrda_trains_with_it(tmp_path: Path, dacs_weights: Mapping[bool, dict[str, Tensor]]) -> None:
    """Three steps; the exported student has the baseline's tensors, with other values."""
    report, weights = train(with_hrda(smoke(SMALL)), tmp_path)
    assert report["outcome"] == "finished"
    assert weights.keys() == dacs_weights[True].keys()
    assert not same_arrays(weights, dacs_weights[True])


# -- what it leaves alone ------------------------------------------------------------------------------------------


def watched_training(
    config: Experiment, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], dict[str, Tensor]]:
    """A whole trial: a hash of every step's source and target batch, and the final student."""
    hashes: list[str] = []

    def watched(state, settings, source: Batch, target: Batch):  # type: ignore[no-untyped-def]
        tensors = (source.image, source.label, target.image)
        content = b"".join(t.contiguous().numpy().tobytes() for t in tensors if t is not None)
        hashes.append(hashlib.sha256(content).hexdigest())
        return self_training_step(state, settings, source, target)

    monkeypatch.setattr(trainables.running.trial, "self_training_step", watched)
    _, weights = train(config, folder)
    return hashes, weights


def test_lambda_zero_is_dacs_and_other_settings_see_the_same_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Five steps: at lambda 0 weights are bit-equal to DACS; configs that differ in MFM see equal batches each step."""
    settings: dict[str, tuple[object, ...]] = {
        "dacs": (),
        "zero": (replace(SMALL, weight=0.0),),
        "default": (SMALL,),
        "other": (replace(SMALL, weight=2.0, ratio=0.7, grid=(2, 4), objective=Objective.FEATURE_STUDENT),),
    }
    results = {
        name: watched_training(smoke(*auxiliary, steps=5), tmp_path / name, monkeypatch)
        for name, auxiliary in settings.items()
    }
    hashes = [result[0] for result in results.values()]
    assert len(set(hashes[0])) == 5
    assert all(one == hashes[0] for one in hashes)
    weights = {name: result[1] for name, result in results.items()}
    assert same_arrays(weights["dacs"], weights["zero"])
    assert not same_arrays(weights["dacs"], weights["default"])
    assert not same_arrays(weights["default"], weights["other"])


def test_at_lambda_zero_the_term_is_not_evaluated() -> None:
    """No task is built, and no loss of it is logged."""
    state = started(smoke(replace(SMALL, weight=0.0)))
    assert state.last is not None
    assert isinstance(state.config.adaptation, SelfTraining)
    assert len(state.tasks) == 0
    losses = self_training_step(state, state.config.adaptation, state.last.source, state.last.target)
    assert "loss/mfm" not in losses


def test_it_moves_no_other_draw() -> None:
    """In the first step pseudo-labels, the mixed batch and its augmentation are bit-equal with and without MFM."""
    with_term, plain = started(smoke(SMALL)).last, started(smoke()).last
    assert with_term is not None
    assert plain is not None
    assert torch.equal(with_term.mixed[0].image, plain.mixed[0].image)
    assert torch.equal(with_term.mixed[0].label, plain.mixed[0].label)
    assert torch.equal(with_term.pseudo.label, plain.pseudo.label)


def test_a_batch_without_a_confident_pixel_stays_finite(tmp_path: Path) -> None:
    """At threshold 1 no pseudo-label counts: q and the term are 0, everything is finite, training goes on."""
    report, weights = train(smoke(SMALL, threshold=1.0), tmp_path)
    assert report["outcome"] == "finished"
    assert report["metrics"]["pseudo_label_share"] == 0
    assert report["metrics"]["loss/mfm"] == 0
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_a_source_without_a_labelled_pixel_stays_finite() -> None:
    """A source batch of ignored pixels: the supervised loss is 0, the others finite, and so are the weights."""
    state = started(smoke(SMALL))
    assert state.last is not None
    assert isinstance(state.config.adaptation, SelfTraining)
    blank = Batch(state.last.source.image, torch.full((2, 32, 64), 255))
    losses = self_training_step(state, state.config.adaptation, blank, state.last.target)
    assert float(losses["loss/source"]) == 0
    assert all(bool(value.isfinite()) for value in losses.values())
    assert all(bool(p.isfinite().all()) for p in state.student.parameters())


def test_nan_in_the_term_is_the_outcome_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Rebuilder that turns to NaN ends the trial as `diverged`, by name."""

    def broken(self: nn.Module, view: StepView, seen: object) -> Tensor:
        return next(view.student.parameters()).sum() * float("nan")

    monkeypatch.setattr(MfmTask, "_term", broken)
    report, final = train(smoke(SMALL), tmp_path)
    assert report["outcome"] == "diverged"
    assert "loss/mfm" in report["error"]
    assert not final


def test_the_rebuilder_learns_with_its_own_rate_and_without_decay_on_vectors() -> None:
    """Its learning rate; weight decay on matrices, none on norms, biases and the mask token; no EMA copy."""
    rebuilder = Rebuilder(dim=16, heads=2, blocks=1, learning_rate=3e-4, weight_decay=0.05)
    state = started(smoke(replace(SMALL, rebuilder=rebuilder)))
    (task,) = state.tasks
    group = {id(p): g for g in state.optimizer.param_groups for p in g["params"]}
    for name, parameter in task.named_parameters():
        assert group[id(parameter)]["base"] == 3e-4, name
        assert group[id(parameter)]["weight_decay"] == (0.05 if parameter.ndim > 1 else 0.0), name
    assert state.teacher is not None
    assert names(state.teacher.network) == names(state.student)


def test_image_sizes_that_no_grid_divides(tmp_path: Path) -> None:
    """Images of 36 x 52 with a grid of 5 x 7 train with each objective's shapes."""
    for objective in Objective:
        config = smoke(replace(SMALL, grid=(5, 7), objective=objective))
        view, task = mfm_of(replace(config, data=replace(FEW, image_size=(36, 52))))
        loss = task.loss(view)
        assert bool(loss.isfinite())
        assert float(loss.detach()) > 0


@pytest.mark.slow
def test_all_configs_of_table_2_train_to_different_students(tmp_path: Path) -> None:
    """The axes mean something: after 6 steps the 19 configs have 19 different students, each with finite weights."""
    configs = dict.fromkeys(cell.config for cell in STUDIES["smoke"].cells())
    assert len(configs) == 19
    students = []
    for index, config in enumerate(configs):
        schedule, evaluation = replace(config.schedule, steps=6), replace(config.evaluation, interval=6)
        report, weights = train(
            replace(config, schedule=schedule, evaluation=evaluation), tmp_path / str(index), shared=tmp_path / "shared"
        )
        assert report["outcome"] == "finished"
        students.append(torch.cat([value.flatten() for value in weights.values()]))
    for index, one in enumerate(students):
        assert bool(one.isfinite().all())
        for other in students[:index]:
            assert float((one - other).abs().max()) > 1e-6
