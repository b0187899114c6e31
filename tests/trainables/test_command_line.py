"""What the commands around a trained model share: exit codes, sentences, types of options."""

from __future__ import annotations

import argparse
import errno
import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from mfm_tune.console import Parser, integer
from mfm_tune.errors import OptionError
from trainables.command_line import exit_status, new_file, new_folder, size, size_or_native


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        (lambda: Path("/proc/sheet.png").write_text(""), "/proc/sheet.png cannot be used: No such file or directory;"),
        (lambda: Path(__file__).mkdir(), f"{__file__} cannot be used: File exists; give another path."),
        (lambda: _fail(OSError(errno.ENOSPC, "No space", "/a")), "/a cannot be used: No space; free space, or give"),
        (lambda: _fail(OSError("made up")), "made up"),
        (lambda: _fail(ValueError("a \x1b[31mb")), "a \\x1b[31mb"),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_one_sentence(
    capsys: pytest.CaptureFixture[str], run: Callable[[], None], sentence: str
) -> None:
    assert exit_status(run) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith(sentence)


def _fail(error: Exception) -> None:
    raise error


def test_a_reader_of_a_pipe_that_goes_away_ends_a_command_quietly() -> None:
    """As a shell runs it: `python -m trainables.data info STORE | head -1`."""
    code = "from trainables.command_line import exit_status as e\nraise SystemExit(e(lambda: print('word ' * 100000)))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(4)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_an_interrupted_command_has_its_own_exit_code() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert exit_status(interrupted) == 130


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--integer", "0"], "--integer must be an integer of at least 1, got '0'; see command --help."),
        (["--port", "22x"], "--port must be an integer from 0 to 65535, got '22x'; see command --help."),
        (["--size", "720"], "--size must be ROWSxCOLUMNS such as 512x1024, got '720'; see command --help."),
        (["--box", "0x9"], "--box must be ROWSxCOLUMNS such as 512x1024, or native, got '0x9'; see command --help."),
        (["--kind", "c"], "--kind must be one of .?a.?, .?b.?, got 'c'; see command --help."),
        (["--share", "half"], "--share must be a number, got 'half'; see command --help."),
        (["--kind"], "--kind: expected one argument; see command --help."),
        (["--raw", "--integer", "2", "--cooked"], "--cooked: not allowed with --raw; see command --help."),
        (["--out", __file__], f"--out must be a folder, got the file '{__file__}'; see command --help."),
        (["--json", "/none/x.json"], "--json must be a .json file in a folder that can be written, got '/none/x.json'"),
        (["--json", f"{__file__}/x.json"], "--json must be a .json file in a folder that can be written, got"),
        (["--json", "x.txt"], "--json must be a .json file in a folder that can be written, got 'x.txt'"),
        (["--none"], "unrecognized arguments: --none; see command --help."),
    ],
)
def test_a_bad_option_is_one_sentence_of_one_form(arguments: list[str], sentence: str) -> None:
    """The option, what is allowed, its value, and where more is said."""
    parser = Parser(prog="command")
    types = {"integer": integer, "port": partial(integer, low=0, high=65535), "size": size, "share": float}
    files = {"box": size_or_native, "out": new_folder, "json": partial(new_file, ending=".json")}
    for name, kind in (types | files).items():
        parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--kind", choices=["a", "b"])
    exclusive = parser.add_mutually_exclusive_group()
    exclusive.add_argument("--raw", action="store_true")
    exclusive.add_argument("--cooked", action="store_true")
    with pytest.raises(OptionError, match=f"^{re.escape(sentence).replace(re.escape('.?'), '.?')}"):
        parser.parse_args(arguments)


def test_types_of_options_give_what_they_take(tmp_path: Path) -> None:
    assert (integer("7"), integer("0", low=0), size("2x3"), size_or_native("native")) == (7, 0, (2, 3), None)
    assert new_folder(str(tmp_path / "new")) == tmp_path / "new"
    assert new_file(str(tmp_path / "x.JSON"), ".json") == tmp_path / "x.JSON"
    with pytest.raises(argparse.ArgumentTypeError, match="from 1 to 3, got '4'"):
        integer("4", high=3)


def test_a_file_that_can_be_written_may_lie_in_a_folder_that_cannot(unprivileged: Path) -> None:
    """Such as a device; what is there and cannot be written is refused before the work."""
    there, fixed = unprivileged / "there.json", unprivileged / "fixed.json"
    there.touch()
    fixed.touch(mode=0o444)
    assert new_file(str(unprivileged / "new.json")) == unprivileged / "new.json"
    with pytest.raises(argparse.ArgumentTypeError, match=r"fixed\.json'$"):
        new_file(str(fixed))
    unprivileged.chmod(0o555)
    for path in (there, Path("/dev/null")):
        assert new_file(str(path)) == path
    with pytest.raises(argparse.ArgumentTypeError, match=r"new\.json'$"):
        new_file(str(unprivileged / "new.json"))
