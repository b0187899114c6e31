"""The walks of `docs/extend.md`: each is one file, complete as it stands there, and nothing else is changed for it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mfm_tune import run
from tests.docs.pages import DOCS, ROOT, blocks
from tests.test_typing import checked
from tests.trainables.data import native_files as native
from tests.trainables.tasks.training import names, reached, smoke, stepped, with_hrda
from trainables.config import HRDA, Segmenter, SelfTraining
from trainables.data.__main__ import main as data
from trainables.recipes import SMOKE, mfm

WALKS = dict(blocks(DOCS / "extend.md"))
TOGETHER = "ours.py"
ALONE = [name for name in WALKS if name != TOGETHER]
SIZE = (72, 128)
pytestmark = pytest.mark.timeout(600)  # processes that import torch start slowly on a busy machine
OWN_NETWORKS = {"encoder": "convnext", "head": "fpn", "all": "convnext"}  # row -> the file that is missed first
PLAIN_NETWORKS = ("DACS", "task", "mixer")
COMMANDS = """
import contextlib, importlib, io, json, sys
for module, arguments in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        status = importlib.import_module(module).main(arguments)
    print(json.dumps([status, said.getvalue().splitlines()[-1]]))
"""


def test_there_are_six_walks_of_at_most_60_lines() -> None:
    """A task, a mixer, an encoder, a head, a data set, and a search space of all."""
    lines = {name: text.count("\n") for name, text in WALKS.items()}
    assert list(lines) == [
        "deep_supervision.py", "balanced_mix.py", "convnext.py", "fpn.py", "harbour.py", "ours.py"
    ]  # fmt: skip
    assert max(lines.values()) <= 60, lines


def write(folder: Path, names: Sequence[str]) -> Path:
    """Some of the files, as the page has them."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_text(WALKS[name], encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What follows `--data`: a GTA of drawn images, and a harbour that the walk's own file reads."""
    root = tmp_path_factory.mktemp("data")
    for number in range(8):
        image = native.smooth(*SIZE, number)
        native.gta(root / "gta", f"{number:05d}", image, native.blocks(*SIZE, [7, 8, 11, 23, 24, 26], number, 12))
        for drive in ("day", "night"):
            native.write(root / f"harbour/{drive}/rgb/{number}.jpg", native.png(image))
            ids = native.blocks(*SIZE, list(range(7)), number, 12)
            native.write(root / f"harbour/{drive}/ids/{number}.png", native.png(ids))
    code = ["--code", str(write(root, ["harbour.py"]) / "harbour.py")]
    for name, options in (("gta", []), ("harbour", code)):
        given = [name, *options, "--root", str(root / name), "--out", str(root / f"{name}-store")]
        assert data(["prepare", *given, "--size", "144x256"]) == 0
    return [f"{name}={root / name}-store" for name in ("gta", "harbour")]


