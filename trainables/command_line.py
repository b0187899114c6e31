"""What the command lines around a trained model share: one sentence and exit code 2 for bad input."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable
from typing import NoReturn

SIZE = re.compile(r"([1-9][0-9]*)x([1-9][0-9]*)")


class Parser(argparse.ArgumentParser):
    """Reports what is wrong in one sentence, without the usage in front."""

    def error(self, message: str) -> NoReturn:
        raise ValueError(f"{message}; see {self.prog} --help.")


def exit_status(run: Callable[[], None]) -> int:
    """Run a command: 0, 2 with a sentence on standard error for bad input, 130 when interrupted."""
    try:
        run()
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def size(text: str) -> tuple[int, int]:
    """(rows, columns) of ROWSxCOLUMNS."""
    if not (found := SIZE.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"must be ROWSxCOLUMNS such as 512x1024, got '{text}'")
    return int(found[1]), int(found[2])
