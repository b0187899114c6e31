"""Thirty images of one's own: checked, packed, trained on by the study that `docs/data.md` shows, and reported."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from mfm_tune import run
from tests.docs.pages import block
from tests.trainables.data import own_files as own
from trainables.data.__main__ import main


def shown() -> str:
    """The study as the page has it, at the smallest scale."""
    return block("own folders").replace("MINI", "SMOKE").replace('"mini"', '"smoke"')


@pytest.mark.slow
def test_two_folders_of_ones_own_end_in_a_report_with_the_iou_of_each_of_their_classes(tmp_path: Path) -> None:
    for name, first, options in (("mine-a", 0, []), ("mine-b", 15, ["--validation", "0.3"])):
        own.write_folder(tmp_path / name, 15, first, size=(72, 96))
        files = ["--images", str(tmp_path / name / "images"), "--labels", str(tmp_path / name / "labels")]
        files += ["--classes", str(own.write_table(tmp_path / name)), "--name", name, *options]
        assert main(["check", "folder", *files]) == 0
        assert main(["prepare", "folder", *files, "--size", "144x192", "--out", str(tmp_path / f"{name}-store")]) == 0
    (tmp_path / "mine.py").write_text(shown(), encoding="utf-8")
    data = [f"{name}={tmp_path / name}-store" for name in ("mine-a", "mine-b")]
    options = ["--inline", "--no-tracking", "--seeds", "0", "--storage", str(tmp_path / "runs")]
    assert run.main([str(tmp_path / "mine.py"), *options, "--data", *data]) == 0
    with open(tmp_path / "runs" / "reports" / "mine-smoke" / "tables" / "classes.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {(row["name"], row["network"], row["class"]) for row in rows} == {
        (name, network, each)
        for name in ("DACS", "MFM True")
        for network in ("student", "teacher")
        for each in own.CLASSES
    }
    assert all(0 <= float(row["iou"]) <= 100 for row in rows)