def tree() -> dict[str, tuple[int, int]]:
    """Size and time of each file of the packages."""
    files = (path for room in ("mfm_tune", "trainables", "search_spaces") for path in (ROOT / room).rglob("*"))
    found = {str(path): path.stat() for path in files if path.is_file() and "__pycache__" not in path.parts}
    return {name: (state.st_size, state.st_mtime_ns) for name, state in found.items()}


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the walks that are run alone keep their results: they have a baseline in common."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture
def fresh_imports(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a file of one's own leaves in the process is gone afterwards."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in WALKS:
        sys.modules.pop(name.removesuffix(".py"), None)


@pytest.mark.usefixtures("fresh_imports")
@pytest.mark.parametrize("name", ALONE)
def test_each_file_alone_trains_and_reports(name: str, stores: list[str], storage: Path, tmp_path: Path) -> None:
    """In a folder that holds nothing else."""
    needs = ["--data", *stores] if name == "harbour.py" else []
    options = ["--profile", "smoke", "--seeds", "0", "--inline", "--no-tracking", "--storage", str(storage)]
    assert run.main([str(write(tmp_path, [name]) / name), *options, *needs]) == 0
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == [name]


@pytest.mark.usefixtures("fresh_imports")
def test_the_parts_go_together_under_hrda_and_beside_mfm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step: the task's head learns, the mixer remembers, every part of the network is reached."""
    monkeypatch.syspath_prepend(str(write(tmp_path, ALONE)))
    encoder = import_module("convnext").SmallConvNeXt(width=8)
    base = Segmenter(encoder=encoder, head=import_module("fpn").FPN(width=8))
    mixer = import_module("balanced_mix").BalancedMix()
    task = import_module("deep_supervision").DeepSupervision()
    state = stepped(
        replace(
            with_hrda(smoke(task, mfm(SMOKE))),
            network=HRDA(base=base, detail_crop=(32, 32), attention_dim=8),
            adaptation=SelfTraining(threshold=0.0, mixer=mixer),
        )
    )
    assert {"0.head.weight", "0.head.bias"} <= reached(state.tasks)
    assert names(state.student) == reached(state.student)
    assert state.mixer is not None
    assert float(state.mixer.get_buffer("counts").sum()) > 0


def python(*arguments: str, cwd: Path, stdin: str = "") -> str:
    """What a process of its own prints; it knows the installed packages alone, and must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, input=stdin, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def commands(folder: Path, *lines: tuple[str, list[str]]) -> list[tuple[int, str]]:
    """Status and last line of each command, all of them typed in one process."""
    printed = python("-c", COMMANDS, cwd=folder, stdin=json.dumps(lines))
    return [(status, line) for status, line in map(json.loads, printed.splitlines())]


@pytest.fixture(scope="module")
def trained(stores: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the six files in `code`, and what Ray has trained of them."""
    folder = tmp_path_factory.mktemp("together")
    space = write(folder / "code", list(WALKS)) / TOGETHER
    options = ["--profile", "smoke", "--seeds", "0", "--no-tracking", "--storage", "runs", "--data", *stores]
    before = tree()
    python("-m", "mfm_tune.run", str(space), *options, cwd=folder)
    assert tree() == before
    return folder


def trials(folder: Path) -> dict[str, dict[str, str]]:
    """The report's line of each trial, by the name of its row."""
    with open(folder / "runs/reports/ours-smoke/tables/trials.csv", encoding="utf-8") as file:
        return {row["name"].removeprefix("ours "): row for row in csv.DictReader(file)}


@pytest.mark.slow
def test_all_of_them_train_through_ray_and_are_reported(trained: Path) -> None:
    """The baseline and five rows, finished and scored; both terms of the task are logged."""
    rows = trials(trained)
    assert set(rows) == {*PLAIN_NETWORKS, *OWN_NETWORKS}
    assert {row["outcome"] for row in rows.values()} == {"finished"}
    assert all(0 <= float(row["student/miou"]) <= 100 for row in rows.values())
    for name in ("task", "all"):
        terms = [float(rows[name][f"loss/deep{term}"]) for term in (" source", " target", "")]
        assert terms[0] + terms[1] == pytest.approx(terms[2])
        assert min(terms) > 0
    assert rows["mixer"]["loss/mixed"] != rows["DACS"]["loss/mixed"]


@pytest.mark.slow
def test_models_are_exported_and_predict_where_their_file_is_and_are_one_sentence_where_it_is_not(
    trained: Path,
) -> None:
    """Files are needed by networks of one's own; tasks, mixers and data sets leave nothing in a model."""
    Image.fromarray(native.smooth(*SIZE, 1)).save(trained / "street.png")
    configs = {name: row["config_id"] for name, row in trials(trained).items()}

    def used(name: str, out: str, *options: str) -> list[tuple[str, list[str]]]:
        trial = next(trained.glob(f"runs/trials/{configs[name]}/s0-*"))
        return [
            ("trainables.export", [str(trial), f"models/{name}", *options]),
            ("trainables.predict", [f"models/{name}", "street.png", "--out", f"{out}/{name}", *options]),
        ]

    code = [option for file in ("convnext", "fpn") for option in ("--code", f"code/{file}.py")]
    answers = commands(trained, *(line for name in configs for line in used(name, "with", *code)))
    assert {status for status, _ in answers} == {0}
    assert all((trained / "with" / name / "street_labels.png").is_file() for name in configs)

    answers = commands(trained, *(line for name in PLAIN_NETWORKS for line in used(name, "without")))
    assert {status for status, _ in answers} == {0}
    answers = commands(trained, *(line for name in OWN_NETWORKS for line in used(name, "without")))
    for file, (status, line) in zip(np.repeat(list(OWN_NETWORKS.values()), 2), answers, strict=True):
        assert status == 2
        assert line.endswith(f" of {file}, which is not loaded; give its file with --code {file}.py.")


@pytest.mark.slow
def test_the_files_are_strictly_typed(tmp_path: Path) -> None:
    """As `mypy --strict` sees them beside the installed packages."""
    pytest.importorskip("mypy")
    assert "Success: no issues found in 6 source files" in checked(write(tmp_path, list(WALKS)))
