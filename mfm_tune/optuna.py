"""A search of a ledger as an Optuna study in a database: for optuna-dashboard, and for Optuna's own plots.

    python -m mfm_tune.optuna --out sqlite:///study.db [--storage DIR] [--search NAME] [--profile NAME]
    optuna-dashboard sqlite:///study.db

Each search becomes a study `SEARCH-PROFILE` with the parameters and their ranges, the criterion as value, states,
intermediate values and the key of each trial. Given again, it brings the studies up to date. Exit codes: 0, or 2 with
one sentence.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from mfm_tune.commands.options import Parser
from mfm_tune.console import exit_code, quiet_libraries, steady_streams
from mfm_tune.errors import OptionError
from mfm_tune.fields import hyphened, recorded
from mfm_tune.ledger.state import LedgerState, read_storage
from mfm_tune.ledger.uri import without_password


def searches(state: LedgerState, search: str | None, profile: str | None) -> list[tuple[str, str]]:
    """The searches of a ledger with a name and a profile; None takes all.

    Raises:
        OptionError: There is none.
    """
    found = [name for name in state.searches if search in (None, name[0]) and profile in (None, name[1])]
    if not found:
        known = ", ".join(f"{name} at {hyphened(scale)}" for name, scale in state.searches) or "none"
        raise OptionError(
            f"The ledger has no such search; it has {known}: give another --search, --profile or --storage."
        )
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Write the studies. Returns the exit code."""
    parser = Parser("optuna", "Write the searches of a ledger to a database of Optuna.")
    parser.add_argument("--out", metavar="URL", required=True, help="a database, such as sqlite:///study.db")
    parser.add_argument("--search", metavar="NAME", help="this search alone")
    parser.add_argument("--profile", metavar="NAME", type=recorded, help="searches of this profile alone")

    def run() -> None:
        given = parser.parse_args(argv)
        state = read_storage(given.storage)
        from mfm_tune.search.database import write_search

        for name in searches(state, given.search, given.profile):
            with quiet_libraries():
                count = write_search(state, name, given.out)
            print(f"{'-'.join(name)}: {count} trials in {without_password(given.out)}")

    return exit_code(run)


if __name__ == "__main__":
    steady_streams()
    sys.exit(main())
