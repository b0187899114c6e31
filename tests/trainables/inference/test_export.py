"""A trained student as a model of its own: equal logits, nothing else in it, and one sentence for what is no model."""

from __future__ import annotations

import json
import os
import pickle
import sys
from contextlib import nullcontext
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from tests.trainables.models.tiny import built
from tests.trainables.trained import finished_trial, tiny
from trainables import export, tensor_file
from trainables.config import (
    DAFormer,
    DeepLabV2,
    EfficientNetLite,
    MiT,
    Network,
    Norm,
    SegFormer,
    SegFormerHead,
    Segmenter,
    SmallDeepLab,
)
from trainables.data.classes import CITYSCAPES_CLASSES
from trainables.description import Description, describe
from trainables.inference import model as exported
from trainables.inference.card import CARD
from trainables.inference.model import CONFIG, WEIGHTS, load_model, parameter_count, save_model
from trainables.models.segmentor import Segmentor
from trainables.recipes import PAPER, SMOKE, dacs, daformer, hrda, mfm, mic, segformer
from trainables.running.trial import Trial
from trainables.settings_json import UnknownClass, imported_classes

OURS = [each for each in imported_classes(Network) if each.__module__.startswith("trainables.") and is_dataclass(each)]
RECORDED = json.loads((Path(__file__).parents[2] / "golden" / "descriptions.json").read_text())
MEAN, STD = (1.0, 2.0, 3.0), (4.0, 5.0, 6.0)


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory) -> Trial:
    """A finished trial of HRDA with MFM."""
    return finished_trial(tmp_path_factory.mktemp("export") / "trial")


@pytest.fixture
def student(trial: Trial) -> Segmentor:
    """Its student, as it is in memory."""
    assert trial._state is not None
    return trial._state.student.eval()


@pytest.mark.parametrize("file", [None, export.FINAL, export.CHECKPOINT])
def test_the_exported_logits_are_the_students_bit_for_bit(
    trial: Trial, student: Segmentor, file: str | None, tmp_path: Path
) -> None:
    """From the trial's folder, from its final weights, and from a checkpoint with teacher, tasks and moments beside."""
    source = trial.folder if file is None else trial.folder / file
    assert export.main([str(source), str(tmp_path / "model")]) == 0
    model = load_model(tmp_path / "model")
    for example in trial.domains.validation():
        image = example.image.contiguous(memory_format=torch.channels_last)
        assert torch.equal(model.segmentor.predict(image), student.predict(image))


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_of_a_model_can_be_read_by_whom_the_umask_says(
    trial: Trial, umask: int, mode: int, tmp_path: Path
) -> None:
    """All of them: a model is there to be handed on."""
    before = os.umask(umask)
    try:
        assert export.main([str(trial.folder), str(tmp_path / "model")]) == 0
    finally:
        os.umask(before)
    files = (tmp_path / "model").iterdir()
    assert {file.name: file.stat().st_mode & 0o777 for file in files} == {WEIGHTS: mode, CONFIG: mode, CARD: mode}


def test_the_exported_model_is_the_plain_segmentor(trial: Trial, tmp_path: Path) -> None:
    """No Rebuilder, no teacher, no moments: the tensors, and so the cost, of the same network without MFM."""
    export.main([str(trial.folder), str(tmp_path)])
    plain = hrda(SMOKE).network.build(12)
    stored = load_file(tmp_path / WEIGHTS)
    assert {name: array.shape for name, array in stored.items()} == {n: a.shape for n, a in plain.state_dict().items()}
    assert parameter_count(load_model(tmp_path).segmentor) == parameter_count(plain)
    assert sorted(path.name for path in tmp_path.iterdir()) == [CARD, CONFIG, WEIGHTS]


@pytest.mark.parametrize(
    "network",
    [
        SmallDeepLab(norm=Norm.BATCH),
        DeepLabV2(),
        DAFormer(encoder=MiT(drop_path=0.0)),
        SegFormer(),
        hrda(PAPER).network,
        EfficientNetLite(),
    ],
    ids=lambda network: type(network).__name__,
)
def test_a_description_survives_json(network: object) -> None:
    """Every network's settings, enums and nested ones included, come back as they were."""
    description = Description(
        network=network,  # type: ignore[arg-type]
        classes=CITYSCAPES_CLASSES,
        mean=MEAN,
        std=STD,
        size=(512, 1024),
        slide=(512, 512),
        channels_last=True,
        step=7,
    )
    assert Description.from_json(json.loads(json.dumps(description.to_json()))) == description


@pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.__name__)
def test_whatever_network_can_be_trained_can_be_exported(kind: type[Network]) -> None:
    """No list beside the type of `Experiment.network` says so: a network that is written later is exported as well."""

    @dataclass(frozen=True, kw_only=True, slots=True)
    class Later(kind):  # type: ignore[misc, valid-type]  # a class that is known at run time only
        """What `Experiment.network` will hold one day."""

        def build(self, num_classes: int) -> Segmentor:
            """As its parent."""
            return kind.build(self, num_classes)

    parts = {"encoder": MiT(), "head": SegFormerHead()} if kind is Segmenter else {}
    for network in (kind(**parts), Later(**parts)):
        described = describe(replace(dacs(SMOKE), network=network), CITYSCAPES_CLASSES, MEAN, STD, 3)
        assert type(described.network) is type(network)
        assert Description.from_json(json.loads(json.dumps(described.to_json()))) == described


@dataclass(frozen=True, kw_only=True, slots=True)
class Mine(Network):
    """A network of someone's own."""

    width: int = 8

    def build(self, num_classes: int) -> Segmentor:
        return SmallDeepLab(widths=(self.width, 16, 24)).build(num_classes)


def test_a_network_of_ones_own_is_written_with_its_module_and_found_where_it_is_imported() -> None:
    """Where it is not, its module and its name are in the sentence; nothing is imported because a file names it."""
    described = describe(replace(dacs(SMOKE), network=Mine(width=16)), CITYSCAPES_CLASSES, MEAN, STD, 3).to_json()
    assert described["network"] == {"class": "Mine", "module": __name__, "width": 16}
    assert Description.from_json(described).network == Mine(width=16)
    missing = described | {"network": {"class": "Yours", "module": "antigravity.nets"}}
    with pytest.raises(
        UnknownClass, match=r"^it was made with Yours of antigravity\.nets, .+ give its file with --code nets\.py\.$"
    ):
        Description.from_json(missing)
    assert "antigravity" not in sys.modules


def test_of_two_classes_of_one_name_the_one_of_the_named_module_is_read() -> None:
    """A file that was renamed is found by its class alone, as long as that is the only one."""

    def other(module: str) -> type[Network]:
        made: type[Network] = dataclass(frozen=True)(type("Mine", (Network,), {"build": Mine.build, "width": 8}))
        made.__module__ = module
        return made

    described = describe(replace(dacs(SMOKE), network=Mine()), CITYSCAPES_CLASSES, MEAN, STD, 3).to_json()
    renamed = described | {"network": {"class": "Mine", "module": "renamed"}}
    assert type(Description.from_json(renamed).network) is Mine
    kinds = [other("first"), other("second")]
    assert type(Description.from_json(described).network) is Mine
    assert (
        type(Description.from_json(described | {"network": {"class": "Mine", "module": "second"}}).network) is kinds[1]
    )
    with pytest.raises(UnknownClass, match=r"several of that name \(first, second, tests\..+\), none of this module"):
        Description.from_json(renamed)


@pytest.mark.parametrize("name", list(RECORDED))
def test_a_model_described_by_earlier_code_has_its_tensors(name: str) -> None:
    """Recorded before networks built themselves: the description is read, and its network has the tensors of then."""
    recorded = RECORDED[name]
    description = Description.from_json(recorded["description"])
    written = description.to_json()
    assert written["network"] == recorded["description"]["network"]
    assert written["data"].items() >= recorded["description"]["data"].items()
    with torch.device("meta"):
        state = description.network.build(len(description.classes)).state_dict()
    assert (len(state), sum(tensor.numel() for tensor in state.values())) == (
        recorded["tensors"],
        recorded["parameters"],
    )
    assert {key: list(state[key].shape) for key in recorded["some"]} == recorded["some"]


def test_an_unknown_network_is_named_with_those_that_are_known() -> None:
    """A model of a later version, say."""
    described = describe(dacs(SMOKE), CITYSCAPES_CLASSES, MEAN, STD, 3).to_json()
    with pytest.raises(
        ValueError, match=r"does not fit \('Later' must be .+ or SmallDeepLab or DeepLabV2 or .+\); export"
    ):
        Description.from_json(described | {"network": {"class": "Later"}})


