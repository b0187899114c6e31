"""Initial weights: which configs share a source pre-training."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from mfm_tune.display.progress import read_counters
from tests.trainables.trained import TINY_CITY, same_arrays
from trainables import tensor_file
from trainables.config import (
    AttentionSource,
    EfficientNetLite,
    Experiment,
    FeatureDistance,
    LabelWeight,
    LossRegion,
    MfmInput,
    NetworkPart,
    Norm,
    Objective,
    RareClassSampling,
    SmallDeepLab,
    SourceOnly,
    WarmStart,
)
from trainables.data.domains import open_domains
from trainables.randomness import Streams
from trainables.recipes import SMOKE, dacs, hrda, mfm
from trainables.running.initial import PRETRAINING, Listener, begin, new_student
from trainables.running.progress import PROGRESS
from trainables.running.trial import Trial
from trainables.running.without_effect import without_effect
from trainables.tasks.feature_distance import FeatureDistanceTask

CPU = torch.device("cpu")
CONFIG = replace(dacs(SMOKE), data=TINY_CITY, initial=WarmStart(steps=1, batch_size=2))


def begun(config: Experiment, shared: Path) -> dict[str, torch.Tensor]:
    """The initial weights of seed 0."""
    state = begin(config, Streams(0), open_domains(config, {}, CPU), shared, {}, CPU)
    return dict(state.student.state_dict())


def test_configs_that_differ_in_adaptation_and_sampling_share_a_warm_start(tmp_path: Path) -> None:
    """One file; another network or length has one of its own. What a file is of stands in its header, as JSON."""
    weights = begun(CONFIG, tmp_path)
    for config in (replace(CONFIG, rare_class_sampling=RareClassSampling(min_pixels=1)), dacs_of(0.5)):
        assert same_arrays(weights, begun(config, tmp_path))
    (file,) = (tmp_path / "warm_starts").glob("*.safetensors")
    settings, seed, data, machine = json.loads(tensor_file.load(file)[1]["of"])
    assert [each and each["class"] for each in settings] == ["SmallDeepLab", "ToyCity", None, "WarmStart", "Execution"]
    assert settings[1]["source"] == "arcade"
    assert (seed, data, machine) == (0, [], ["cpu", torch.__version__])
    begun(replace(CONFIG, initial=WarmStart(steps=2, batch_size=2)), tmp_path)
    assert len(list((tmp_path / "warm_starts").glob("*.safetensors"))) == 2


def test_an_encoder_of_its_own_seed_is_one_file_for_all_seeds(tmp_path: Path) -> None:
    """The trial's seed draws the decoder alone; HRDA has its base's encoder; another seed's encoder is another file."""
    assert SMOKE.daformer is not None
    own = WarmStart(steps=1, batch_size=2, part=NetworkPart.ENCODER, seed=5)
    files = tmp_path / "warm_starts"
    base = replace(CONFIG, network=SMOKE.daformer.network, initial=own)
    around = replace(base, network=hrda(SMOKE).network)
    encoders = []
    for config, seed in ((base, 0), (base, 5), (around, 1)):
        drawn = new_student(config, Streams(seed), 12, CPU)
        begun_at = begin(config, Streams(seed), open_domains(config, {}, CPU), tmp_path, {}, CPU).student
        assert same_arrays(dict(begun_at.decoder.state_dict()), dict(drawn.decoder.state_dict()))
        assert not same_arrays(dict(begun_at.encoder.state_dict()), dict(drawn.encoder.state_dict()))
        encoders.append(dict(begun_at.encoder.state_dict()))
    assert all(same_arrays(encoders[0], other) for other in encoders[1:])
    assert len(list(files.glob("*.safetensors"))) == 1
    other = begun(replace(base, initial=replace(own, seed=6)), tmp_path)
    assert len(list(files.glob("*.safetensors"))) == 2
    assert not any(
        torch.equal(other[f"encoder.{name}"], value) for name, value in encoders[0].items() if value.ndim > 1
    )


