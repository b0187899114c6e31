"""The command line from end to end, with stub trials: what is trained, what is said, which code the shell sees."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import namedtuple
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mfm_tune.ledger.file import read_events
from mfm_tune.ledger.state import read_ledger
from mfm_tune.ledger.storage import Storage, driver
from mfm_tune.run import REPOSITORY, main
from tests.mfm_tune.stub_space import LINE, forgotten_after, write_space

Write = Callable[..., Path]
Run = Callable[..., int]
QUIET = ("--inline", "--no-tracking")
BOTH = 'STUDIES = {p: study(p, needs=("stub",) if p == "paper" else ()) for p in ("smoke", "mini", "paper")}'


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a search space whose body follows the common head."""
    with forgotten_after(tmp_path):
        yield partial(write_space, tmp_path)


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """A storage folder that does not exist yet."""
    return tmp_path / "storage"


@pytest.fixture
def run(tmp_path: Path, storage: Path) -> Run:
    """Runs a command in this process, as a new process would see the search space, and returns its exit code."""

    def run_command(path: Path | str, *options: str) -> int:
        with forgotten_after(tmp_path):
            return main([str(path), "--storage", str(storage), *QUIET, *options])

    return run_command


def keys_of(storage: Path, event: str) -> list[str]:
    """Keys of the events of one kind, in the ledger's order."""
    return [line["key"] for _, line in read_events(storage / "ledger.jsonl") if line["event"] == event]


def metrics(storage: Path) -> dict[tuple[str, int], dict[str, float]]:
    """The last metrics by config and seed."""
    trials = read_ledger(storage / "ledger.jsonl").trials.values()
    return {(record.config_id, record.seed): dict(record.metrics) for record in trials}


# --------------------------------------------------------------------------------------------------------------------
# What is trained, and what is not trained again
# --------------------------------------------------------------------------------------------------------------------


