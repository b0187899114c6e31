"""A model as a graph for other programs: equal logits, or one sentence and no file; and the card beside each model."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.export import ExportedProgram

from mfm_tune.ledger.events import config_event, start_event
from mfm_tune.ledger.file import LedgerWriter
from mfm_tune.ledger.records import Trial as Planned
from mfm_tune.ledger.storage import Export, Storage
from mfm_tune.tracking.mirror import ENVIRONMENT, Target
from mfm_tune.tracking.process import Mirroring
from tests.trainables.trained import finished_trial, tiny
from trainables import export
from trainables.config import Network, SmallDeepLab
from trainables.inference import graph
from trainables.inference.card import CARD
from trainables.inference.graph import FILES, Format
from trainables.inference.model import load_model
from trainables.models.segmentor import Segmentor
from trainables.predict import label_image
from trainables.recipes import SMOKE, dacs, daformer, hrda, mfm, segformer
from trainables.running.trial import Trial

KEY, FOLDER = "0123456789ab-s0-01234567", "trials/0123456789ab/s0-01234567"


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage folder with one finished trial of DACS with MFM, and two more seeds in its ledger."""
    storage = tmp_path_factory.mktemp("storage")
    config = tiny(dacs(SMOKE, mfm(SMOKE)))
    trial = finished_trial(storage / FOLDER, config)
    trial.close()
    ledger = LedgerWriter(storage / "ledger.jsonl")
    for seed, miou in enumerate((50.0, 51.0, 52.0)):
        planned = Planned(
            key=KEY.replace("s0", f"s{seed}"),
            config=config,
            config_id=KEY[:12],
            seed=seed,
            fingerprint="01234567" * 8,
            folder=FOLDER.replace("s0", f"s{seed}"),
            planned_steps=2,
            cost_class="c",
            benchmark="b",
        )
        steps = {"step": 2, "planned_steps": 2, "executed_steps": 2}
        ledger.append(config_event(planned))
        ledger.append(start_event(planned, launch="l", attempt=1, study="s", profile="smoke"))
        ledger.append({"event": "report", "key": planned.key, "metrics": {"student/miou": miou}, **steps})
        ledger.append({"event": "end", "key": planned.key, "outcome": "finished", "step": 2, "wall_s": 1.0})
    ledger.close()
    return storage