@pytest.mark.parametrize("make", [dacs, daformer, hrda, mic])
@pytest.mark.parametrize("scale", [SMOKE, PAPER], ids=["smoke", "paper"])
def test_a_recipe_is_described_with_its_data(make: object, scale: object) -> None:
    """Data, evaluation size and windows come back as they were."""
    config = make(scale)  # type: ignore[operator]
    description = describe(config, CITYSCAPES_CLASSES, MEAN, STD, 3)
    back = Description.from_json(json.loads(json.dumps(description.to_json())))
    assert back == description
    assert (back.data, back.network, back.slide) == (config.data, config.network, config.evaluation.slide)


@pytest.mark.parametrize(("name", "make"), [("hrda", hrda), ("segformer", segformer)])
def test_a_published_checkpoint_becomes_a_model(
    name: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reference's names, and a teacher beside it that is left out (a small network plays the part)."""
    from trainables.models.pretrained import published_names

    small = make(SMOKE).network
    monkeypatch.setitem(export.PUBLISHED, name, small)
    network = built(small)
    state = network.state_dict()
    published = {f"model.{group[0]}": state[own] for own, group in published_names(network).items()}
    teacher = {key.replace("model.", "ema_model.", 1): array + 1 for key, array in published.items()}
    torch.save({"state_dict": published | teacher}, tmp_path / "published.pth")
    assert export.main([str(tmp_path / "published.pth"), str(tmp_path / "model"), "--network", name]) == 0
    image = torch.rand(1, 3, 32, 64)
    model = load_model(tmp_path / "model")
    assert torch.equal(model.segmentor.predict(image), network.predict(image))
    assert (model.description.size, model.description.slide) == ((1024, 2048), (1024, 1024))


def test_a_trained_segformer_is_exported(tmp_path: Path) -> None:
    """The recipe with MFM, a few steps: the exported model gives the student's logits."""
    trial = finished_trial(tmp_path / "trial", tiny(segformer(SMOKE, mfm(SMOKE))))
    assert export.main([str(trial.folder), str(tmp_path / "model")]) == 0
    model = load_model(tmp_path / "model")
    assert model.description.network == segformer(SMOKE).network
    assert trial._state is not None
    image = torch.rand(1, 3, 32, 64)
    assert torch.equal(model.segmentor.predict(image), trial._state.student.eval().predict(image))


# -- wrong input: exit code 2 and one sentence ------------------------------------------------------------------------


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that a refused command prints."""
    assert export.main(argv) == 2
    told = capsys.readouterr()
    lines = [line for line in told.err.splitlines() if not line.startswith("Writing")]
    assert told.out == ""
    assert len(lines) == 1, told.err
    return lines[0]


def test_a_missing_run_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Says what is wanted and where it lies."""
    told = refused([str(tmp_path / "nothing"), str(tmp_path / "out")], capsys)
    assert "RUN_OR_CHECKPOINT must be a trial's folder" in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("length", [0, 7, 2000, -1])
def test_a_truncated_checkpoint_is_one_sentence(
    trial: Trial, length: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wherever it was cut: before, in or behind its header."""
    whole = (trial.folder / export.FINAL).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[:length])
    told = refused([str(tmp_path / "cut.safetensors"), str(tmp_path / "out")], capsys)
    assert "was cut off" in told
    assert not (tmp_path / "out").exists()


def test_weights_of_another_architecture_are_one_sentence(
    trial: Trial, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint whose header names one network and whose tensors are another's."""
    _, numbers = tensor_file.load(trial.folder / export.FINAL)
    other = dacs(SMOKE).network.build(12)
    tensor_file.save(tmp_path / "other.safetensors", dict(other.state_dict()), numbers)
    told = refused([str(tmp_path / "other.safetensors"), str(tmp_path / "out")], capsys)
    assert "another architecture than the HRDA" in told


def test_a_file_without_a_description_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tensors alone do not say which network they are."""
    save_file({"weight": torch.ones(2)}, tmp_path / "plain.safetensors")
    assert "--network" in refused([str(tmp_path / "plain.safetensors"), str(tmp_path / "out")], capsys)


@pytest.mark.parametrize(
    "numbers", ["null", "[]", "1", '"abc"', "{", "[" * 100_000, '{"model": null}', '{"model": []}']
)
def test_a_header_of_something_else_is_one_sentence(
    numbers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where a checkpoint has its numbers and its network's description."""
    save_file({"weight": torch.ones(2)}, tmp_path / "odd.safetensors", metadata={"numbers": numbers})
    assert str(tmp_path / "odd.safetensors") in refused(
        [str(tmp_path / "odd.safetensors"), str(tmp_path / "out")], capsys
    )


def test_no_code_in_a_file_is_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pickle that would make a folder when it is loaded."""
    monkeypatch.setitem(export.PUBLISHED, "hrda", hrda(SMOKE).network)
    written = tmp_path / "written"

    class Payload:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(written),)

    bad, out = tmp_path / "bad.pth", tmp_path / "out"
    bad.write_bytes(pickle.dumps({"state_dict": Payload()}, protocol=2))
    for more in ([], ["--network", "hrda"]):
        refused([str(bad), str(out), *more], capsys)
    assert not written.exists()
    assert not out.exists()


def test_a_model_folder_that_was_damaged_is_one_sentence(trial: Trial, tmp_path: Path) -> None:
    """Weights cut off, a description that is no JSON or another's, and a folder without a model."""
    export.main([str(trial.folder), str(tmp_path)])
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"was cut off .*; export the model again"):
        load_model(tmp_path)
    (tmp_path / WEIGHTS).write_bytes(whole)
    described = json.loads((tmp_path / CONFIG).read_text())
    for content, sentence in [
        ("{", "must be JSON"),
        ("[]", "must have format 1"),
        (json.dumps(described | {"format": 9}), "must have format 1, got 9"),
        (json.dumps(described | {"network": {"class": "Nothing"}}), "does not fit"),
        (json.dumps(described | {"network": SmallDeepLabJson}), "another architecture than the SmallDeepLab"),
    ]:
        (tmp_path / CONFIG).write_text(content)
        with pytest.raises(ValueError, match=sentence):
            load_model(tmp_path)
    with pytest.raises(ValueError, match="but is none"):
        load_model(tmp_path / "elsewhere")


def test_weights_and_description_of_two_exports_are_not_taken_for_one_model(trial: Trial, tmp_path: Path) -> None:
    """Killed between the two files; an old one may be of earlier code. A description may be edited by hand."""
    export.main([str(trial.folder), str(tmp_path)])
    model, description, former = load_model(tmp_path), tmp_path / CONFIG, json.loads((tmp_path / CONFIG).read_text())
    later = replace(model, description=replace(model.description, classes=model.description.classes[::-1]))
    with mock.patch.object(exported, "replacing", side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        save_model(later, tmp_path)
    earlier = {key: value for key, value in former.items() if key != exported.EXPORT}
    for content in (former, earlier):
        description.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=r"of two exports, of which one was interrupted; export the model again"):
            load_model(tmp_path)
    save_model(later, tmp_path)
    assert load_model(tmp_path).description == later.description
    edited = json.loads(description.read_text()) | {"size": [64, 128]}
    description.write_text(json.dumps(edited))
    assert load_model(tmp_path).description.size == (64, 128)
    tensor_file.save(tmp_path / WEIGHTS, dict(later.segmentor.state_dict()), {"step": 2})
    description.write_text(json.dumps(earlier))
    assert load_model(tmp_path).description == model.description


SmallDeepLabJson = {"class": "SmallDeepLab", "widths": [8, 16, 24], "norm": "group", "rates": [1, 2]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "count"), [(dacs, 43_219_846), (daformer, 85_155_283), (hrda, 85_685_990), (mic, 85_685_990)]
)
def test_at_full_size_the_exported_model_is_the_student_at_the_baselines_cost(
    make: Any, count: int, tmp_path: Path
) -> None:
    """Random weights, trained with MFM: equal logits, the published parameter counts, and as many operations as the
    network of the baseline."""
    config = make(PAPER, mfm(PAPER))
    student = built(config.network).to(memory_format=torch.channels_last)
    model = describe(config, CITYSCAPES_CLASSES, MEAN, STD, 1).to_json()
    tensor_file.save(tmp_path / "final.safetensors", dict(student.state_dict()), {"step": 1, "model": model})
    assert export.main([str(tmp_path / "final.safetensors"), str(tmp_path / "model")]) == 0
    exported = load_model(tmp_path / "model").segmentor
    image = torch.rand(1, 3, 128, 256).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        assert torch.equal(exported.predict(image), student.predict(image))
    assert parameter_count(exported) == count
    with torch.device("meta"):
        baseline = make(PAPER).network.build(19).eval()
    assert parameter_count(baseline) == count
    assert operations(exported.to("meta")) == operations(baseline) > 0


def operations(segmentor: Segmentor) -> int:
    """Floating-point operations of a prediction at a training crop's size, counted without computing them."""
    off = mock.patch.object(torch, "autocast", return_value=nullcontext())  # the meta device has none
    with off, FlopCounterMode(display=False) as counter, torch.no_grad():
        segmentor.predict(torch.empty(1, 3, 1024, 1024, device="meta"))
    return counter.get_total_flops()
