"""A search space that is started without its stores says what to type: the commands are those of `trainables.data`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

import pytest

from mfm_tune import run
from mfm_tune.planning.loading import load_search_space
from trainables.data.arguments import make_parser
from trainables.data.datasets import dataset_names
from trainables.recipes import PAPER

ROOT = Path(__file__).resolve().parents[2]
SPACES = sorted(path for path in (ROOT / "search_spaces").glob("*.py") if path.name != "__init__.py")
NEEDING = [(path, name) for path in SPACES for name, each in load_search_space(path).declared.items() if each.needs]
GTA = "python -m trainables.data prepare gta --root GTA_FOLDER --out GTA_STORE"
SYNTHIA = "python -m trainables.data prepare synthia --root SYNTHIA_FOLDER --out SYNTHIA_STORE"
CITYSCAPES = "python -m trainables.data prepare cityscapes --root CITYSCAPES_FOLDER --out CITYSCAPES_STORE"


def told_by(path: Path, profile: str, capsys: pytest.CaptureFixture[str], *data: str) -> list[str]:
    """What is said to somebody who starts a search space at a profile with this data and no more."""
    given = ["--data", *data] if data else []
    assert run.main([str(path), "--profile", profile, "--no-tracking", "--storage", "/nowhere", *given]) == 2
    return capsys.readouterr().err.splitlines()


def as_read(command: str) -> argparse.Namespace:
    """A command as its parser reads it; it must know every word."""
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "trainables.data"]
    return make_parser("").parse_args(words[3:])


def profiles_of(path: Path) -> list[str]:
    """Of a search space."""
    return list(load_search_space(path).declared)


def test_every_paper_profile_and_the_photographs_need_data() -> None:
    assert {(path.stem, profile) for path, profile in NEEDING} == {
        *((path.stem, profile) for path in SPACES for profile in profiles_of(path) if profile.startswith("paper")),
        *(
            (path.stem, profile)
            for path in SPACES
            if path.stem[:6] in ("camvid", "cities")
            for profile in ("smoke", "mini")
        ),
    }


@pytest.mark.parametrize(("path", "profile"), NEEDING, ids=[f"{path.stem}-{profile}" for path, profile in NEEDING])
def test_each_store_has_a_command_that_its_parser_reads(
    path: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line a store, which packs the data set that `--data` names; weights are no store and have none."""
    needs = load_search_space(path).declared[profile].needs
    first, *commands = told_by(path, profile, capsys)
    asked = " ".join(f"--data {name}=PATH" for name in needs)
    assert first.endswith(f"needs data that is not given; add {asked}; stores are made once by")
    assert all(line.startswith("    python") for line in commands)
    packed = [as_read(command).dataset for command in commands]
    assert packed == [name for name in needs if name in dataset_names()]


@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("table1", [f"{GTA} --size native", f"{CITYSCAPES} --size native", f"{SYNTHIA} --size native"]),
        ("table2", [f"{GTA} --size 720x1280", f"{CITYSCAPES} --size 512x1024 --evaluation-size 512x1024"]),
    ],
)
def test_the_commands_have_the_sizes_that_the_table_trains_at(
    name: str, commands: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Table 1 has HRDA, which sees twice the pixels of DAFormer: one store at native size is for both."""
    told = told_by(ROOT / "search_spaces" / f"{name}.py", PAPER.name, capsys)
    assert told[1:] == [f"    {command}" for command in commands]


def test_what_is_given_is_not_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one store there, only the other one's command is told; where only weights are missing, none is."""
    table2 = ROOT / "search_spaces" / "table2.py"
    first, *commands = told_by(table2, PAPER.name, capsys, f"gta={tmp_path}", f"resnet101-v1c={tmp_path}")
    assert first.endswith("; add --data cityscapes=PATH; stores are made once by")
    assert [as_read(command).dataset for command in commands] == ["cityscapes"]
    (only,) = told_by(table2, PAPER.name, capsys, f"gta={tmp_path}", f"cityscapes={tmp_path}")
    assert only.endswith("; add --data resnet101-v1c=PATH.")