@pytest.fixture(scope="module")
def model(storage: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trial's model, without a graph."""
    folder = tmp_path_factory.mktemp("models") / "mine"
    assert export.main([str(storage / FOLDER), str(folder)]) == 0
    return folder


def by_hand(folder: Path, image: Tensor) -> Tensor:
    """Logits by the package's own way, from pixel values [1, 3, H, W]."""
    loaded = load_model(folder)
    pixels = image.permute(0, 2, 3, 1)
    with torch.no_grad():
        return loaded.segmentor.predict(loaded.normalised(pixels))


def run_program(path: Path) -> Callable[[Tensor], Tensor]:
    """A program, without this package's classes."""
    loaded: Callable[[Tensor], Tensor] = torch.export.load(path).module()
    return loaded


def run_onnx(path: Path) -> Callable[[Tensor], Tensor]:
    """ONNX Runtime on a file."""
    session = pytest.importorskip("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: torch.from_numpy(session.run(None, {"image": image.numpy()})[0])


@pytest.mark.parametrize(("kind", "run"), [(Format.TORCH_EXPORT, run_program), (Format.ONNX, run_onnx)])
def test_a_graph_has_the_networks_logits(
    model: Path, tmp_path: Path, kind: Format, run: Callable[[Path], Callable[[Tensor], Tensor]]
) -> None:
    """To 1e-5, on images that the check did not use; normalisation is part of the graph."""
    if kind is Format.ONNX:
        pytest.importorskip("onnxscript")
    folder = tmp_path / "mine"
    shutil.copytree(model, folder)
    before = (folder / CARD).read_text()
    assert export.main([str(folder), str(folder), "--format", kind.value]) == 0
    for seed in range(2):
        image = torch.randint(0, 256, (1, 3, 32, 64), generator=torch.Generator().manual_seed(seed)).float()
        own, written = by_hand(folder, image.to(torch.uint8)), run(folder / FILES[kind])(image)
        assert written.shape == own.shape == (1, 12, 32, 64)
        assert (written - own).abs().max() <= 1e-5 * own.abs().max().clamp(min=1)
        assert torch.equal(written.argmax(dim=1), own.argmax(dim=1))
    assert (folder / CARD).read_text() == before
    assert not list(folder.glob(".*"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("make", [daformer, hrda, segformer])
def test_every_family_becomes_a_graph(make: Any, kind: Format, tmp_path: Path) -> None:
    """Transformers and HRDA's windows, from a trial at once."""
    if kind is Format.ONNX:
        pytest.importorskip("onnxscript")
    trial = finished_trial(tmp_path / "trial", tiny(make(SMOKE)))
    assert export.main([str(trial.folder), str(tmp_path / "model"), "--format", kind.value]) == 0
    assert (tmp_path / "model" / FILES[kind]).is_file()


def test_an_export_over_another_one_takes_its_graphs_and_the_notes_of_it_with_it(
    storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph of other weights is not a part of the model, and no tracker is led to a model that is half written."""
    copy, folder = shutil.copytree(storage, tmp_path / "storage"), tmp_path / "model"
    folder.mkdir()
    for name in FILES.values():
        (folder / name).write_text("a graph of earlier weights")
    note, other = (copy / export.NOTES / f"{key}.json" for key in (KEY, KEY.replace("s0", "s1")))
    note.parent.mkdir(exist_ok=True)
    for path in (note, other):
        path.write_text(json.dumps({"model": str(folder)}))
    with mock.patch.object(export, "write_card", side_effect=RuntimeError("killed")), pytest.raises(RuntimeError):
        export.main([str(copy / FOLDER), str(folder)])
    assert not list(note.parent.iterdir())
    assert export.main([str(copy / FOLDER), str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == [CARD, "config.json", "model.safetensors"]
    assert list(note.parent.iterdir()) == [note]
    assert f"Removed {folder / FILES[Format.ONNX]}: it is of the weights that are replaced." in capsys.readouterr().err
    graph_file = folder / FILES[Format.ONNX]
    graph_file.write_text("a graph of these weights")
    assert export.main([str(copy / FOLDER), str(folder)]) == 0
    assert graph_file.exists()


@dataclass(frozen=True, kw_only=True, slots=True)
class Undecided(Network):
    """A network whose way depends on what it sees, which no graph holds."""

    def build(self, num_classes: int) -> Segmentor:
        built = SmallDeepLab(widths=(8, 16, 24)).build(num_classes)
        predict = built.predict
        built.predict = lambda image: predict(image) if image.sum() > 0 else -predict(image)  # type: ignore[method-assign]
        return built


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The last line that a refused command prints."""
    assert export.main(argv) == 2
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    return told.err.splitlines()[-1]


def test_a_network_that_cannot_be_a_graph_is_refused_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And nothing half-written is left; the model itself is there."""
    from dataclasses import replace

    trial = finished_trial(tmp_path / "trial", tiny(replace(dacs(SMOKE), network=Undecided())))
    told = refused([str(trial.folder), str(tmp_path / "model"), "--format", "torch-export"], capsys)
    assert told.startswith("A Undecided cannot be written as torch-export (")
    assert told.endswith("use the model without --format, which Python reads.")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [CARD, "config.json", "model.safetensors"]


def test_a_graph_with_other_logits_is_not_written(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exporter that gets an operation wrong."""
    folder = tmp_path / "mine"
    shutil.copytree(model, folder)

    def wrong(program: ExportedProgram, image: Tensor, path: Path) -> Callable[[Tensor], Tensor]:
        own = graph._write_program(program, image, path)
        return lambda pixels: own(pixels) + 1e-3

    with mock.patch.dict(graph.WRITERS, {Format.TORCH_EXPORT: wrong}):
        told = refused([str(folder), str(folder), "--format", "torch-export"], capsys)
    assert re.search(r"has other logits than the network \(by .+ of the largest, 1e-05 are allowed\)", told)
    assert not (folder / FILES[Format.TORCH_EXPORT]).exists()


def test_the_network_of_an_exported_model_is_its_own(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another one is refused, and not passed over."""
    told = refused([str(model), str(model), "--network", "hrda", "--format", "torch-export"], capsys)
    assert told.startswith(f"--network must be given with a published checkpoint, but {model} is an exported model")
    told = refused([str(model), f"{model}-2"], capsys)
    assert told.startswith(f"{model} is an exported model already; use it as it is, or give --format for a graph.")


def test_missing_packages_are_named(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the way to get them."""
    with mock.patch.object(graph, "find_spec", return_value=None):
        told = refused([str(model), str(model), "--format", "onnx"], capsys)
    assert told.startswith("--format onnx needs onnx, onnxscript, onnxruntime; install them")


def test_the_card_has_score_interval_config_and_licence(model: Path) -> None:
    """What the ledger knows: the trial's own score, the mean over seeds with its interval, the whole config."""
    page = (model / CARD).read_text()
    assert f"trial `{KEY}` (seed 0, step 2)" in page
    assert "student/miou 50.0 on the labelled target images; over 3 seeds 51.0 (95 % interval 48.5 to 53.5)" in page
    assert "began with random numbers" in page
    config = json.loads(page.split("```json\n")[1].split("```")[0])
    assert config["auxiliary"][0]["class"] == "Mfm"
    for heading in ("## Use", "## Cite", "| classes | road, "):
        assert heading in page


def test_the_cards_code_runs(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five lines of PyTorch, as they stand, beside the model's folder."""
    monkeypatch.chdir(model.parent)
    names: dict[str, Any] = {}
    exec((model / CARD).read_text().split("```python\n")[1].split("```")[0], names)
    assert names["classes"].shape == (1, 32, 64)


def test_without_a_ledger_the_card_says_how_to_measure(tmp_path: Path) -> None:
    """A trial's folder that was copied elsewhere, or whose ledger is broken."""
    trial: Trial = finished_trial(tmp_path / "a" / "b" / "c", tiny(dacs(SMOKE)))
    for text in (None, "{"):
        if text is not None:
            (tmp_path / "ledger.jsonl").write_text(text)
        assert export.main([str(trial.folder), str(tmp_path / "model")]) == 0
        assert "not known here; python -m trainables.evaluate measures it" in (tmp_path / "model" / CARD).read_text()


def test_a_trial_is_known_by_a_path_that_goes_up_and_down(storage: Path, tmp_path: Path) -> None:
    """Such as `../s0-...`, typed in the trial's folder."""
    copy = shutil.copytree(storage, tmp_path / "storage")
    up_and_down = copy / FOLDER / ".." / Path(FOLDER).name
    assert export.main([str(up_and_down), str(tmp_path / "model")]) == 0
    assert f"trial `{KEY}` (seed 0, step 2)" in (tmp_path / "model" / CARD).read_text()
    assert Storage(copy).export_of(KEY) is not None


def test_an_export_leaves_a_note_by_which_trackers_find_the_model(storage: Path, model: Path) -> None:
    """Beside the ledger that knows the trial, with the step and with whose scores are the model's."""
    files = ("model.safetensors", "config.json", "README.md", "model.pt2", "model.onnx")
    assert Storage(storage).export_of(KEY) == Export(
        model=model, files=files, step=2, scores="student/", loader="trainables.predict"
    )


@pytest.mark.slow
def test_mlflow_loads_the_model_by_the_module_that_the_note_names(
    storage: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exported, delivered and loaded from MLflow's artefacts, it labels images as `predict` does."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    copy = shutil.copytree(storage, tmp_path / "storage")
    Mirroring(Target(copy)).catch_up()
    pyfunc = importlib.import_module("mlflow.pyfunc")  # in the environment of before
    (folder,) = copy.glob("artifacts/*/models/*/artifacts")
    image = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    labels = pyfunc.load_model(str(folder)).predict(np.stack([image, image[::-1]]))
    assert labels.shape == (2, 48, 80)
    assert np.array_equal(labels[0], label_image(load_model(model), image))
