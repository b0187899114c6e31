"""Published weights from the command line: given, found on this machine, or got with --download; never unasked."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mfm_tune.commands.options import parse_options
from mfm_tune.commands.session import Session
from mfm_tune.planning.loading import load_search_space
from mfm_tune.run import main
from tests.mfm_tune.stub_space import forgotten_after, write_space

BODY = '''
import json, shutil
from pathlib import Path

HERE = Path(__file__).parent

class Weights:
    """Published in one folder, cached in another."""
    def __init__(self, name):
        self.name = name
    def description(self):
        if self.name == "withdrawn":
            raise ValueError("Nothing is published as 'withdrawn'; choose another.")
        return f"{self.name}.safetensors of the hub, licence mit"
    def cached(self):
        path = HERE / "cache" / self.name
        return str(path) if path.exists() else None
    def download(self, say):
        say(f"Downloading {self.description()}")
        if not (HERE / "hub" / self.name).exists():
            raise ValueError("The hub cannot be reached; start the same command again.")
        (HERE / "cache").mkdir(exist_ok=True)
        return str(shutil.copy(HERE / "hub" / self.name, HERE / "cache" / self.name))

class Named(StubProgram):
    def weights(self, configs):
        return [Weights(name) for name in dict.fromkeys(NAMES[config.level] for config in configs)]
    def open(self, config, *, data, folder, **others):
        Path(folder, "data.json").write_text(json.dumps({k: Path(v).read_text() for k, v in data.items()}))
        return super().open(config, data=data, folder=folder, **others)

NAMES = {1: "small", 2: "large"}
STUDY = study("smoke", program=Named())
'''
SEARCH = BODY.replace(
    'STUDY = study("smoke", program=Named())',
    """
from mfm_tune.search_space import Choice, Search
SEARCH = Search(name="s", title="S", profile="smoke", program=Named(), parameters={"level": Choice((1, 2))},
                make=lambda values: StubConfig(level=values["level"]), baselines={"one": StubConfig(level=1)}, trials=2,
                confirm=1)
""",
)
Run = Callable[..., int]


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    """Where the weights `small` and `large` are published."""
    folder = tmp_path / "hub"
    folder.mkdir()
    for name in ("small", "large"):
        (folder / name).write_text(f"tensors of {name}")
    return folder


@pytest.fixture
def run(tmp_path: Path, hub: Path) -> Run:
    """Runs a command on a study of two configs, each with weights of its own."""

    def run_command(*options: str, body: str = BODY) -> int:
        path = write_space(tmp_path, body)
        with forgotten_after(tmp_path):
            return main([str(path), "--storage", str(tmp_path / "storage"), "--inline", "--no-tracking", *options])

    return run_command


def given_to_trials(storage: Path) -> list[dict[str, str]]:
    """What the files were that the trials were handed."""
    return [json.loads(path.read_text()) for path in storage.rglob("data.json")]


@pytest.mark.parametrize("option", ["--plan", "--probe", "--seeds=0"])
def test_nothing_is_downloaded_unasked(
    run: Run, tmp_path: Path, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is one sentence with exit code 2, by a plan too, and before anything is written."""
    assert run(option) == 2
    assert capsys.readouterr().err == (
        "Weights to start from are neither given nor on this machine: 'small' (small.safetensors of the hub, licence "
        "mit), 'large' (large.safetensors of the hub, licence mit); nothing is downloaded unasked, so add --download, "
        "or give files by --data small=PATH large=PATH.\n"
    )
    assert not (tmp_path / "storage").exists()
    assert not (tmp_path / "cache").exists()


def test_a_plan_says_what_would_be_got_and_gets_nothing(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The network is for runs."""
    assert run("--plan", "--download") == 0
    assert "--download would get 'large': large.safetensors of the hub, licence mit.\n" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def test_what_was_got_once_serves_the_next_run(
    run: Run, tmp_path: Path, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trials are handed the files; the second run needs neither the option nor the hub."""
    assert run("--seeds=0", "--download") == 0
    assert capsys.readouterr().out.count("Downloading") == 2
    everything = {"small": "tensors of small", "large": "tensors of large"}
    assert given_to_trials(tmp_path / "storage") == [everything] * 2
    for path in hub.iterdir():
        path.unlink()
    assert run("--seeds=1") == 0
    assert "Downloading" not in capsys.readouterr().out
    assert given_to_trials(tmp_path / "storage") == [everything] * 4


def test_a_download_that_fails_trains_nothing(
    run: Run, tmp_path: Path, hub: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the program's reason is, exit code 2."""
    (hub / "large").unlink()
    assert run("--download") == 2
    assert capsys.readouterr().err == "The hub cannot be reached; start the same command again.\n"
    assert not (tmp_path / "storage" / "ledger.jsonl").exists()
    assert run("--plan", body=BODY.replace('2: "large"', '2: "withdrawn"')) == 2
    assert capsys.readouterr().err == "Nothing is published as 'withdrawn'; choose another.\n"


def test_given_files_are_taken_instead(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Under the name of what is published; another name is refused with those that are known."""
    mine = tmp_path / "mine"
    mine.write_text("my own")
    assert run("--seeds=0", "--data", f"small={mine}", f"large={mine}") == 0
    assert given_to_trials(tmp_path / "storage") == [{"small": "my own", "large": "my own"}] * 2
    capsys.readouterr()
    assert run("--plan", "--data", f"smal={mine}") == 2
    assert "does not know; it knows small, large." in capsys.readouterr().err


def test_a_search_finds_the_weights_of_what_it_chooses_among(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Not of its baselines alone: a point that lacks its weights would end the search in its middle."""
    assert run("--plan", body=SEARCH) == 2
    assert "--data small=PATH large=PATH" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--simulate", "--report-only"])
def test_what_trains_nothing_needs_no_weights(run: Run, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A report is written where weights never were; asking it to download is refused."""
    assert run("--seeds=0", "--download") == 0
    assert run(option, body=BODY.replace('HERE / "cache"', 'HERE / "elsewhere"')) == 0
    capsys.readouterr()
    assert run(option, "--download") == 2
    assert f"{option} trains nothing; give one of them." in capsys.readouterr().err


@pytest.fixture
def session(tmp_path: Path, hub: Path) -> Iterator[Session]:
    """A run on a cluster that gets its weights."""
    path = write_space(tmp_path, BODY)
    with forgotten_after(tmp_path):
        loaded = load_search_space(path)
        options = parse_options([str(path), "--storage", str(tmp_path / "storage"), "--address=h:1", "--download"])
        yield Session(options, loaded, loaded.declared["smoke"])


def test_trials_of_a_cluster_read_weights_from_the_storage(session: Session, tmp_path: Path) -> None:
    """Other nodes have no cache of the hub's, and often no way to it; a copy is made once, named by its content."""
    session.find_weights()
    data = session.engine_options().data
    folder = tmp_path / "storage" / "shared" / "weights"
    assert {Path(path).parent for path in data.values()} == {folder}
    assert Path(data["large"]).read_text() == "tensors of large"
    first = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert session.engine_options().data == data
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == first
    (tmp_path / "cache" / "large").write_text("other tensors")
    assert session.engine_options().data["large"] != data["large"]
    assert len(list(folder.iterdir())) == 3
