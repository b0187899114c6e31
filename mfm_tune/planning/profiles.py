"""Which scale of a study or search runs: the one named, else `paper` where its data sets are given, else `mini`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mfm_tune.errors import OptionError
from mfm_tune.fields import hyphened, recorded
from mfm_tune.planning.loading import Loaded
from mfm_tune.planning.weights import weights_of
from mfm_tune.program import DataCheck, KnowsData
from mfm_tune.search_space import Search
from mfm_tune.space import Study

PAPER, MINI = "paper", "mini"


def choose(loaded: Loaded, profile: str | None, data: Mapping[str, str]) -> tuple[Study | Search, str]:
    """The study or search at the scale that runs, and what the user should know about the choice (may be empty).

    Raises:
        OptionError: `profile` is not one of the search space's, there is no sensible default, or only a part of the
            paper profile's data is given: who has packed it does not want another profile trained.
    """
    studies = loaded.declared
    known = ", ".join(map(hyphened, studies))
    if profile is not None:
        named = recorded(profile)
        if named not in studies:
            raise OptionError(f"--profile got '{profile}', and {loaded.path} has {known}; give one of these.")
        return studies[named], ""
    paper = studies.get(PAPER)
    if paper is not None and all(name in data for name in paper.needs):
        return paper, ""
    if MINI in studies:
        return studies[MINI], "" if paper is None else _why_mini(paper, studies[MINI], data)
    if len(studies) == 1:
        return next(iter(studies.values())), ""
    raise OptionError(f"{loaded.path} has the profiles {known}; say which by --profile.")


def _why_mini(paper: Study | Search, mini: Study | Search, data: Mapping[str, str]) -> str:
    missing = [name for name in paper.needs if name not in data]
    paths = " ".join(f"{name}=PATH" for name in missing)
    if any(name in paper.needs and name not in mini.needs for name in data):
        raise OptionError(_what_to_type(paper, missing, or_else=", or choose the small benchmark by --profile mini"))
    return (
        "Profile mini, because no data set is configured: small networks on a small benchmark, whose numbers are not "
        f"the paper's. For the paper profile add --data {paths}"
    )


def with_data(declared: Study | Search, data: Mapping[str, str]) -> Study | Search:
    """What is declared, with a program that knows where data lie."""
    program = declared.program
    return replace(declared, program=program.with_data(data)) if isinstance(program, KnowsData) else declared


def check_data(loaded: Loaded, study: Study | Search, data: Mapping[str, str], *, to_train: bool) -> None:
    """See that data sets are known, that they are what they should be, and, in order to train, that none is missing.

    Raises:
        OptionError: A name that no profile of the search space knows, a path that does not exist or that the program
            refuses, or a data set that is missing.
    """
    if data:
        _check_names(loaded, data)
    missing = [name for name in study.needs if name not in data]
    if to_train and missing:
        raise OptionError(_what_to_type(study, missing))
    program = study.program
    if data and isinstance(program, DataCheck):
        try:
            program.check_data(list(study.configs().values()), data)
        except (ValueError, OSError) as error:
            raise OptionError(str(error)) from error


def _check_names(loaded: Loaded, data: Mapping[str, str]) -> None:
    names = [name for declared in loaded.declared.values() for name in (*declared.needs, *weights_of(declared))]
    known = ", ".join(dict.fromkeys(names))
    for name, path in data.items():
        if name not in names:
            there = f"it knows {known}" if known else "it needs none"
            raise OptionError(f"--data names '{name}', which {loaded.path} does not know; {there}.")
        if not Path(path).exists():
            raise OptionError(f"--data {name}={path} does not exist; give the path of the data set.")


def _what_to_type(study: Study | Search, missing: Sequence[str], *, or_else: str = "") -> str:
    """One sentence, and behind it a line for each store that can be made by a command."""
    options = " ".join(f"--data {name}=PATH" for name in missing)
    sentence = (
        f"Profile '{hyphened(study.profile)}' of '{study.name}' needs data that is not given; add {options}{or_else}"
    )
    commands = study.program.store_commands(list(study.configs().values()))
    lines = [f"    {commands[name]}" for name in missing if name in commands]
    return f"{sentence}; stores are made once by\n" + "\n".join(lines) if lines else f"{sentence}."
