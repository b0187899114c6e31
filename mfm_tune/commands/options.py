"""The command line of `python -m mfm_tune.run`, parsed and checked."""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from mfm_tune import console
from mfm_tune.console import integer
from mfm_tune.errors import OptionError, SearchSpaceError
from mfm_tune.ledger.uri import OPTION as TRACKING_URI
from mfm_tune.ledger.uri import check_uri, without_password
from mfm_tune.program import Outcome
from mfm_tune.report.columns import IN_A_PAPER, Kind
from mfm_tune.space import check_seeds

DEFAULT_STORAGE = Path("runs")
MAX_SEEDS = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the user asked for. Paths are absolute, but for the search space's, which is printed as it was given."""

    file: Path | None
    plan: bool = False
    probe: bool = False
    simulate: bool = False
    slots: int | None = None
    report_only: bool = False
    paper: tuple[Kind, ...] = ()
    only: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None
    profile: str | None = None
    asha: bool = False
    half_width: float | None = None
    max_seeds: int | None = None
    inline: bool = False
    address: str | None = None
    address_from_environment: bool = False
    storage: Path = DEFAULT_STORAGE
    data: Mapping[str, str] = field(default_factory=dict)
    download: bool = False
    reuse: bool = False
    retrain: bool = False
    retry: frozenset[Outcome] = frozenset()
    cpus_per_trial: int = 1
    gpus_per_trial: float | None = None
    tracking_uri: str | None = None
    tracking: bool = True
    verbose: bool = False

    @property
    def only_reads(self) -> bool:
        """Whether nothing is trained or measured, so that no data set is needed."""
        return self.plan or self.simulate or self.report_only


class Parser(console.Parser):
    """The parser of one of the commands `python -m mfm_tune.COMMAND`, with the option that all of them share."""

    def __init__(self, command: str, description: str) -> None:
        super().__init__(prog=f"python -m mfm_tune.{command}", description=description, allow_abbrev=False)
        self.add_argument(
            "--storage", metavar="DIR", type=Path, default=DEFAULT_STORAGE, help="ledger, checkpoints, reports (./runs)"
        )

    def add_tracking_uri(self) -> None:
        """Add the option that names MLflow's server or database."""
        self.add_argument(
            TRACKING_URI, metavar="URI", help="an MLflow server or database; default: mlflow.db in the storage"
        )

    def error(self, message: str) -> NoReturn:
        """Raise the `OptionError`, with no password in it."""
        super().error(without_password(message))


def parse_options(argv: Sequence[str]) -> Options:
    """Parse and check a command line.

    Raises:
        OptionError: An option is unknown, has a value that cannot be used, or contradicts another.
    """
    given = _parser().parse_args(argv)
    _check_together(given)
    from_environment = _address_of_environment(given)
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value 
              for name, value in vars(given).items()}  # fmt: skip
    values |= {"address": given.address or from_environment, "storage": given.storage.absolute()}
    values |= {"paper": () if given.paper is None else tuple(given.paper) or IN_A_PAPER}
    values |= {"data": _by_name(given.data), "retry": frozenset(given.retry)}
    return Options(**values, address_from_environment=from_environment is not None)


def _parser() -> Parser:
    parser = Parser(
        "run",
        "Train the cells of a search space that the ledger does not have yet, and write the report. Stop it whenever "
        "you like: the same command resumes.",
    )
    add = parser.add_argument
    add("file", metavar="FILE", nargs="?", type=Path, help="a search space, a path or a name such as "
        "table2; without it those there are are listed")  # fmt: skip
    add("--only", metavar="AXIS", nargs="+", action="extend", default=[], help="these axes or tables, and references")
    add("--seeds", metavar="0,1,2", type=_seeds, help="these seeds instead of the study's")
    add("--profile", metavar="NAME", help="smoke (seconds), mini (a laptop), midi (longer), paper or paper-bf16; "
        "default: paper where its data sets are given, else mini")  # fmt: skip
    add("--data", metavar="NAME=PATH", nargs="+", action="extend", default=[], type=_data, help="where a data set "
        "lies, or a file of weights")  # fmt: skip
    add("--download", action="store_true", help="get published weights that are not on this machine, and say before "
        "what, from where, under which licence")  # fmt: skip
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--plan", action="store_true", help="say what would be done, and do nothing")
    what.add_argument("--probe", action="store_true", help="measure two steps of each cost that the ledger does not "
        "know, then as --plan")  # fmt: skip
    what.add_argument("--simulate", action="store_true", help="replay the ledger's curves: what --asha would have "
        "saved, and which winner it would have picked")  # fmt: skip
    what.add_argument("--report-only", action="store_true", help="write the report from the ledger, and train nothing")
    add("--paper", metavar="COLUMN", nargs="*", type=_column, help="write LaTeX tables and PDF figures for an article, "
        f"too; columns: {' '.join(kind.value for kind in Kind)}; default: the first three")  # fmt: skip
    add("--slots", metavar="N", type=integer, help="with --plan, --probe, --simulate: trials side "
        "by side; default: as many as fit on this machine")  # fmt: skip
    code = parser.add_mutually_exclusive_group()
    code.add_argument("--reuse", action="store_true", help="accept results of other training code")
    code.add_argument("--retrain", action="store_true", help="train again what other training code has finished")
    add("--retry-oom", dest="retry", action="append_const", const=Outcome.OOM, default=[], help="try again what ran "
        "out of memory")  # fmt: skip
    add("--retry-diverged", dest="retry", action="append_const", const=Outcome.DIVERGED, help="try again what diverged")
    add("--asha", action="store_true", help="let ASHA stop trials early; they resume when run without it")
    add("--half-width", metavar="X", type=_half_width, help="as many more seeds as 95 %% intervals of this half-width "
        "take, by Stein's two-stage procedure")  # fmt: skip
    add("--max-seeds", metavar="N", type=integer, help="with --half-width: the most seeds of a "
        f"config, both stages together ({MAX_SEEDS})")  # fmt: skip
    add("--inline", action="store_true", help="one trial after the other in this process, without Ray")
    add("--address", metavar="ADDRESS", help="a Ray cluster, such as auto or HOST:6379; default: RAY_ADDRESS, "
        "else Ray on this machine")  # fmt: skip
    add("--cpus-per-trial", metavar="N", type=integer, default=1, help="CPU cores of one "
        "trial (1)")  # fmt: skip
    add("--gpus-per-trial", metavar="X", type=_gpus, help="GPUs of one trial, fractions allowed; default: 1 for "
        "the paper profile where there is one, else 0")  # fmt: skip
    parser.add_tracking_uri()
    add("--no-tracking", dest="tracking", action="store_false", help="no MLflow")
    add("-v", "--verbose", action="store_true", help="say more: what the libraries print, and tracebacks")
    return parser


