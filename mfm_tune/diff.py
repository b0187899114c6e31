"""How two configs differ, and their metrics, side by side.

    python -m mfm_tune.diff A B [--storage DIR] [--metric TEXT ...]

A and B are config ids, trial keys, or beginnings of either that fit one config; beside each id is what the studies and
searches of the ledger call it. Configs are compared over all seeds that both have, with the 95 % interval of the
paired differences; two trial keys compare these two trials alone. Only finished trials count, of a config those of the
code that its driver last declared. Exit codes: 0, or 2 with one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mfm_tune.commands.options import Parser
from mfm_tune.console import steady_streams
from mfm_tune.errors import StorageError, UserError
from mfm_tune.ledger.file import FILE_NAME
from mfm_tune.ledger.state import read_ledger
from mfm_tune.results.comparison import describe, find


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, and print. Returns the exit code."""
    parser = Parser("diff", "Compare two configs or trials.")
    parser.add_argument("first", metavar="A", help="a config id, a trial key, or its beginning")
    parser.add_argument("second", metavar="B", help="likewise")
    parser.add_argument("--metric", metavar="TEXT", nargs="+", default=[], help="only metrics with this in their names")
    try:
        given = parser.parse_args(argv)
        path = given.storage / FILE_NAME
        if not path.is_file():
            raise StorageError(f"There is no ledger in {given.storage}; give the --storage of a run.")
        state = read_ledger(path)
        print("\n".join(describe(find(state, given.first), find(state, given.second), given.metric)))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    except BrokenPipeError:  # the reader of a pipe went away
        return 141
    return 0


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
