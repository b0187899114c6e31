"""The README as a newcomer takes it: short, and every command that it prints runs."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.benchmarks.cluster import add_nodes, simulated_cluster
from tests.docs.pages import DOCS, README, ROOT, Row, block, printed, rows
from tests.search_spaces.test_camvid import write_photographs

LONGEST = 150  # lines of the README
LOOK = "--profile smoke --seeds 0"  # what the pages add to look first
TRAINS = {  # what the rows that train are given besides; through Ray where it does not say otherwise
    "reproduce Table 2": f"{LOOK} --only case",
    "use my encoder": f"{LOOK} --inline --no-tracking",
    "add my method": f"{LOOK} --inline --no-tracking",
    "search": "--profile smoke --seeds 1 --inline --no-tracking",
    "use a cluster": f"{LOOK} --only case --no-tracking --storage cluster",
    "adapt between real images": f"{LOOK} --inline --no-tracking",
}
FILES = {"timm_study.py": "encoder study", "entropy_task.py": "auxiliary task", "entropy_study.py": "study of a task"}
UI = "python -m mfm_tune.ui"
REPRODUCE = (DOCS / "reproduce.md").read_text(encoding="utf-8")
NEWCOMERS = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run(command: str | Sequence[str], folder: Path, *options: str) -> str:
    """What a command prints that is given in a folder; it must succeed."""
    words = shlex.split(command) if isinstance(command, str) else list(command)
    assert words[0] == "python"
    done = subprocess.run(
        [sys.executable, *words[1:], *options],
        cwd=folder,
        env=os.environ | NEWCOMERS,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished study in `runs`, the files that the pages show, and images with labels."""
    folder = tmp_path_factory.mktemp("newcomer")
    options = ("--profile", "smoke", "--only", "lambda", "--seeds", "0,1", "--inline", "--no-tracking")
    run("python -m mfm_tune.run table2", folder, *options)
    for name, shown in FILES.items():
        (folder / name).write_text(block(shown))
    for kind, mode in (("images", "RGB"), ("labels", "L")):
        (folder / kind).mkdir()
        for number in range(3):
            pixels = np.full((40, 60, 3) if mode == "RGB" else (40, 60), number, np.uint8)
            Image.fromarray(pixels).save(folder / kind / f"{number}.png")
    (folder / "classes.csv").write_text("id,class\n0,road\n1,kerb\n2,car\n")
    write_photographs(folder / "store")
    return folder


@pytest.fixture(scope="module")
def head() -> Iterator[str]:
    """The address of a Ray cluster of one node, with its token in the environment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", os.environ.get("RAY_AUTH_MODE", "token"))  # and back again at the end
        with simulated_cluster() as cluster:
            add_nodes(cluster, 1, gpus=0, cpus=2)
            yield cluster.address


def filled(command: str, place: Path) -> str:
    """A command with the newcomer's own paths in the place of the capitals."""
    trial = next((place / "runs" / "trials").glob("*/s0*"))
    values = {"IMAGES": "images", "LABELS": "labels", "CLASSES": "classes.csv", "STORE": "store"}
    values |= {"TRIAL": str(trial), "MODEL": "models/mine"}
    for name, value in values.items():
        command = command.replace(name, value)
    return command


def test_the_front_page_is_short_and_its_table_has_ten_rows() -> None:
    """Each row with pages that exist and a command."""
    assert len(README.read_text(encoding="utf-8").splitlines()) <= LONGEST
    assert len(rows()) == 10
    for row in rows():
        assert row.pages, row.wish
        assert all((ROOT / page).is_file() for page in row.pages), row.wish
        assert row.command.startswith("python -m ")


def test_a_file_that_the_table_runs_is_its_pages_and_cannot_be_taken_for_a_shipped_one() -> None:
    """Without the page's file the command must not train another study of that name."""
    shipped = {path.name for path in (ROOT / "search_spaces").glob("*.py")}
    run_by_rows = {(row, Path(name)) for row in rows() for name in re.findall(r"run (\S+\.py)", row.command)}
    assert {path.name for _, path in run_by_rows} == FILES.keys() - {"entropy_task.py"}
    for row, path in run_by_rows:
        assert path.name not in shipped
        assert f"`{path}`" in (ROOT / row.pages[0]).read_text(encoding="utf-8")
        assert f"| `{path}` of [" in README.read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in rows() if row.command != UI], ids=lambda row: row.wish)
def test_the_command_of_each_row_runs(row: Row, place: Path, request: pytest.FixtureRequest) -> None:
    """As it is printed, with a newcomer's paths; what trains trains, at the scale at which the pages look first."""
    command = filled(row.command, place)
    if "HOST:6379" in command:
        command = command.replace("HOST:6379", request.getfixturevalue("head"))
    printed = run(command, place, *shlex.split(TRAINS.get(row.wish, "")))
    assert printed
    assert ("mfm_tune.run" in command) == (row.wish in TRAINS) == ("Report: " in printed)


@pytest.mark.parametrize("command", re.findall(r"`(python -m \S+ \w+ --profile paper --plan)`", REPRODUCE))
def test_the_plans_of_the_papers_tables_are_made(command: str, tmp_path: Path) -> None:
    """Those that docs/reproduce.md lists; no data set is needed for a plan."""
    assert "to do" in run(command, tmp_path)


@pytest.mark.slow
def test_the_command_that_shows_runs_opens_mlflow(place: Path) -> None:
    """It prints the address; Ctrl-C ends it."""
    assert any(row.command == UI for row in rows())
    command = [sys.executable, *shlex.split(UI)[1:]]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores Ctrl-C
    with subprocess.Popen(
        command, cwd=place, env=os.environ | NEWCOMERS, stdout=subprocess.PIPE, text=True, preexec_fn=heard
    ) as process:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        assert next((line for line in lines if line.startswith("MLflow for ")), None) is not None
        process.send_signal(signal.SIGINT)
        process.stdout.read()


def test_the_plan_is_printed_as_the_page_shows_it(tmp_path: Path) -> None:
    """Its first lines, in an empty folder."""
    command, lines = printed("plan")
    assert lines.pop() == "..."
    assert run(command, tmp_path).splitlines()[: len(lines)] == lines
