"""What a machine is asked before trials start there, and what is said of one that lacks something."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from mfm_tune.tune.nodes import MARK, NodeCheck, NodeReport, gpu_mismatch, look, mismatches

MODULES = ("tests.mfm_tune.stub_program",)


@pytest.fixture
def check(tmp_path: Path) -> NodeCheck:
    """What a driver asks that has left its token in the storage."""
    folder, store = tmp_path / "storage" / ".nodes", tmp_path / "store"
    folder.mkdir(parents=True)
    store.mkdir()
    (folder / MARK).write_text("token")
    return NodeCheck(folder=str(folder), token="token", modules=MODULES, data={"gta": str(store)})


def said(check: NodeCheck, **otherwise: object) -> list[str]:
    """What is said of a node that sees something else than this machine."""
    here = look(check, "here")
    there = replace(here, host="gpu-3", address="10.0.0.7", node="c99f94922c972e3d", **otherwise)  # type: ignore[arg-type]
    return list(mismatches(here, there, check))


def test_a_machine_that_sees_everything_gives_no_reason_to_complain(check: NodeCheck) -> None:
    """And leaves its answer beside the driver's token."""
    seen = look(check, "node-1")
    assert (seen.storage, seen.code_error, seen.missing) == ("", "", ())
    assert list(seen.code) == ["tests/mfm_tune/stub_program.py"]
    assert (Path(check.folder) / "node-1").read_text() == "token"
    assert said(check) == []


@pytest.mark.parametrize(
    ("folder", "token", "sentence"),
    [
        ("elsewhere", "token", "what this machine has written there is not to be seen"),
        (".nodes", "another", "what this machine has written there reads otherwise"),
        (".nodes/driver", "token", "Not a directory"),
    ],
)
def test_a_storage_that_is_not_shared_or_cannot_be_written_is_seen(
    check: NodeCheck, folder: str, token: str, sentence: str
) -> None:
    """Another disk under the same path, an older file there, no folder at all."""
    elsewhere = replace(check, folder=str(Path(check.folder).parent / folder), token=token)
    seen = look(elsewhere, "node-1")
    assert seen.storage == sentence
    [line] = said(check, storage=seen.storage)
    assert line.startswith("Node gpu-3 (10.0.0.7, node c99f9492) cannot use the storage folder")
    assert line.endswith("give a --storage that all nodes share, or remove the node.")


def test_a_storage_that_is_full_or_read_only_is_seen(check: NodeCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """The operating system's own words are passed on."""

    def full(self: Path, text: str) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    assert look(check, "node-1").storage == "No space left on device"


def test_other_code_is_named_by_its_files(check: NodeCheck) -> None:
    """Files that differ, are missing, or are there in addition; a comment makes no difference (see the fingerprint)."""
    here = look(check, "here").code
    other: Mapping[str, str] = {**dict.fromkeys(here, "0"), "tests/new.py": "1"}
    [line] = said(check, code=other)
    assert "has another version of tests/mfm_tune/stub_program.py, tests/new.py; bring it to the version" in line
    seen = look(replace(check, modules=("no_such_package",)), "node-1")
    assert seen.code == {}
    [line] = said(check, code=seen.code, code_error=seen.code_error)
    assert "cannot find the training code: The program names the package 'no_such_package'" in line
    assert "install this project there" in line


def test_other_versions_and_missing_data_are_named(check: NodeCheck) -> None:
    """Each in a sentence of its own."""
    versions = {**look(check, "here").versions, "torch": "2.11.0"}
    version, data = said(check, versions=versions, missing=("gta",))
    assert "has torch 2.11.0 instead of" in version
    assert f"does not have the data set 'gta' at {check.data['gta']}; put it under the same path" in data
    assert look(replace(check, data={"gta": "/no/such/store"}), "node-1").missing == ("gta",)


def test_fewer_gpus_than_ray_counts_on_are_named(check: NodeCheck) -> None:
    """A broken driver would have trials train on the CPU."""
    seen: NodeReport = replace(look(check, "here"), gpus=3, gpus_in_ray=4.0, host="gpu-3")
    assert "gpu-3 shows 3 GPUs, and Ray counts on 4;" in str(gpu_mismatch(seen))
    assert gpu_mismatch(replace(seen, gpus=4)) is None
