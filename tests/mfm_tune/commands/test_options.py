"""The command line's options: each mistake is one sentence, and what is left out has a sensible value."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfm_tune.commands.options import Options, parse_options
from mfm_tune.errors import OptionError
from mfm_tune.program import Outcome
from mfm_tune.report.columns import Kind


def test_what_is_left_out_has_its_default() -> None:
    """A file alone is enough: a local Ray, one core a trial, ./runs, MLflow beside it."""
    assert parse_options(["f.py"]) == Options(file=Path("f.py"), storage=Path.cwd() / "runs")
    assert parse_options([]).file is None


def test_options_are_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Lists can be given at once or one by one; paths become absolute."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    line = (
        "f.py --only dim blocks --only grid --seeds 3,1 --profile smoke --data gta=d/gta city=~/city --storage s "
        "--retry-oom --retry-diverged --cpus-per-trial 2 --gpus-per-trial 0.5 --tracking-uri http://127.0.0.1:5000 -v "
        "--asha --address auto --reuse"
    )
    given = parse_options(line.split())
    assert given.only == ("dim", "blocks", "grid")
    assert given.seeds == (3, 1)
    assert given.data == {"gta": f"{tmp_path}/d/gta", "city": "/home/someone/city"}
    assert given.storage == tmp_path / "s"
    assert given.retry == {Outcome.OOM, Outcome.DIVERGED}
    assert (given.cpus_per_trial, given.gpus_per_trial) == (2, 0.5)
    assert given.asha
    assert given.verbose
    assert given.reuse


@pytest.mark.parametrize(
    ("named", "argv", "address", "from_environment"),
    [
        ("10.0.0.1:6379", [], "10.0.0.1:6379", True),
        ("10.0.0.1:6379", ["--address", "head:6379"], "head:6379", False),
        ("10.0.0.1:6379", ["--address", "auto"], "auto", False),
        ("10.0.0.1:6379", ["--inline"], None, False),
        ("local", [], None, False),
        ("", [], None, False),
    ],
)
def test_a_cluster_named_by_the_environment_counts_where_no_option_says_otherwise(
    named: str, argv: list[str], address: str | None, from_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`RAY_ADDRESS`, as with Ray's own tools."""
    monkeypatch.setenv("RAY_ADDRESS", named)
    given = parse_options(["f.py", *argv])
    assert (given.address, given.address_from_environment) == (address, from_environment)


def test_gpus_may_be_none_a_share_or_several() -> None:
    """Zero keeps trials off the GPU, a fraction shares one, a whole number takes as many."""
    assert [parse_options(["f.py", "--gpus-per-trial", text]).gpus_per_trial for text in ("0", "0.25", "1", "2")] == [
        0.0, 0.25, 1.0, 2.0
    ]  # fmt: skip


def test_a_paper_has_three_kinds_of_columns_unless_others_are_named() -> None:
    named = ["f.py", "--report-only", "--paper", "value", "second"]
    assert parse_options(named).paper == (Kind.VALUE, Kind.SECOND)
    assert parse_options(named[:3]).paper == (Kind.VALUE, Kind.PAPER, Kind.DIFFERENCE)
    assert parse_options(named[:2]).paper == ()


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["f.py", "--seeds", "0,x"], "--seeds must be integers with commas between them, got '0,x'"),
        (["f.py", "--seeds", "1,1"], "--seeds: seeds must be distinct"),
        (["f.py", "--data", "gta"], "--data must be NAME=PATH, got 'gta'"),
        (["f.py", "--data", "a=b", "--data", "a=c"], "names 'a' twice"),
        (["f.py", "--cpus-per-trial", "0"], "--cpus-per-trial must be an integer of at least 1, got '0'"),
        (["f.py", "--gpus-per-trial", "1.5"], "--gpus-per-trial must lie in 0 to 1, or be a whole number"),
        (["f.py", "--gpus-per-trial", "nan"], "--gpus-per-trial must lie in 0 to 1"),
        (["f.py", "--inline", "--asha"], "--asha compares trials"),
        (["f.py", "--inline", "--address", "auto"], "--address names a Ray cluster"),
        (["f.py", "--reuse", "--retrain"], "not allowed with"),
        (["f.py", "--half-width", "0"], "--half-width must be a number above 0, in units of the study's metric"),
        (["f.py", "--half-width", "nan"], "--half-width must be a number above 0"),
        (["f.py", "--half-width", "wide"], "--half-width must be a number above 0"),
        (["f.py", "--half-width", "1", "--max-seeds", "0"], "--max-seeds must be an integer of at least 1, got '0'"),
        (["f.py", "--max-seeds", "9"], "--max-seeds is the most that --half-width adds up to"),
        (["f.py", "--half-width", "1", "--asha"], "--half-width compares trials at their last step"),
        (["f.py", "--half-width", "1", "--simulate"], "--half-width adds seeds, and --simulate trains nothing"),
        (["f.py", "--half-width", "1", "--report-only"], "--half-width adds seeds, and --report-only trains nothing"),
        (["f.py", "--plan", "--report-only"], "not allowed with"),
        (["f.py", "--plan", "--probe"], "not allowed with"),
        (["f.py", "--plan", "--slots", "0"], "--slots must be an integer of at least 1, got '0'"),
        (["f.py", "--slots", "4"], "--slots is how many trials --plan, --probe and --simulate count on"),
        (["f.py", "--plan", "--paper"], "--paper is part of a report, and --plan, --probe and --simulate write none"),
        (
            ["--paper", "f.py"],
            "--paper takes columns among value, paper, difference, .*, got 'f.py'; a search",
        ),
        (["f.py", "--sedes", "0"], "unrecognized arguments: --sedes"),
    ],
)
def test_each_wrong_option_is_one_sentence(argv: list[str], sentence: str) -> None:
    """The option, its value and what is allowed."""
    with pytest.raises(OptionError, match=sentence) as caught:
        parse_options(argv)
    assert "\n" not in str(caught.value)
