"""`python -m mfm_tune.diff`: fields that differ, metrics side by side, and the paired interval."""

from __future__ import annotations

from pathlib import Path

import pytest

from mfm_tune import diff
from mfm_tune.identity import config_id
from mfm_tune.ledger.records import trial_key
from mfm_tune.ledger.state import read_ledger
from mfm_tune.results.comparison import labels_of
from mfm_tune.results.statistics import paired_difference
from mfm_tune.space import Axis, Table
from tests.mfm_tune.made_ledger import MadeLedger, stub, stub_study
from tests.mfm_tune.made_search import BASELINE, MadeSearch
from tests.mfm_tune.tracking.tracking_ledger import DACS, DEFAULT, FINGERPRINT, Fiction, retrained, write


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four configs, three seeds, one trial failed."""
    folder = tmp_path_factory.mktemp("storage")
    write(folder, Fiction(outcomes={(DACS, 1): "failed"}).events())
    return folder


def said(storage: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a command."""
    code = diff.main([*arguments, "--storage", str(storage)])
    out, err = capsys.readouterr()
    return code, out, err


def test_fields_and_paired_intervals(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What differs is named, and the interval is that of the seeds which both finished."""
    code, out, _ = said(storage, capsys, DACS, "000000000128")
    assert code == 0
    lines = {line.split("  ")[0].strip(): line for line in out.splitlines()}
    assert lines["auxiliary[Masking].dim"].split()[1:] == ["–", "128"]
    assert "steps" not in lines
    state = read_ledger(storage / "ledger.jsonl")
    finals = {
        config: {seed: state.trials[trial_key(config, seed, FINGERPRINT)].metrics["student/miou"] for seed in (0, 2)}
        for config in (DACS, "000000000128")
    }
    paired = paired_difference(finals["000000000128"], finals[DACS])
    assert paired.low is not None
    assert paired.high is not None
    assert f"{paired.mean:+.4g}  {paired.low:+.4g} … {paired.high:+.4g}" in " ".join(lines["student/miou"].split("   "))
    assert "seeds that both have: 0, 2" in out


def test_two_trials_are_compared_alone(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trial keys take these trials, and one seed has no interval."""
    code, out, _ = said(storage, capsys, f"{DACS}-s2", f"{DEFAULT}-s2", "--metric", "miou")
    assert code == 0
    assert f"A  {DACS}-s2-{FINGERPRINT[:8]}" in out
    assert "an interval needs two seeds" in out
    assert "loss/source" not in out


def test_a_seed_is_not_the_beginning_of_another_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seeds 10 and 11 are no part of `s1`."""
    write(tmp_path, Fiction(seeds=12, widths=(), reports=1).events())
    _, out, _ = said(tmp_path, capsys, f"{DACS}-s1", f"{DEFAULT}-s1", "--metric", "student/miou")
    assert f"A  {DACS}-s1-{FINGERPRINT[:8]}" in out
    assert "the seeds that both have: 1, as far" in out


@pytest.mark.parametrize("declared", [True, False])
def test_results_of_other_code_are_compared_only_by_their_keys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, declared: bool
) -> None:
    """Of a config those of the code that its driver last declared count, as in the report and in MLflow."""
    write(tmp_path, retrained(declared=declared))
    code, out, _ = said(tmp_path, capsys, DACS, DEFAULT, "--metric", "student/miou")
    assert code == 0
    row = next(line for line in out.splitlines() if line.startswith("student/miou"))
    assert row.split()[1:3] == ["90", "(1)"]
    assert ("11 ± 1 (3)" in row) is not declared
    assert "A: results of other code do not count, seeds 0, 1, 2" in out
    assert said(tmp_path, capsys, f"{DACS}-s0-a", f"{DACS}-s0-b")[1].partition("\n")[2].count("80") == 2


def test_configs_are_called_as_in_reports(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside each id, which can be copied, stand its references and rows; a sentence that lists ids names them too."""
    code, out, _ = said(storage, capsys, DACS, "000000000128")
    assert code == 0
    assert out.splitlines()[1:3] == [f"A  {DACS}  DACS, case Baseline", "B  000000000128  dim 128"]
    _, out, _ = said(storage, capsys, f"{DEFAULT}-s2", "000000000256")
    assert out.splitlines()[1].split("  ")[1:] == [
        f"{DEFAULT}-s2-{FINGERPRINT[:8]}",
        "default, case Masking + Rebuilding",
    ]
    _, _, err = said(storage, capsys, "0000", DEFAULT)
    assert f"begins 3 configs: {DACS} (DACS), 000000000128 (dim 128), 000000000256 (dim 256);" in err


def test_a_config_that_nothing_declares_has_its_id_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As where a row was renamed since: no name is made up."""
    write(tmp_path, [event for event in Fiction(seeds=1).events() if event["event"] != "study"])
    code, out, _ = said(tmp_path, capsys, DACS, DEFAULT)
    assert code == 0
    assert out.splitlines()[1:3] == [f"A  {DACS}", f"B  {DEFAULT}"]


def test_points_and_baselines_of_a_search_have_names() -> None:
    """A search's baselines by name, its points by number, as its report has them."""
    made = MadeSearch()
    made.point(3, {"student/miou": 50.0})
    (point,) = made.state.proposals["stub", "mini"]
    assert labels_of(made.state, point["config_id"]) == ("trial 3 of stub",)
    assert labels_of(made.state, config_id(BASELINE)) == ("DACS",)


def test_a_config_equals_itself(storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A beginning that fits one config is enough; the same config has no field that differs."""
    code, out, _ = said(storage, capsys, "1111", DEFAULT)
    assert code == 0
    assert "The configs are the same." in out
    assert "+0  +0 … +0" in " ".join(out.split("   "))


@pytest.fixture
def levels(tmp_path: Path) -> Path:
    """A ledger of three tables and three seeds with numbers by hand: level 2 gains, level 3 loses, level 4 wavers. A
    level of the last one is printed as the reference is called, which the reference's name still means."""
    gains = {0: (50, 50, 50), 1: (50, 50, 50), 2: (52, 52.4, 51.6), 3: (47, 47.5, 46.5), 4: (53, 49, 50), 5: (1, 2, 3)}
    tables = (
        Table(
            name="t", title="(a) Levels", axis=Axis(name="level", levels=tuple((n, None) for n in (1, 2, 3)), make=stub)
        ),
        Table(
            name="u",
            title="(b) Others",
            axis=Axis(name="other", levels=((2, None), (4, None)), make=lambda n: stub(n, 8)),
        ),
        Table(
            name="v",
            title="(c) Control",
            axis=Axis(name="control", levels=(5,), make=stub, label=lambda _: "base", against=lambda _: stub(0)),
        ),
    )
    made = MadeLedger(stub_study({}, tables=tables))
    for config in made.study.configs().values():
        for seed, value in enumerate(gains[config.level]):
            made.trial(config, seed, {"student/miou": value, "criterion/entropy": value, "loss/source": -value})
    write(tmp_path, made.written)
    return tmp_path


@pytest.mark.parametrize(
    ("first", "second", "line"),
    [
        ("level 2", "base", "level 2 beats base by +2.0 mIoU (95 % +1.0 to +3.0, 3 seeds, student mIoU)"),
        ("level 3", "BASE", "base beats level 3 by +3.0 mIoU (95 % +1.8 to +4.2, 3 seeds, student mIoU)"),
        ("other=4", "base", "inconclusive: other 4 minus base is +0.7 mIoU (95 % −4.5 to +5.8, 3 seeds, student mIoU)"),
        ("default", "base", "no difference: default and base are equal on each of 3 seeds (student mIoU)"),
        ("(a) levels  2", "t 3", "level 2 beats level 3 by +5.0 mIoU (95 % +4.8 to +5.2, 3 seeds, student mIoU)"),
        ("4", "level 2", "inconclusive: other 4 minus level 2 is −1.3 mIoU (95 % −6.8 to +4.2, 3 seeds, student mIoU)"),
        ("base", "base", "the same: A and B are one, base"),
    ],
)
def test_the_first_line_is_the_answer(
    levels: Path, capsys: pytest.CaptureFixture[str], first: str, second: str, line: str
) -> None:
    """Names as the report, the table and its title have them, whatever their case; the interval is the paired one."""
    code, out, _ = said(levels, capsys, first, second)
    assert (code, out.splitlines()[0]) == (0, line)


def test_what_is_better_is_known_of_criteria_and_nothing_is_better_of_others(
    levels: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Entropy is better where it is smaller; a loss is above or below."""
    _, out, _ = said(levels, capsys, "level 2", "base", "--metric", "entropy")
    assert out.splitlines()[0].startswith("base beats level 2 by −2.000 (95 % −2.994 to −1.006, ")
    _, out, _ = said(levels, capsys, "level 2", "base", "--metric", "loss")
    assert out.splitlines()[0].startswith("level 2 is below base: −2 (")


def test_finished_trials_without_a_number_are_told_from_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = MadeLedger(stub_study({1: None}, seeds=(0,)))
    for level, miou in ((0, 50.0), (1, float("inf"))):
        made.trial(stub(level), 0, {"student/miou": miou, "loss": 1.0}, curve=lambda value, _: value)
    write(tmp_path, made.written)
    first = said(tmp_path, capsys, "level 1", "base")[1].splitlines()[0]
    assert first.endswith("no seed has a finished trial of both default and base with a number of student mIoU")


def test_a_profile_is_printed_as_it_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a hyphen, where the ledger has an underscore; either is taken."""
    made = MadeLedger(stub_study({10: None, 11: None}, profile="paper_bf16"))
    for config in made.study.configs().values():
        made.trial(config, 0, {"student/miou": config.level})
    write(tmp_path, made.written)
    for name in ("paper-bf16", "paper_bf16"):
        assert said(tmp_path, capsys, "level 1", "base", "--profile", name)[2].count("stub at paper-bf16\n") == 2
    told = said(tmp_path, capsys, "level 1", "base", "--profile", "paper_none")[2]
    assert "names nothing in it in profile paper-none; it has" in told


@pytest.mark.parametrize("wanted", [["nope"], ["miou", "nope"]])
def test_a_metric_that_there_is_not_is_refused_with_those_that_there_are(
    levels: Path, capsys: pytest.CaptureFixture[str], wanted: list[str]
) -> None:
    """Whatever else is asked for, and where A is B, too."""
    for first in ("level 2", "base"):
        code, out, err = said(levels, capsys, first, "base", "--metric", *wanted)
        assert (code, out) == (2, "")
        assert err == (
            "--metric got 'nope', which is in the name of no metric; there are student/miou, criterion/entropy, "
            "loss/source.\n"
        )


def test_rows_of_one_name_are_listed_with_their_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the same method has one on each benchmark; a name that the list gives finds its config."""
    tables = tuple(
        Table(
            name=name,
            title=f"Levels {name}",
            axis=Axis(name="level", levels=((1, None), (2, None)), make=lambda n, steps=steps: stub(n, steps)),
        )
        for name, steps in (("here", 4), ("there", 8))
    )
    made = MadeLedger(stub_study({}, tables=tables, references={}))
    for config in made.study.configs().values():
        made.trial(config, 0, {"student/miou": config.level})
    write(tmp_path, made.written)
    _, _, err = said(tmp_path, capsys, "level 1", "level 2")
    assert [row.split()[1:3] for row in err.splitlines()[1:]] == [["here", "1"], ["there", "1"]]
    assert said(tmp_path, capsys, "here 1", "there 2")[0] == 0
    assert made.study.name_of(config_id(stub(1, 8))) == "there 1"


def test_all_that_a_name_may_mean_are_listed(levels: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With id, names and study, which can be copied; an option narrows it, to nothing too."""
    code, out, err = said(levels, capsys, "lev", "base")
    assert (code, out) == (2, "")
    head, *rows = err.splitlines()
    assert head.startswith("'lev' means 3 configs; give more of the name")
    assert [row.split()[1:3] for row in rows] == [["level", "1,"], ["level", "2"], ["level", "3"]]
    assert all(row.endswith("stub at mini") and said(levels, capsys, row.split()[0], "base")[0] == 0 for row in rows)
    assert said(levels, capsys, "lev", "base", "--profile", "mini", "--study", "stub")[2] == err
    assert (
        "names nothing in it in profile paper; it has" in said(levels, capsys, "lev", "base", "--profile", "paper")[2]
    )


@pytest.mark.parametrize(
    ("first", "sentence"),
    [
        ("0000", "begins 3 configs"),
        ("fff", "begins no config id"),
        ("", "begins no config id"),
        (f"{DACS}-s9", "begins no"),
    ],
)
def test_what_names_no_config_is_refused(
    storage: Path, capsys: pytest.CaptureFixture[str], first: str, sentence: str
) -> None:
    """Exit code 2 and one sentence with what there is."""
    code, _, err = said(storage, capsys, first, DEFAULT)
    assert code == 2
    assert sentence in err
    assert len(err.splitlines()) == 1


def test_a_storage_without_a_ledger_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2 and the remedy."""
    code, _, err = said(tmp_path, capsys, "a", "b")
    assert code == 2
    assert "give the --storage of a run" in err


def test_it_answers_without_torch_and_mlflow() -> None:
    """A small question needs no heavy library."""
    import subprocess
    import sys

    code = "import sys, mfm_tune.diff; print(any(name in sys.modules for name in ('torch', 'ray', 'mlflow')))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "False"
