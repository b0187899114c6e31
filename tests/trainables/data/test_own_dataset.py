"""A data set is one file: `docs/data.md` shows one, and nothing else is changed to check it and to pack it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.docs.pages import ROOT, block
from tests.trainables.data import native_files as native
from trainables.data.__main__ import main
from trainables.data.packing.format import Store
from trainables.data.splits import Split


def shown() -> str:
    """The file as the page has it."""
    return block("data set")


@pytest.mark.slow
def test_one_file_of_ones_own_is_checked_and_packed(tmp_path: Path) -> None:
    """From any folder, in a process of its own."""
    (tmp_path / "tram.py").write_text(shown(), encoding="utf-8")
    ids = native.all_ids(4)
    for drive in ("day-1", "day-2", "night-1"):
        native.write(tmp_path / "files" / drive / "7.jpg", native.png(native.image()))
        native.write(tmp_path / "files" / drive / "7.mask.png", native.png(ids))
    run = [sys.executable, "-m", "trainables.data"]
    for command, options in (("check", []), ("prepare", ["--out", "store"])):
        given = [command, "tram", "--code", "tram.py", "--root", "files", *options]
        subprocess.run([*run, *given], cwd=tmp_path, check=True, env={"PYTHONPATH": str(ROOT)})
    store = Store(tmp_path / "store")
    assert (store.manifest.dataset, store.manifest.scored) == ("tram", Split.VAL)
    assert store.manifest.classes == ("rail", "ballast", "platform")
    assert len(store.split(Split.TRAIN)) == 2
    np.testing.assert_array_equal(store.split(Split.VAL).label(0), np.array([255, 0, 1, 2])[ids])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (None, "--code must be a Python file, but"),
        ("1 +\n", "line 1: SyntaxError"),
        ("a = 1\nb = a / 0\n", "line 2: ZeroDivisionError: division by zero."),
        ("a = 1\n", "must have a DATASET = Reader(...), got None."),
        (shown().replace('"tram"', '"tr am"'), "DATASET.dataset must be 1 to 64 letters, digits, '.'"),
        (shown().replace('"tram"', '"gta"'), "DATASET.dataset must be a name of its own, got 'gta'."),
        (shown().replace('"tram"', '"metro"'), "invalid choice: 'tram' (choose from acdc,"),
    ],
)
def test_a_file_that_has_no_data_set_is_refused_in_one_sentence(
    tmp_path: Path, text: str | None, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if text is not None:
        (tmp_path / "tram.py").write_text(text, encoding="utf-8")
    assert main(["check", "tram", "--code", str(tmp_path / "tram.py"), "--root", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
