"""What a table prints and a search chooses by is reported by its trials, or is refused before any of them trains."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mfm_tune import run
from mfm_tune.criteria import SOURCE_MIOU, TARGET_ENTROPY
from mfm_tune.errors import SearchSpaceError
from mfm_tune.planning.checks import check_search, check_study
from mfm_tune.search_space import Float, Search
from mfm_tune.space import Axis, Study, Table
from trainables.program import Segmentation
from trainables.recipes import MINI, dacs, dacs_mfm, mfm, source_only, with_selection_criteria

AXIS = Axis(name="ratio", levels=((0.4, None), (0.5, None)), make=lambda ratio: dacs(MINI, mfm(MINI, ratio=ratio)))
TABLE = Table(name="t", title="T", axis=AXIS, columns=(("student/iou/road", "road"), ("loss/mfm", "loss")))
STUDY = Study(
    name="s", title="S", profile="mini", program=Segmentation(), tables=(TABLE,), references={"DACS": dacs(MINI)}
)
SEARCH = Search(
    name="s", title="S", profile="mini", program=Segmentation(), parameters={"ratio": Float(0.1, 0.9)},
    make=lambda values: with_selection_criteria(dacs(MINI, mfm(MINI, ratio=values["ratio"]))),
    baselines={"DACS": with_selection_criteria(dacs(MINI))}, criterion=SOURCE_MIOU,
)  # fmt: skip


def test_what_trials_report_is_let_through() -> None:
    """Scores, a class, a loss of any name; a teacher that only some of the configs have."""
    check_study(STUDY)
    check_search(SEARCH)
    only_source = Axis(name="none", levels=(("source-only", None),), make=lambda _: source_only(MINI))
    check_study(replace(STUDY, tables=(Table(name="t", title="T", axis=only_source),)))


@pytest.mark.parametrize(
    ("declared", "sentence"),
    [
        (replace(STUDY, metric="student/miuo"),
         "Table 't' of study 's', metric: 'student/miuo' is no metric that these trials report; "
         "did you mean 'student/miou'?"),
        (replace(STUDY, tables=(replace(TABLE, columns=(("student/iou/raod", "road"),)),)),
         "Table 't' of study 's', columns: 'student/iou/raod' is no metric that these trials report; "
         "did you mean 'student/iou/road'?"),
        (replace(STUDY, second_metric="tutor"),
         "Study 's', second_metric: 'tutor' is no metric that these trials report; there are student/miou, "),
        (replace(SEARCH, make=lambda values: dacs_mfm(MINI)),
         "Search 's', criterion of a point that `make` makes: 'source/miou' is no metric"),
        (replace(SEARCH, baselines={"DACS": dacs(MINI)}),
         "Search 's', criterion of baseline 'DACS': 'source/miou' is no metric"),
        (replace(SEARCH, criterion=replace(TARGET_ENTROPY, key="criterion/entropie")),
         "Search 's', criterion of baseline 'DACS': 'criterion/entropie' is no metric that these trials report; "
         "did you mean 'criterion/entropy'?"),
        (replace(SEARCH, make=lambda values: dacs(MINI, mfm(MINI, ratio=values["ratoi"]))),
         "Search 's', make: KeyError: 'ratoi'; correct the file."),
        (replace(SEARCH, make=lambda values: 1 / 0),
         "Search 's', make: ZeroDivisionError: division by zero; correct the file."),
        (replace(SEARCH, make=lambda values: sys.exit(4)), "Search 's', make: SystemExit: 4; correct the file."),
        (replace(SEARCH, make=lambda values: None),
         "Search 's', make: the config must be a frozen dataclass, got None."),
        (replace(STUDY, references={"DACS": Float(0.1, 0.9)}),
         "A config is one that its program refuses: Segmentation trains an Experiment, got Float."),
        (replace(SEARCH, metric="teacher/miuo"), "Search 's', metric: 'teacher/miuo' is no metric"),
    ],
)  # fmt: skip
def test_what_they_do_not_report_is_one_sentence(declared: Study | Search, sentence: str) -> None:
    """It says where, and what was meant."""
    with pytest.raises(SearchSpaceError) as refused:
        check_search(declared) if isinstance(declared, Search) else check_study(declared)
    assert str(refused.value).startswith(sentence)


def test_a_command_refuses_it_before_it_writes_anything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; no storage folder comes to be."""
    space = tmp_path / "misspelt.py"
    space.write_text(
        "from dataclasses import replace\n"
        "from search_spaces import table2\n"
        "STUDY = replace(table2.STUDIES['smoke'], metric='student/miuo')\n"
    )
    assert run.main([str(space), "--plan", "--storage", str(tmp_path / "runs")]) == 2
    assert "did you mean 'student/miou'?" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
