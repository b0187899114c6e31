"""What the command lines around a trained model share: types of options, and the sentence for bad input."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from pathlib import Path

from mfm_tune.console import exit_code
from mfm_tune.errors import DISK_FULL, UserError

NATIVE = "native"
SIZE = re.compile(r"([1-9][0-9]*)x([1-9][0-9]*)")


def exit_status(run: Callable[[], None]) -> int:
    """Run a command, as `mfm_tune.console.exit_code` does; what it is given and cannot use is bad input, too."""

    def in_sentences() -> None:
        try:
            run()
        except BrokenPipeError:
            raise
        except OSError as error:
            raise UserError(_sentence(error)) from error
        except ValueError as error:
            raise UserError(str(error)) from error

    return exit_code(in_sentences)


def _sentence(error: OSError) -> str:
    if error.filename is None or error.strerror is None:
        return str(error)
    remedy = "free space, or give" if error.errno in DISK_FULL else "give"
    return f"{error.filename} cannot be used: {error.strerror}; {remedy} another path."


def reason(error: Exception) -> str:
    """Why something cannot be read, in the system's words without its number."""
    return getattr(error, "strerror", None) or str(error)


def size(text: str, other: str = "") -> tuple[int, int]:
    """(rows, columns) of ROWSxCOLUMNS; `other` is what else may be given, for the message."""
    if not (found := SIZE.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"must be ROWSxCOLUMNS such as 512x1024{other}, got '{text}'")
    return int(found[1]), int(found[2])


def size_or_native(text: str) -> tuple[int, int] | None:
    """As `size`; None of `native`."""
    return None if text == NATIVE else size(text, f", or {NATIVE}")


def new_folder(text: str) -> Path:
    """A folder to write to, which need not be there."""
    if (path := Path(text)).exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"must be a folder, got the file '{text}'")
    return path


def new_file(text: str, ending: str = "") -> Path:
    """A file to write to, which can be written itself (as `/dev/stdout`), or in a folder that can."""
    path = Path(text)
    writable = path.parent.is_dir() and os.access(path if path.exists() else path.parent, os.W_OK)
    if not text.lower().endswith(ending) or path.is_dir() or not writable:
        kind = f"{ending} file".strip()
        raise argparse.ArgumentTypeError(f"must be a {kind} in a folder that can be written, got '{text}'")
    return path
