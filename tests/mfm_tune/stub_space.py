"""Search spaces of stub trials, written for a test: what a user's file looks like, with everything around it real."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HEAD = '''"""A space for a test. More is said here."""
from dataclasses import dataclass
from mfm_tune.space import Axis, Study, Table
from tests.mfm_tune.stub_program import StubConfig, StubProgram

@dataclass(frozen=True)
class Width:
    size: int
    def __post_init__(self):
        if not 1 <= self.size <= 9:
            raise ValueError(f"Width.size must lie in [1, 9], got {self.size}.")

def study(profile, levels=((1, None), (2, None)), make=lambda value: StubConfig(level=value), **changes):
    axis = Axis(name="level", levels=levels, make=make)
    tables = (Table(name="a", title="A", axis=axis),)
    return Study(name="spaced", title="A", profile=profile, **{"program": StubProgram(), "tables": tables, **changes})

'''
LINE = HEAD.count("\n") + 1  # of the first line of the body


def write_space(folder: Path, body: str, name: str = "space_under_test.py") -> Path:
    """A search space whose body follows the common head."""
    path = folder / name
    path.write_text(HEAD + body)
    return path


@contextmanager
def forgotten_after(folder: Path) -> Iterator[None]:
    """Modules imported from a folder, and what loading them added to the path, are forgotten at the end."""
    path_before = list(sys.path)
    try:
        yield
    finally:
        sys.path[:] = path_before
        for name, module in list(sys.modules.items()):
            if str(getattr(module, "__file__", None)).startswith(f"{folder}/"):
                del sys.modules[name]