def test_a_study_trains_once_and_its_report_is_written_again(
    write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first command trains 2 configs x 3 seeds; the second trains nothing and prints the report."""
    path = write('STUDY = study("smoke")')
    assert run(path) == 0
    first = capsys.readouterr()
    assert "2 cells, 2 configs, 6 trials (6 to do), 1 at a time" in first.out
    assert len(re.findall(r"^\S+ \d/6 level \d, seed \d: finished, student mIoU \d+\.\d, after", first.out, re.M)) == 6
    where = shlex.quote(str(storage))
    assert f"\nNext: python -m mfm_tune.diff 'level 1' 'level 2' --storage {where} (two configs, paired)\n" in first.out
    assert first.err == ""
    assert len(keys_of(storage, "end")) == 6
    page = storage / "reports" / "spaced-smoke" / "report.html"
    page.unlink()

    assert run(path) == 0
    second = capsys.readouterr().out
    assert "6 finished, 0 to do" in second
    assert page.is_file()
    assert str(page) in second
    assert len(keys_of(storage, "start")) == 6


def test_only_and_seeds_narrow_a_launch(write: Write, run: Run, storage: Path) -> None:
    """`--seeds` trains these seeds, `--only` these axes; what other launches trained is not trained again."""
    path = write(
        "other = Table(name='b', title='B', axis=Axis(name='other', levels=((2, None), (3, None)),"
        " make=lambda value: StubConfig(level=value)))\n"
        "STUDY = study('smoke', tables=(study('smoke').tables[0], other))"
    )
    assert run(path, "--only", "level", "--seeds", "0") == 0
    assert len(keys_of(storage, "start")) == 2
    assert run(path, "--only", "b", "--seeds", "0,5") == 0
    assert len(keys_of(storage, "start")) == 5  # level 2 of seed 0 stands in both tables
    assert len(set(keys_of(storage, "start"))) == 5


def test_a_finished_study_has_nothing_to_do(
    write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--plan` tells what there is and what is left, before and after, and changes nothing."""
    path = write('STUDY = study("smoke")')
    assert run(path, "--plan") == 0
    before = capsys.readouterr().out
    assert "trials   6 (seeds 0, 1, 2): 6 to do" in before
    assert "time     unknown" in before
    assert not storage.exists()
    assert run(path, "--seeds", "0") == 0
    capsys.readouterr()
    ledger = (storage / "ledger.jsonl").read_bytes()
    assert run(path, "--plan") == 0
    half = capsys.readouterr().out
    assert "2 finished, 4 to do" in half
    assert re.search(r"time     about \d+ s, one trial after the other", half)
    assert run(path, "--plan", "--seeds", "0") == 0
    after = capsys.readouterr().out
    assert "2 finished, 0 to do" in after
    assert "time     nothing to do" in after
    assert (storage / "ledger.jsonl").read_bytes() == ledger


def test_failed_trials_are_shown_and_tried_again_oom_and_diverged_when_asked(
    write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure costs exit code 1, its traceback is kept and shown; outcomes that are results stand until asked for."""
    path = write(
        "CONFIGS = {'good': StubConfig(), 'bad': StubConfig(fail_at=3), 'oom': StubConfig(oom_at=3),"
        " 'nan': StubConfig(nan_at=3)}\n"
        "STUDY = study('smoke', levels=tuple((name, None) for name in CONFIGS), make=CONFIGS.get, seeds=(0,))"
    )
    assert run(path) == 1
    told = capsys.readouterr()
    assert "level bad, seed 0 failed:" in told.err
    assert "StubError: failed at step 3" in told.err
    assert "1 trial failed; the same command tries it again." in told.err
    kept = Path(re.findall(r"all of it: (.*)", told.err)[0])
    assert kept.read_text().startswith("Traceback")
    bad, oom, nan = keys_of(storage, "start")[1:]

    assert run(path) == 1
    assert keys_of(storage, "start")[4:] == [bad]
    assert run(path, "--retry-oom") == 1
    assert keys_of(storage, "start")[5:] == [bad, oom]
    assert run(path, "--retry-diverged") == 1
    assert keys_of(storage, "start")[7:] == [bad, nan]
    assert read_ledger(storage / "ledger.jsonl").trials[bad].attempts == 4


def test_a_failed_trial_whose_cause_is_gone_goes_on_from_its_checkpoint(
    write: Write, run: Run, storage: Path, tmp_path: Path
) -> None:
    """After the cause is removed the same command finishes it, with the bits of an undisturbed one."""
    body = "from pathlib import Path\nSTUDY = study('smoke', make=lambda value: StubConfig(level=value, need={need!r}))"
    need = tmp_path / "needed"
    path = write(body.format(need=str(need)))
    assert run(path) == 1
    need.touch()
    assert run(path) == 0
    undisturbed = metrics(storage)
    assert len(undisturbed) == 6
    shutil.rmtree(storage)
    assert run(path) == 0
    assert metrics(storage) == undisturbed


def test_early_stopping_of_a_table_never_stops_its_references(
    write: Write, storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every cell is compared with them, whenever they come to a rung."""
    given: list[Any] = []

    def engine(program: object, trials: object, recorder: object, options: Any) -> None:
        given.extend((trials, options.stopping))

    monkeypatch.setattr("mfm_tune.commands.session.engine_of", lambda options: engine)
    path = write('STUDY = study("smoke", seeds=(0, 1), references={"one": StubConfig(level=1)})')
    assert main([str(path), "--storage", str(storage), "--no-tracking", "--asha"]) == 1  # nothing was trained
    trials, stopping = given
    assert stopping.never == {trial.key for trial in trials if trial.config.level == 1}
    assert len(stopping.never) == 2


def test_results_of_other_code_stop_a_launch_until_it_is_said_what_to_do(
    write: Write, run: Run, storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A comment changes nothing; a changed line stops the launch and is named; reuse and retrain do what they say."""
    code = tmp_path / "own_code.py"
    code.write_text("RATE = 6\n")
    path = write('STUDY = study("smoke", program=StubProgram(("own_code",)), seeds=(0,))')
    assert run(path) == 0
    code.write_text("RATE = 6  # at output stride 8\n")
    assert run(path) == 0
    assert len(keys_of(storage, "start")) == 2
    code.write_text("RATE = 12\n")
    capsys.readouterr()

    assert run(path) == 2
    sentence = capsys.readouterr().err
    assert sentence.startswith("2 finished trials were trained by other code; since then these files changed: own_code")
    assert sentence.count("\n") == 1
    assert run(path, "--plan") == 0
    planned = capsys.readouterr().out
    assert "2 to do" in planned
    assert "own_code.py" in planned
    assert run(path, "--report-only") == 0
    assert "The report marks results of earlier code" in capsys.readouterr().out
    assert len(keys_of(storage, "start")) == 2

    capsys.readouterr()
    assert run(path, "--simulate", "--reuse") == 0
    assert "2 of 2 trials replayed" in capsys.readouterr().out
    assert run(path, "--simulate") == 2
    assert "give --reuse" in capsys.readouterr().out
    assert run(path, "--plan", "--reuse") == 0
    assert "2 finished, 0 to do" in capsys.readouterr().out
    assert run(path, "--reuse") == 0
    assert run(path) == 0  # what was said once stands
    assert len(keys_of(storage, "start")) == 2
    code.write_text("RATE = 24\n")
    assert run(path, "--retrain") == 0
    assert len(set(keys_of(storage, "start"))) == 4


def test_a_refused_launch_leaves_a_torn_line_where_it_is_and_the_next_one_says_where_it_went(
    write: Write, run: Run, storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Changed code refuses the launch before anything is written."""
    code = tmp_path / "own_code.py"
    code.write_text("RATE = 6\n")
    path = write('STUDY = study("smoke", program=StubProgram(("own_code",)), seeds=(0,))')
    assert run(path) == 0
    ledger = storage / "ledger.jsonl"
    ledger.write_bytes(ledger.read_bytes() + b'{"event":"repo')
    torn = ledger.read_bytes()
    code.write_text("RATE = 12\n")
    assert run(path) == 2
    assert ledger.read_bytes() == torn
    capsys.readouterr()
    assert run(path, "--reuse") == 0
    (kept,) = storage.glob("ledger.jsonl.cut-*")
    assert f"The ledger's last line was torn; what there was of it lies in {kept}." in capsys.readouterr().out
    assert b'{"event":"repo{' not in ledger.read_bytes()


def test_report_only_trains_nothing(write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It needs a ledger; a half-done one is reported as it is."""
    path = write('STUDY = study("smoke")')
    assert run(path, "--report-only") == 2
    assert "There is no ledger in" in capsys.readouterr().err
    assert run(path, "--seeds", "0") == 0
    assert run(path, "--report-only") == 0
    assert len(keys_of(storage, "start")) == 2
    assert (storage / "reports" / "spaced-smoke" / "report.md").is_file()


# --------------------------------------------------------------------------------------------------------------------
# What is said
# --------------------------------------------------------------------------------------------------------------------


def test_the_first_line_says_that_it_is_mini_and_how_to_get_paper(
    write: Write, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a data set the mini profile is chosen aloud; with it, or when asked for, nothing is said."""
    path = write(BOTH)
    assert run(path, "--plan") == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first.startswith("Profile mini, because no data set is configured")
    assert first.endswith("For the paper profile add --data stub=PATH")
    assert run(path, "--plan", "--data", f"stub={tmp_path}") == 0
    assert "profile paper" in capsys.readouterr().out.splitlines()[0]
    assert run(path, "--plan", "--profile", "mini") == 0
    assert "because" not in capsys.readouterr().out


def test_gpus_that_no_trial_uses_are_said(
    write: Write, run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the plan and before a run, with the remedy; not where somebody chose, and not where there are none."""
    path = write('STUDY = study("mini")')
    sentence = "2 GPUs here are not used; --gpus-per-trial 1 uses one for each trial."
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert run(path, "--plan") == 0
    assert capsys.readouterr().out.splitlines()[-1] == sentence
    assert run(path, "--plan", "--gpus-per-trial", "0") == 0
    assert run(path, "--plan", "--gpus-per-trial", "1") == 0
    assert run(write('STUDY = study("paper")', "paper_space.py"), "--plan") == 0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert run(path, "--plan") == 0
    assert "not used" not in capsys.readouterr().out
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert run(path) == 0
    assert capsys.readouterr().out.startswith("1 GPU here is not used; --gpus-per-trial 1 uses")


def test_a_part_of_the_papers_data_trains_no_small_benchmark(
    write: Write, run: Run, storage: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is missing is named, and the other way; either is taken."""
    path = write(BOTH.replace('("stub",)', '("stub", "weights")'))
    assert run(path, "--data", f"stub={tmp_path}") == 2
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert "Profile 'paper' of 'spaced' needs data that is not given; add --data weights=PATH, or " in said
    assert "by --profile mini" in said
    assert not storage.exists()
    assert run(path, "--plan", "--profile", "mini", "--data", f"stub={tmp_path}") == 0
    assert run(path, "--plan", "--data", f"stub={tmp_path}", f"weights={tmp_path}") == 0
    assert "profile paper" in capsys.readouterr().out


def test_without_a_file_the_search_spaces_are_listed(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the folder here, else those of the project."""
    monkeypatch.chdir(tmp_path)
    assert main([]) == 0
    assert re.search(r"search_spaces/table2\.py +Table 2 of the paper", capsys.readouterr().out)
    (tmp_path / "search_spaces").mkdir()
    write("", "search_spaces/mine.py")
    assert main([]) == 0
    assert capsys.readouterr().out == "search_spaces/mine.py  A space for a test.\n"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--only", "dim", "table2"], "'table2', which is a search space; FILE comes first: python"),
        (["--only", "dim", "mine.py", "--plan"], "'mine.py', which is a search space; FILE comes first"),
        (["--plan", "--only", "dim"], "No search space is given, but --plan is; FILE comes first"),
        (["--seeds", "0,1"], "No search space is given, but --seeds is; FILE comes first"),
    ],
)
def test_options_without_a_file_are_refused(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    words: list[str], sentence: str,
) -> None:  # fmt: skip
    """A list of search spaces and exit code 0 would pass for a run. -v alone asks for nothing else."""
    monkeypatch.chdir(tmp_path)
    write("", "mine.py")
    assert main(words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert one_sentence(said.err)
    assert sentence in said.err
    assert main(["-v"]) == 0


def test_the_installed_command_is_the_same(tmp_path: Path) -> None:
    """`mfm-tune table2` in any folder plans what `python -m mfm_tune.run search_spaces/table2.py` plans here."""
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    module, _, function = scripts["mfm-tune"].partition(":")
    code = f"import sys; from {module} import {function} as command; sys.exit(command())"
    options = ("--plan", "--profile", "smoke", "--storage", str(tmp_path / "none"))
    installed = subprocess.run(
        [sys.executable, "-c", code, "table2", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    here = subprocess.run(
        [sys.executable, "-m", "mfm_tune.run", "search_spaces/table2.py", *options],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert (installed.returncode, installed.stdout) == (here.returncode, here.stdout) == (0, installed.stdout)
    assert "57 to do" in installed.stdout


def test_planning_imports_neither_torch_nor_ray() -> None:
    """The plan of the paper's tables answers from declarations alone."""
    script = (
        "import sys; from mfm_tune.run import main\n"
        "for name in ('table2', 'figure4', 'controls'):\n"
        "    assert main([f'search_spaces/{name}.py', '--plan', '--storage', 'no/such/storage']) == 0\n"
        "print([name for name in ('torch', 'ray', 'mlflow', 'numpy', 'rich') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[]"
    assert "Profile mini, because" in said.stdout.splitlines()[0]
    assert said.stdout.count("distinct") == 3


# --------------------------------------------------------------------------------------------------------------------
# Bad input
# --------------------------------------------------------------------------------------------------------------------

BAD_FILES = [
    ('STUDY = study("mini", make=lambda v: StubConfig(levle=v))', "has no field 'levle'"),
    ('STUDY = study("mini", make=lambda v: Width(v * 9))', "level 2: Width.size must lie in [1, 9], got 18."),
    ('STUDY = study("mini", levels=((1, None), (1, None)))', "names level 1 twice"),
    ('STUDY = study("mini", make=lambda v: StubConfig())', "levels 1 and 2 train the same config"),
    ("STUDY = studdy()", f":{LINE}: NameError: name 'studdy' is not defined"),
    ("STUDY = (", f":{LINE}: '(' was never closed"),
    ("1 / 0", f":{LINE}: ZeroDivisionError: division by zero"),
]


def one_sentence(said: str) -> bool:
    """One line, no traceback."""
    return said.count("\n") == 1 and said.endswith("\n") and "Traceback" not in said


@pytest.mark.parametrize(("body", "sentence"), BAD_FILES)
@pytest.mark.parametrize("options", [(), ("--plan",)])
def test_a_bad_search_space_is_one_sentence_and_exit_code_2(
    write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str],
    body: str, sentence: str, options: tuple[str, ...],
) -> None:  # fmt: skip
    """Whether to plan or to train; nothing is written."""
    assert run(write(body), *options) == 2
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert sentence in said
    assert not storage.exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--only", "dim"], "--only got 'dim', which study 'spaced' does not have; its axes are level"),
        (["--seeds", "1,x"], "--seeds must be integers"),
        (["--profile", "huge"], "--profile got 'huge'"),
        (["--data", "kitti=/"], "--data names 'kitti'"),
        (["--data", "stub=/no/such"], "--data stub=/no/such does not exist"),
        (["--profile", "paper"], "add --data stub=PATH"),
        (["--cpus-per-trial", "many"], "--cpus-per-trial must be an integer"),
        (["--sedes", "1"], "unrecognized arguments: --sedes 1; see python -m mfm_tune.run --help."),
    ],
)
def test_a_bad_option_is_one_sentence_and_exit_code_2(
    write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    """The option, its value and the remedy; nothing is written."""
    assert run(write(BOTH), *options) == 2
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert sentence in said
    assert not storage.exists()


def test_data_that_the_program_refuses_ends_the_run_with_its_sentence(
    write: Write, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder without images is said once, not once a trial."""
    assert run(write('STUDY = study("smoke", make=lambda v: StubConfig(level=v, refuse=True))')) == 2
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert "has no images" in said


@pytest.mark.slow
def test_a_dataset_root_without_images_is_one_sentence(storage: Path, tmp_path: Path) -> None:
    """Real images from an empty folder: what is missing is named, and nothing begins."""
    (tmp_path / "empty").mkdir()
    data = ["--data", f"realpair={tmp_path / 'empty'}"]
    bad = subprocess.run(
        command(Path("search_spaces/camvid.py"), storage, *data), cwd=REPOSITORY, capture_output=True, text=True
    )
    assert bad.returncode == 2
    assert one_sentence(bad.stderr)
    assert bad.stderr.startswith(f"--data realpair={tmp_path / 'empty'} must be a folder with source/images")
    assert not storage.exists()


@pytest.mark.parametrize("options", [(), ("--report-only",)])
def test_a_storage_that_cannot_be_written_is_one_sentence(
    write: Write, capsys: pytest.CaptureFixture[str], tmp_path: Path, options: tuple[str, ...]
) -> None:
    """A file in its place, a folder under a file, and the kernel's read-only folders."""
    path = write('STUDY = study("smoke")')
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "runs", Path("/proc/mfm")):
        assert main([str(path), "--storage", str(place), *QUIET, *options]) == 2
        said = capsys.readouterr().err
        assert one_sentence(said)
        assert str(place) in said
        assert "--storage" in said


def test_a_full_disk_is_one_sentence_before_anything_is_trained(
    write: Write, run: Run, storage: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The space is looked at first (here the answer is made up)."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(100, 99, 1))
    assert run(write('STUDY = study("smoke")')) == 2
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert "has 0 MiB of free space" in said
    assert not list(storage.glob("*"))


def command(path: Path, storage: Path, *options: str) -> list[str]:
    """The command line of a driver process."""
    return [sys.executable, "-m", "mfm_tune.run", str(path), "--storage", str(storage), *QUIET, *options]


def test_a_disk_that_fills_up_in_mid_run_is_one_sentence_and_the_rest_runs_when_there_is_space(
    write: Write, storage: Path
) -> None:
    """A limit on file sizes plays the full disk. The ledger ends with a whole line, and the same command carries on."""
    path = write('STUDY = study("smoke", levels=tuple((n, None) for n in range(40)), seeds=(0,))')
    limit = 12_000  # bytes, less than the ledger of 40 trials

    def small_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    full = subprocess.run(
        command(path, storage), cwd=REPOSITORY, capture_output=True, text=True, preexec_fn=small_files
    )
    assert full.returncode == 2
    assert one_sentence(full.stderr)
    assert "ledger.jsonl cannot be written" in full.stderr
    content = (storage / "ledger.jsonl").read_bytes()
    assert content.endswith(b"}\n")
    done = set(keys_of(storage, "end"))
    assert 0 < len(done) < 40
    again = subprocess.run(command(path, storage), cwd=REPOSITORY, capture_output=True, text=True)
    assert again.returncode == 0
    assert len(keys_of(storage, "end")) == 40
    assert not done & set(keys_of(storage, "start")[len(done) + 1 :])


def test_the_shell_sees_one_sentence(write: Write, storage: Path) -> None:
    """The same in a process of its own: exit code 2, nothing but the sentence on stderr; `-v` adds the traceback."""
    path = write("1 / 0")
    bad = subprocess.run(command(path, storage), cwd=REPOSITORY, capture_output=True, text=True)
    assert (bad.returncode, bad.stdout) == (2, "")
    assert one_sentence(bad.stderr)
    verbose = subprocess.run(command(path, storage, "-v"), cwd=REPOSITORY, capture_output=True, text=True)
    assert verbose.returncode == 2
    assert verbose.stderr.startswith("Traceback")
    assert verbose.stderr.endswith(bad.stderr)


def test_a_second_driver_is_refused_and_told_by_whom(
    write: Write, run: Run, storage: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Planning is free while a driver runs; training is refused with its host and pid."""
    path = write('STUDY = study("smoke")')
    with driver(Storage(storage)):
        assert run(path, "--plan") == 0
        assert run(path) == 2
    said = capsys.readouterr().err
    assert one_sentence(said)
    assert f"in use by the driver with pid {os.getpid()} on {os.uname().nodename}" in said


# --------------------------------------------------------------------------------------------------------------------
# Signals
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_cleanly_and_the_same_command_carries_on(
    write: Write, run: Run, storage: Path, number: signal.Signals, code: int
) -> None:
    """It says what is done and how to go on; the trial in progress stays open and ends with the same bits."""
    path = write(
        "STUDY = study('smoke', make=lambda v: StubConfig(steps=40, interval=4, level=v, sleep_s=0.01), seeds=(0,))"
    )
    process = subprocess.Popen(
        command(path, storage), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for_report(storage, step=8)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == code
    assert err == ""
    first, resuming, to_see = out.splitlines()[-3:]
    assert first == f"Stopped by {number.name}: of 2 trials 2 to do (1 under way)."
    assert resuming == "The 1 under way resume from their last checkpoints. To resume, give the same command again."
    shown = shlex.split(to_see.partition("To see the tables so far: python -m mfm_tune.run ")[2])
    assert main(shown) == 0  # what it prints is what can be typed
    assert not (storage / "driver.json").exists()
    open_trials = [record for record in read_ledger(storage / "ledger.jsonl").trials.values() if not record.is_final]
    assert [record.outcome for record in open_trials] == [None]

    assert run(path) == 0
    resumed = metrics(storage)
    executed = {key: record.executed_steps for key, record in read_ledger(storage / "ledger.jsonl").trials.items()}
    assert sum(executed.values()) <= 2 * 40 + 4
    shutil.rmtree(storage)
    assert run(path) == 0
    assert metrics(storage) == resumed


def wait_for_report(storage: Path, step: int) -> None:
    """Until some trial has reported this step."""
    ledger = storage / "ledger.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        lines = ledger.read_text().splitlines() if ledger.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("}")]
        if any(event["event"] == "report" and event["step"] >= step for event in events):
            return
        time.sleep(0.02)
    pytest.fail(f"no trial reported step {step}")


def test_a_reader_that_goes_away_stops_no_trial(write: Write, storage: Path) -> None:
    """`... | head -1`: trials run to the end, and the shell sees a broken pipe."""
    path = write('STUDY = study("smoke")')
    process = subprocess.Popen(command(path, storage), cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    process.wait(timeout=60)
    assert process.returncode in (0, 141)  # 0 where everything fitted into the pipe before it closed
    assert len(keys_of(storage, "end")) == 6
