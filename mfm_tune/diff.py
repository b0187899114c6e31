"""Whether one config beats another, how the two differ, and their metrics side by side.

    python -m mfm_tune.diff A B [--storage DIR] [--metric TEXT ...] [--study NAME ...] [--profile NAME ...]

A and B are names as reports have them ("DACS", "lambda 0.5", "trial 3 of search_mfm", or a row as its table prints it),
config ids, trial keys, or beginnings of either; where several configs are meant, all are listed. The first line is the
answer: which one is better, by how much, and the 95 % interval of the paired differences over all seeds that both
have. Two trial keys compare these two trials alone. Only finished trials count, of a config those of the code that its
driver last declared. Exit codes: 0, or 2 with one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mfm_tune.commands.options import Parser
from mfm_tune.console import exit_code, steady_streams
from mfm_tune.fields import recorded
from mfm_tune.ledger.state import read_storage
from mfm_tune.report.answer import answer
from mfm_tune.results.comparison import describe, find
from mfm_tune.results.differences import newest_stages


def main(argv: Sequence[str] | None = None) -> int:
    """Compare, and print. Returns the exit code."""
    parser = Parser("diff", "Does A beat B? Compare two configs or trials.")
    parser.add_argument(
        "first", metavar="A", help="a name such as 'lambda 0.5', a config id, a trial key, or a beginning"
    )
    parser.add_argument("second", metavar="B", help="likewise")
    parser.add_argument("--metric", metavar="TEXT", nargs="+", default=[], help="only metrics with this in their names")
    parser.add_argument(
        "--study", metavar="NAME", nargs="+", default=[], help="names of these studies and searches alone"
    )
    parser.add_argument(
        "--profile", metavar="NAME", nargs="+", type=recorded, default=[], help="names of these profiles alone"
    )

    def run() -> None:
        given = parser.parse_args(argv)
        state = read_storage(given.storage)
        a, b = (find(state, text, given.study, given.profile) for text in (given.first, given.second))
        stages = newest_stages(state, a.result.config_id, b.result.config_id)
        print("\n".join((answer(state, a, b, given.metric), *describe(a, b, given.metric, stages))))

    return exit_code(run)


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