def _check_together(given: argparse.Namespace) -> None:
    if given.inline and given.asha:
        raise OptionError("--asha compares trials that run side by side, which --inline does not do; give one of them.")
    _check_half_width(given)
    if given.inline and given.address:
        raise OptionError("--address names a Ray cluster, which --inline does not use; give one of them.")
    if given.paper is not None and (given.plan or given.probe or given.simulate):
        raise OptionError(
            "--paper is part of a report, and --plan, --probe and --simulate write none; give it to a run or with "
            "--report-only."
        )
    if given.slots is not None and not (given.plan or given.probe or given.simulate):
        raise OptionError(
            "--slots is how many trials --plan, --probe and --simulate count on; when trials run, the machines decide, "
            "and --cpus-per-trial and --gpus-per-trial."
        )
    if given.download and (given.simulate or given.report_only):
        other = "--simulate" if given.simulate else "--report-only"
        raise OptionError(f"--download gets weights to train from, and {other} trains nothing; give one of them.")
    if given.tracking_uri and not given.tracking:
        raise OptionError(
            "--tracking-uri says where MLflow is, and --no-tracking that there is none; give one of them."
        )
    if given.tracking_uri is not None:
        check_uri(given.tracking_uri)


def _check_half_width(given: argparse.Namespace) -> None:
    if given.half_width is None:
        if given.max_seeds is not None:
            raise OptionError("--max-seeds is the most that --half-width adds up to; give that, too, or leave it out.")
        return
    if given.asha:
        raise OptionError(
            "--half-width compares trials at their last step, and --asha stops trials before it; give one of them."
        )
    if given.simulate or given.report_only:
        other = "--simulate" if given.simulate else "--report-only"
        raise OptionError(
            f"--half-width adds seeds, and {other} trains nothing; leave it out: reports take it from the ledger."
        )


def _address_of_environment(given: argparse.Namespace) -> str | None:
    """What `RAY_ADDRESS` names, by which Ray's own tools find their cluster; None where it does not count."""
    address = os.environ.get("RAY_ADDRESS", "").strip()
    return None if given.address or given.inline or address in ("", "local") else address


def _column(text: str) -> Kind:
    try:
        return Kind(text)
    except ValueError:
        kinds = ", ".join(kind.value for kind in Kind)
        raise OptionError(f"--paper takes columns among {kinds}, got '{text}'; a search space comes first.") from None


def _seeds(text: str) -> tuple[int, ...]:
    try:
        seeds = tuple(int(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"--seeds must be integers with commas between them, got '{text}'; such as 0,1,2.") from None
    try:
        check_seeds(seeds)
    except SearchSpaceError as error:
        raise OptionError(f"--seeds: {error}") from None
    return seeds


def _data(text: str) -> tuple[str, str]:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise OptionError(f"--data must be NAME=PATH, got '{text}'; such as --data cityscapes=/data/cityscapes.")
    return name, str(Path(path).expanduser().absolute())


def _by_name(paths: Sequence[tuple[str, str]]) -> dict[str, str]:
    for name, count in Counter(name for name, _ in paths).items():
        if count > 1:
            raise OptionError(f"--data names '{name}' twice; give it once.")
    return dict(paths)


def _half_width(text: str) -> float:
    try:
        width = float(text)
    except ValueError:
        width = 0.0
    if not 0 < width < math.inf:
        raise OptionError(
            f"--half-width must be a number above 0, in units of the study's metric, got '{text}'; such as 0.5."
        )
    return width


def _gpus(text: str) -> float:
    try:
        gpus = float(text)
    except ValueError:
        gpus = -1.0
    if not 0 <= gpus < 1025 or (gpus > 1 and gpus != int(gpus)):
        raise OptionError(f"--gpus-per-trial must lie in 0 to 1, or be a whole number of GPUs, got '{text}'.")
    return gpus
