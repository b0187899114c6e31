"""`python -m mfm_tune.export_runs`: the files of other trackers, read back."""

from __future__ import annotations

import math
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from mfm_tune import console, export_runs
from tests.mfm_tune.tracking.tracking_ledger import DACS, FINGERPRINT, Fiction, expected, retrained, write


def scalars(folder: Path) -> Iterator[tuple[str, int, float, float]]:
    """(tag, step, value, seconds) of a folder of event files: records of a length, its checksum, data, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in folder.glob("events.out.tfevents.*"):
        content = path.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                if value.WhichOneof("value") == "simple_value":
                    yield value.tag, event.step, value.simple_value, event.wall_time


def test_event_files_have_every_number_of_the_ledger(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Step, value and time of each report, NaN and infinities too; given twice, nothing is there twice."""
    path = write(tmp_path, Fiction(seeds=2).events())
    for _ in range(2):
        assert export_runs.main(["--to", "tensorboard", "--storage", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"8 runs in {tmp_path / 'tensorboard'}"
    for key, numbers in expected(path).items():
        (folder,) = (tmp_path / "tensorboard" / "fiction-smoke").glob(f"*({key})")
        ours = sorted((tag, round(seconds * 1000), step) for tag, step, _, seconds in scalars(folder))
        assert ours == sorted((tag.replace(" ", "_"), time, step) for tag, time, step, _, _ in numbers)
        values = {(tag, step): value for tag, step, value, _ in scalars(folder)}
        for name, _, step, value, is_nan in numbers:
            got = values[name.replace(" ", "_"), step]
            assert math.isnan(got) if is_nan else got == pytest.approx(value, rel=1e-6) or math.isinf(got)
    assert (tmp_path / "tensorboard/fiction-smoke" / f"DACS, seed 0 ({DACS}-s0-{FINGERPRINT[:8]})").is_dir()


def test_only_what_counts_is_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a config and seed, the trial of the code that was last declared; what was written of others before goes, and
    nothing else."""
    events, out = list(retrained(declared=True)), tmp_path / "out"
    anew = max(number for number, event in enumerate(events) if event["event"] == "study")
    (out / "mine" / "run (1)").mkdir(parents=True)
    for part, many in ((events[:anew], "12 runs"), (events[anew:], "1 run")):
        write(tmp_path, part)
        assert export_runs.main(["--to", "tensorboard", "--storage", str(tmp_path), "--out", str(out)]) == 0
        told = capsys.readouterr()
        assert (told.out, told.err) == (f"{many} in {out}\n", "")
    assert [path.name for path in out.glob("*/*")] == ["run (1)", f"DACS, seed 0 ({DACS}-s0-bbbbbbbb)"]


def test_an_export_that_lasts_shows_how_far_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "SIGN_S", 0.0)
    write(tmp_path, Fiction(seeds=1, widths=(), reports=1).events())
    assert export_runs.main(["--to", "tensorboard", "--storage", str(tmp_path)]) == 0
    assert [line[9:] for line in capsys.readouterr().out.splitlines()[:2]] == ["0 of 2 runs", "1 of 2 runs"]


def test_a_run_whose_config_is_called_otherwise_now_is_there_once(tmp_path: Path) -> None:
    fiction = Fiction(seeds=1, widths=(128,))
    write(tmp_path, fiction.events())
    for axis in ("dim", "width"):
        (table, *others) = fiction.study()["tables"]
        write(tmp_path, [fiction.study(tables=[{**table, "axis": axis}, *others])])
        assert export_runs.main(["--to", "tensorboard", "--storage", str(tmp_path)]) == 0
        names = [path.name for path in (tmp_path / "tensorboard" / "fiction-smoke").iterdir() if "128" in path.name]
        assert [name.partition(",")[0] for name in names] == [f"{axis} 128"]


def test_offline_runs_of_weights_and_biases(tmp_path: Path) -> None:
    """One file a trial, with its numbers, and none twice; nothing is sent."""
    pytest.importorskip("wandb")
    write(tmp_path, Fiction(seeds=1, widths=()).events())
    for _ in range(2):
        assert export_runs.main(["--to", "wandb", "--storage", str(tmp_path)]) == 0
    files = sorted((tmp_path / "wandb" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [file.stem for file in files] == sorted(
        f"run-{config}-s0-{FINGERPRINT[:8]}" for config in Fiction(widths=()).configs
    )
    assert all(b"student/miou" in file.read_bytes() for file in files)


@pytest.mark.parametrize(("to", "package"), [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], to: str, package: str) -> None:
    """With the extra that brings it."""
    write(tmp_path, Fiction(seeds=1).events())
    gone: dict[str, Any] = {package: None}
    with mock.patch.dict(sys.modules, gone):
        assert export_runs.main(["--to", to, "--storage", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"--to {to} needs the package {package}; install it by pip install -e '.[{to}]' in this project's folder.\n"
    )


@pytest.mark.parametrize(
    ("argv", "sentence"), [(["--to", "tensorboard"], "no ledger"), (["--to", "x"], "--to"), ([], "--to")]
)
def test_bad_input_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], sentence: str
) -> None:
    """Exit code 2."""
    assert export_runs.main([*argv, "--storage", str(tmp_path / "nothing")]) == 2
    err = capsys.readouterr().err
    assert sentence in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "nothing").exists()