def test_a_trial_shows_that_it_pre_trains_or_waits_for_another_ones_pre_training(tmp_path: Path) -> None:
    """In the file that displays read; what an attempt that was killed left there is gone, its steps are not."""
    config, said = replace(CONFIG, initial=WarmStart(steps=2, batch_size=2)), []
    listener = Listener(pytest.fail, said.append)
    begin(config, Streams(0), open_domains(config, {}, CPU), tmp_path, {}, CPU, listener)
    assert said == ["pre-training 0/2", "pre-training 1/2"]
    (weights,) = (tmp_path / "warm_starts").glob("*.safetensors")
    shown = tmp_path / "trial" / "progress"
    shown.parent.mkdir()
    shown.write_bytes(PROGRESS.pack(5, 3) + b"pre-training 1/2")
    trial = Trial(config, seed=0, folder=str(shown.parent), shared=str(tmp_path), data={})
    assert read_counters(shown) == (5, 3, "")
    with ThreadPoolExecutor() as thread:
        with FileLock(weights.with_suffix(".lock")):
            advanced = thread.submit(trial.advance)
            while read_counters(shown) != (5, 3, "waits for initial weights"):
                assert not advanced.done()
                time.sleep(0.01)
        steps = advanced.result()["step"]
    trial.close()
    assert read_counters(shown) == (5 + steps, steps, "")
    assert shown.stat().st_size == PROGRESS.size


def test_a_pre_training_does_not_begin_at_the_decoder_of_the_trial_with_its_seed() -> None:
    """Else one seed of a study would begin with the decoder that the encoder was trained under."""
    trial, source = (new_student(CONFIG, Streams(5), 12, CPU, purpose) for purpose in ("init", PRETRAINING))
    assert not same_arrays(dict(trial.decoder.state_dict()), dict(source.decoder.state_dict()))


def test_the_feature_distance_keeps_the_imagenet_encoder_where_there_is_one(tmp_path: Path) -> None:
    """The one before the warm start; over random weights the warm start stands in the place of ImageNet's."""
    for network, kept in ((EfficientNetLite(channels=8), True), (SMOKE.network, False)):
        config = replace(CONFIG, network=network, auxiliary=(FeatureDistance(),))
        initial = new_student(config, Streams(0), 12, CPU).encoder
        state = begin(config, Streams(0), open_domains(config, {}, CPU), tmp_path, {}, CPU)
        (task,) = state.tasks
        assert isinstance(task, FeatureDistanceTask)
        anchors = [dict(encoder.state_dict()) for encoder in (task.imagenet_encoder, initial, state.student.encoder)]
        assert not same_arrays(anchors[1], anchors[2])
        assert same_arrays(anchors[0], anchors[1 if kept else 2])


def dacs_of(threshold: float) -> Experiment:
    """The config with another threshold."""
    return replace(CONFIG, adaptation=replace(CONFIG.adaptation, threshold=threshold))  # type: ignore[arg-type, call-arg]


def test_settings_that_change_nothing_in_the_network_are_named(tmp_path: Path) -> None:
    """Their rows would repeat those without them; where a BatchNorm moves, or there are two resolutions, nothing is."""
    batch = SmallDeepLab(norm=Norm.BATCH, widths=(8, 8, 8))
    group = replace(batch, norm=Norm.GROUP)
    held, shared = mfm(SMOKE, grid=4), MfmInput.MIXED_SHARED
    frozen, original = replace(held, freeze_statistics=True), replace(held, attention=AttentionSource.ORIGINAL)
    adabn = SourceOnly(adapt_statistics=2)
    rebuilt = replace(held, objective=Objective.FEATURE_TEACHER, region=LossRegion.MASKED)
    labelled = replace(held, input=MfmInput.SOURCE, label_weight=LabelWeight.NONE)
    told = {
        replace(CONFIG, adaptation=adabn, network=batch): "",
        replace(CONFIG, adaptation=adabn, network=group): "SourceOnly.adapt_statistics has no effect on SmallDeepLab, ",
        replace(CONFIG, auxiliary=(frozen,), network=batch): "",
        replace(
            CONFIG, auxiliary=(replace(frozen, input=shared),), network=batch
        ): "Mfm.freeze_statistics has no effect",
        replace(CONFIG, auxiliary=(frozen,), network=group): "Mfm.freeze_statistics has no effect on SmallDeepLab, in",
        replace(CONFIG, auxiliary=(original,), network=group): "Mfm.attention has no effect on SmallDeepLab, which",
        replace(hrda(SMOKE, original), data=TINY_CITY): "",
        replace(CONFIG, auxiliary=(rebuilt,), network=batch): "Mfm.region has no effect with the objective 'feature",
        replace(CONFIG, auxiliary=(labelled,), network=batch): "Mfm.label_weight has no effect with the objective",
    }
    for config, beginning in told.items():
        plain = replace(config, initial=None)
        state = begin(plain, Streams(0), open_domains(plain, {}, CPU), tmp_path, {}, CPU)
        found = list(without_effect(plain, state.student))
        assert len(found) == bool(beginning)
        assert "".join(found).startswith(beginning)
