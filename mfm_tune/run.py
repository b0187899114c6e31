"""The command line: plan, run, report.

    python -m mfm_tune.run                                     lists the search spaces there are
    python -m mfm_tune.run search_spaces/table2.py --plan      says what would be done
    python -m mfm_tune.run search_spaces/table2.py             does what is left, and writes the report

Installed, the command is `mfm-tune`, too; `table2` alone is found in `search_spaces`.

Exit codes: 0 done, 1 a trial failed or Ray was lost, 2 bad input (one sentence on stderr), 130 and 143 stopped by
Ctrl-C and SIGTERM.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mfm_tune.commands.options import Options, parse_options
from mfm_tune.commands.search import SearchCommand
from mfm_tune.commands.session import Command, Session
from mfm_tune.commands.study import StudyCommand
from mfm_tune.console import quiet_libraries, steady_streams
from mfm_tune.errors import OptionError, UserError
from mfm_tune.execution.signals import RESUME, EngineLost, Interrupted, Interruption
from mfm_tune.planning.loading import (
    REPOSITORY,
    SEARCH_SPACES,
    find_search_space,
    is_search_space,
    load_search_space,
    summaries,
)
from mfm_tune.planning.profiles import check_data, choose, with_data
from mfm_tune.search_space import Search
from mfm_tune.space import Study


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        options = parse_options(given)
        with quiet_libraries(verbose=options.verbose):
            code = _run(options, given)
        print(end="", flush=True)  # here, where a reader that went away is met, not when the interpreter ends
        return code
    except UserError as error:
        if "-v" in given or "--verbose" in given:
            traceback.print_exc()
        print(error, file=sys.stderr)
        return 2
    except Interrupted as stop:
        return stop.exit_code
    except EngineLost as lost:
        print(lost, file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before a run began, or while nothing but reading was asked for
        print(f"Stopped by SIGINT; nothing was lost. {RESUME}")
        return 130
    except BrokenPipeError:  # the reader of a pipe went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(options: Options, argv: Sequence[str]) -> int:
    _check_working_directory()
    if options.file is None:
        _check_alone(options, argv)
        return _list_search_spaces()
    loaded = load_search_space(find_search_space(options.file))
    declared, notice = choose(loaded, options.profile, options.data)
    declared = declared if options.seeds is None else replace(declared, seeds=options.seeds)
    declared = with_data(declared, options.data)
    session = Session(options, loaded, declared, argv)
    command = command_for(session, declared)
    check_data(loaded, declared, options.data, to_train=not options.only_reads)
    command.check()  # metrics are those of the data: what is given must be the right one
    _say(notice)
    if options.address_from_environment and not (options.simulate or options.report_only):
        print(f"RAY_ADDRESS names a cluster, {options.address}: trials run there, unless --address says otherwise.")
    if not (options.simulate or options.report_only):
        session.find_weights()
    if options.plan:
        code = command.plan()
        _say(session.unused_gpus)
        return code
    if options.simulate:
        return command.simulate()
    if options.report_only:
        return command.report()
    session.check_tracking()
    _say(session.unused_gpus)
    with Interruption(at_once=True):
        return command.probe() if options.probe else command.train()


def _say(sentence: str) -> None:
    if sentence:
        print(sentence, flush=True)


def command_for(session: Session, declared: Study | Search) -> Command:
    """The commands of what a search-space file declares."""
    match declared:
        case Study() if session.options.half_width is not None:
            from mfm_tune.commands.two_stage import TwoStageCommand  # with results, which other plans need not

            return TwoStageCommand(session, declared)
        case Study():
            return StudyCommand(session, declared)
        case Search():
            return SearchCommand(session, declared)


def _check_working_directory() -> None:
    """Every relative path is resolved in it, those of Python's imports included."""
    try:
        Path.cwd()
    except FileNotFoundError:
        raise UserError("The working directory was deleted; change to another folder.") from None


def _check_alone(options: Options, argv: Sequence[str]) -> None:
    """A command without a search space lists them, and nothing else: one that has options meant a search space, which
    may have been taken for the last value of --only."""
    others = [word.partition("=")[0] for word in argv if word not in ("-v", "--verbose")]
    if not others:
        return
    last = options.only[-1] if options.only else ""
    if last and is_search_space(Path(last)):
        raise OptionError(
            f"--only got '{last}', which is a search space; FILE comes first: python -m mfm_tune.run {last} --only ..."
        )
    raise OptionError(
        f"No search space is given, but {others[0]} is; FILE comes first: python -m mfm_tune.run FILE {others[0]} ..."
    )


def _list_search_spaces() -> int:
    """Those in `search_spaces` here, else those that come with the project, each with its first sentence."""
    listed = summaries(SEARCH_SPACES if SEARCH_SPACES.is_dir() else REPOSITORY / SEARCH_SPACES)
    width = max((len(str(path)) for path, _ in listed), default=0)
    for path, summary in listed:
        print(f"{path!s:{width}}  {summary}")
    return 0


def console() -> int:
    """The command `mfm-tune` of an installed project."""
    steady_streams()
    return main()


if __name__ == "__main__":
    sys.exit(console())
