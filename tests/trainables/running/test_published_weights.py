"""An encoder that starts from published weights: by file, from the hub's cache, and by the command that gets them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save, save_file

from mfm_tune import run
from mfm_tune.identity import config_id
from mfm_tune.ledger.state import read_ledger
from mfm_tune.program import PublishedWeights
from tests.trainables.models.loopback_hub import Hub, loopback_hub, use
from tests.trainables.running.from_published import FROM_PUBLISHED
from tests.trainables.trained import TINY_CITY
from trainables.config import Experiment, SmallDeepLab
from trainables.data.domains import open_domains
from trainables.program import Segmentation
from trainables.randomness import Streams
from trainables.recipes import SMOKE, dacs
from trainables.running.initial import begin, check_weights

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
SPACE = '''"""One config, from published weights."""
from mfm_tune.space import Axis, Study, Table
from tests.trainables.running.from_published import RESNET18
from trainables.program import Segmentation

AXIS = Axis(name="threshold", levels=((0.9, None),), make=lambda value: RESNET18)
TABLES = (Table(name="a", title="A", axis=AXIS),)
STUDY = Study(name="one", title="One", profile="smoke", program=Segmentation(), tables=TABLES, seeds=(0,))
'''
CONFIG = replace(FROM_PUBLISHED, data=TINY_CITY)
Command = Callable[..., subprocess.CompletedProcess[str]]
NAME = "owner/small/model.safetensors"


def published() -> dict[str, torch.Tensor]:
    """Tensors that no seed gives, and a classifier beside them."""
    encoder = CONFIG.network.build(3).encoder
    tensors = {name: torch.full_like(tensor, 0.25) for name, tensor in encoder.state_dict().items()}
    return {**tensors, "fc.weight": torch.zeros(10, 3)}


def started(config: Experiment, data: dict[str, str], shared: Path) -> dict[str, torch.Tensor]:
    """The encoder's tensors before step 0."""
    state = begin(config, Streams(0), open_domains(config, {}, CPU), shared, data, CPU)
    return dict(state.student.encoder.state_dict())


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that has the weights."""
    with loopback_hub() as hub:
        hub.files[NAME] = save(published())
        use(monkeypatch, hub.endpoint, tmp_path / "cache")
        yield hub


def test_a_config_names_its_weights_without_changing_ids_of_others() -> None:
    """A new class, so that configs without it keep their ids; the program names the file once."""
    assert isinstance(Segmentation(), PublishedWeights)
    assert [each.name for each in Segmentation().weights([CONFIG, CONFIG, dacs(SMOKE)])] == ["small"]
    assert config_id(CONFIG) != config_id(replace(CONFIG, initial=None))


def test_only_an_encoder_with_published_weights_starts_from_them() -> None:
    """Else the network would be trained from random weights, or the error would come in the worker."""
    with pytest.raises(
        ValueError, match="takes an encoder whose weights are published by name, such as Timm, got SmallDeepLab"
    ):
        replace(CONFIG, network=SmallDeepLab())


def test_a_given_file_is_what_training_starts_from(tmp_path: Path, hub: Hub) -> None:
    """And the hub is not asked."""
    save_file(published(), tmp_path / "mine.safetensors")
    found = started(CONFIG, {"small": str(tmp_path / "mine.safetensors")}, tmp_path)
    assert all(bool((tensor == 0.25).all()) for tensor in found.values())
    assert hub.asked == []


def test_a_trial_takes_the_hubs_cache_and_never_the_network(tmp_path: Path, hub: Hub) -> None:
    """Without either it is one sentence before anything is trained."""
    with pytest.raises(
        ValueError, match=r"initial needs the weights 'small' \(owner/small .*; add --download, or --data"
    ):
        check_weights(CONFIG, {})
    assert hub.asked == []
    (weights,) = Segmentation().weights([CONFIG])
    weights.download(lambda line: None)
    check_weights(CONFIG, {})
    assert all(bool((tensor == 0.25).all()) for tensor in started(CONFIG, {}, tmp_path).values())


def test_a_file_of_another_architecture_never_passes_for_weights(tmp_path: Path) -> None:
    """Not one tensor may be missing: the first that is, is named."""
    tensors = published()
    name = next(iter(tensors))
    path = tmp_path / "other.safetensors"
    for wrong in (
        {f"other.{key}": value for key, value in tensors.items()},
        {k: tensors[k] for k in tensors if k != name},
    ):
        save_file(wrong, path)
        with pytest.raises(
            ValueError, match=rf"other\.safetensors is of another architecture .* missing \(first: {name}"
        ):
            started(CONFIG, {"small": str(path)}, tmp_path)


def test_a_given_file_that_is_none_is_refused_by_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut off, say; and a name that the study does not know."""
    space, half = tmp_path / "space_of_one.py", tmp_path / "half.safetensors"
    space.write_text(SPACE)
    half.write_bytes(save(published())[:200])
    assert run.main([str(space), "--plan", "--data", f"resnet18={half}"]) == 2
    assert "is cut off or something else" in capsys.readouterr().err
    assert run.main([str(space), "--plan", "--data", f"resnet50={half}"]) == 2
    assert "does not know; it knows resnet18." in capsys.readouterr().err


@pytest.fixture
def command(tmp_path: Path, hub: Hub) -> Command:
    """Runs the study of one ResNet-18 in a process of its own, with the hub that has its weights."""
    space = tmp_path / "space_of_one.py"
    space.write_text(SPACE)
    torch.manual_seed(1)
    hub.files["timm/resnet18.a1_in1k/model.safetensors"] = save(timm.create_model("resnet18").state_dict())
    variables = {"HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"), "NO_PROXY": "127.0.0.1"}

    def run_command(*options: str, **more: str) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-m", "mfm_tune.run", str(space), "--storage", str(tmp_path / "runs")]
        environment = os.environ | variables | more
        return subprocess.run(
            [*arguments, "--no-tracking", *options], capture_output=True, text=True, cwd=ROOT, env=environment
        )

    return run_command


@pytest.mark.slow
def test_weights_are_got_once_by_command_and_then_the_hub_may_be_away(
    command: Command, tmp_path: Path, hub: Hub
) -> None:
    """Unasked nothing is got; once with --download, through Ray; then offline."""
    refused = command("--plan")
    assert (refused.returncode, refused.stderr.count("\n"), hub.asked) == (2, 1, [])
    assert "'resnet18' (timm/resnet18.a1_in1k (model.safetensors) of http://127.0.0.1" in refused.stderr
    trained = command("--download")
    assert trained.returncode == 0, trained.stderr
    assert "Downloading 'resnet18': timm/resnet18.a1_in1k (model.safetensors) of http://127.0.0.1" in trained.stdout
    assert ", licence apache-2.0, 46.8 MB, into " in trained.stdout
    assert hub.contents_sent == 1
    hub.files.clear()
    hub.asked.clear()
    again = command("--seeds", "1", "--inline", HF_HUB_OFFLINE="1")
    assert again.returncode == 0, again.stderr
    assert hub.asked == []
    assert len(read_ledger(tmp_path / "runs" / "ledger.jsonl").trials) == 2


@pytest.mark.slow
def test_a_download_that_is_not_what_it_should_be_trains_nothing(command: Command, tmp_path: Path, hub: Hub) -> None:
    """Another checksum, say: one sentence, and neither the storage nor the cache has any of it."""
    hub.corrupt = True
    refused = command("--download", "--inline")
    assert (refused.returncode, refused.stderr.count("do not have the checksum")) == (2, 1)
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "runs").exists()
    assert not list(tmp_path.glob("home/**/*.safetensors"))
