"""The fingerprint: what a program does changes it, what is said about it does not."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfm_tune.errors import SearchSpaceError
from mfm_tune.planning.fingerprint import TrainingCode, changed_files, hash_of_source
from tests.mfm_tune.stub_program import StubConfig

SOURCE = '''"""Module docstring."""
import math

class Head:
    """Class docstring."""
    rate = 6

    def forward(self, x):
        """Function docstring."""
        return math.sqrt(x) + 1  # a comment
'''


@dataclass(frozen=True)
class OwnConfig:
    """A config that a search space of one's own would define."""

    inner: StubConfig


def hashed(folder: Path, source: str) -> str:
    """The hash of a source text."""
    path = folder / "source.py"
    path.write_text(source)
    return hash_of_source(path)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Module docstring.", "Another one."),
        ("Class docstring.", "Another one."),
        ("Function docstring.", "Another one."),
        ("  # a comment", ""),
        ("math.sqrt(x) + 1", "(math.sqrt( x )\n            + 1)"),
        ("    rate = 6\n", "\n    # at output stride 8\n    rate = 6\n\n"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(tmp_path: Path, before: str, after: str) -> None:
    """Saying the same in other words keeps all results."""
    assert before in SOURCE
    assert hashed(tmp_path, SOURCE) == hashed(tmp_path, SOURCE.replace(before, after))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("x) + 1", "x) + 2"),
        ("x) + 1", "x) - 1"),
        ("x) + 1", "x) + 1.0"),
        ("rate = 6", "rate = '6'"),
        ("rate = 6", "rate: int = 6"),
        ("def forward(self, x)", "def forward(self, x=None)"),
        ("return math", "yield math"),
    ],
)
def test_code_counts(tmp_path: Path, before: str, after: str) -> None:
    """Another number, operator, type or default is other code."""
    assert before in SOURCE
    assert hashed(tmp_path, SOURCE) != hashed(tmp_path, SOURCE.replace(before, after))


@given(first=st.integers(), second=st.integers())
def test_constants_are_told_apart(tmp_path_factory: pytest.TempPathFactory, first: int, second: int) -> None:
    """Two constants give one hash if and only if they are equal."""
    folder = tmp_path_factory.getbasetemp()
    assert (hashed(folder, f"x = {first}") == hashed(folder, f"x = {second}")) == (first == second)


def test_a_string_that_is_no_docstring_counts(tmp_path: Path) -> None:
    """Only the first statement of a body is its docstring."""
    assert hashed(tmp_path, "x = 1\n'a'\n") != hashed(tmp_path, "x = 1\n'b'\n")


def test_changed_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that changed, came and went are named by package and path; others are not."""
    package = tmp_path / "fingerprinted_package"
    (package / "inner").mkdir(parents=True)
    for name in ("__init__.py", "same.py", "other.py", "inner/gone.py"):
        (package / name).write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = TrainingCode(("fingerprinted_package",)).fingerprint(StubConfig())
    (package / "other.py").write_text("x = 2\n")
    (package / "same.py").write_text("# only said otherwise\nx = 1\n")
    (package / "inner/gone.py").unlink()
    (package / "inner/new.py").write_text("x = 1\n")
    after = TrainingCode(("fingerprinted_package",)).fingerprint(StubConfig())
    assert before.digest != after.digest
    assert changed_files(before.files, after.files) == (
        "fingerprinted_package/inner/gone.py",
        "fingerprinted_package/inner/new.py",
        "fingerprinted_package/other.py",
    )
    assert "fingerprinted_package" not in sys.modules


def test_a_config_of_ones_own_brings_its_module() -> None:
    """Classes defined outside the packages count for the configs that use them, and for no others."""
    code = TrainingCode(("tests.mfm_tune.stub_program",))
    plain, own = code.fingerprint(StubConfig()), code.fingerprint(OwnConfig(StubConfig()))
    assert set(plain.files) == {"tests/mfm_tune/stub_program.py"}
    assert set(own.files) == {"tests/mfm_tune/stub_program.py", "tests/mfm_tune/planning/test_fingerprint.py"}
    assert plain.digest != own.digest


def test_a_package_that_is_not_there_is_one_sentence() -> None:
    """A program that names a wrong package is told so."""
    with pytest.raises(SearchSpaceError, match="'no_such_package', which cannot be found"):
        TrainingCode(("no_such_package",))
