"""Table 1 as a search space: every row, the paper's numbers, and what a smaller profile changes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from mfm_tune.identity import Change, canonical, config_id, difference
from mfm_tune.space import Published, Study, Table
from search_spaces.table1 import NOTES, STUDIES, Method
from tests.search_spaces.full_size import measured
from trainables.config import Experiment
from trainables.program import Segmentation
from trainables.recipes import OVER_SEEDS

ROOT = Path(__file__).resolve().parents[2]
PROFILES = ("smoke", "mini", "paper")

# What may differ between two profiles of one row: sizes, durations, and what belongs to the small networks and images.
SIZES = re.compile(
    r"data\.|network\.|initial|execution\.precision|schedule\.(steps|warmup_steps|power)|batch_size|evaluation\.(interval|slide|batch_size)"
    r"|optimizer\.(learning_rate|head_factor|decay_norms)|rare_class_sampling\.min_pixels"
    r"|adaptation\.margins\.(top|bottom|left|right|of_size)|auxiliary\[FeatureDistance\]\.classes"
    r"|auxiliary\[MaskedConsistency\]\.block|auxiliary\[Mfm\]\.(grid|rebuilder\.(dim|heads|learning_rate))"
    r"|auxiliary\[PixelContrast\]\.(views|dim|learning_rate_factor)"
    r"|auxiliary\[PatchContrast\]\.(window|long_side|dim|bank_cells)"
    r"|auxiliary\[ClassContrast\]\.(dim|hidden|bank_steps|learning_rate_factor)|adaptation\.class_crop"
    r"|adaptation\.mixer\.rare\.(classes|more_than)"
)


UNPRINTED = {  # rows that the paper does not have
    *("DAFormer in PiPa's recipe", "PiPa w/ MFM", "QuadMix w/ MFM"),
    *("DAFormer in SePiCo's recipe", "SePiCo", "SePiCo w/ MFM"),
}


def published(study: Study, table: str) -> dict[str, Published]:
    """The paper's rows of one table, trained and quoted."""
    found = next(one for one in study.tables if one.name == table)
    rows = {level.value: paper for level, paper in found.axis.levels if isinstance(paper, Published)}
    return rows | {row.label: row.paper for row in found.quoted}


def row(profile: str, table: str, method: Method) -> Experiment:
    """The config of a row."""
    found = next(one for one in STUDIES[profile].tables if one.name == table)
    config = found.axis.make(method)
    assert isinstance(config, Experiment)
    return config


# -- the paper's numbers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("table", "classes"), [("gta", 19), ("synthia", 16)])
def test_every_row_of_the_paper_stands_in_its_half(profile: str, table: str, classes: int) -> None:
    """Six methods with and without MFM are trained; GANDA is quoted; printed rows have all classes."""
    rows = published(STUDIES[profile], table)
    assert list(rows) == [*(method.value for method in Method), "GANDA"]
    assert {len(paper.columns) for paper in rows.values() if paper.miou is not None} == {classes}
    assert {name for name, paper in rows.items() if paper.miou is None} == UNPRINTED
    assert not any(rows[name].columns for name in UNPRINTED)


@pytest.mark.parametrize("table", ["gta", "synthia"])
def test_printed_means_follow_from_printed_classes_but_for_two_noted_slips(table: str) -> None:
    """A mean that is off by more than rounding carries a note, and no other row does but for its recipe."""
    slips = {
        name
        for name, paper in published(STUDIES["paper"], table).items()
        if paper.miou is not None and abs(np.mean(list(paper.columns.values())) - paper.miou) > 0.08
    }
    assert slips == {"gta": {"MIC w/ MFM"}, "synthia": {"DACS"}}[table]
    noted = {name for name, paper in published(STUDIES["paper"], table).items() if "average" in paper.note}
    assert noted == slips


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("table", ["gta", "synthia"])
def test_every_row_names_its_base_and_recipe(profile: str, table: str) -> None:
    """Quoted rows those of their papers, trained rows what is trained here, at the profile's own sizes."""
    rows = published(STUDIES[profile], table)
    assert "MIC" in rows["QuadMix"].note
    assert all(word in rows["PiPa"].note for word in ("DAFormer", "640", "60,000"))
    assert all(word in rows["SePiCo"].note for word in ("70.3", "64.3", "640", "no SePiCo"))
    assert all(word in rows["GANDA"].note for word in ("AAAI 2023", "not trained"))
    config = row(profile, table, Method.MIC)
    size = " x ".join(map(str, config.data.training_size))
    assert rows["MIC"].note.startswith(f"Trained here on HRDA with crops of {size} pixels, {config.schedule.steps:,} ")
    assert all(f"Trained here on {row(profile, table, m).network.label} " in rows[m.value].note for m in Method)


def test_numbers_are_those_of_the_papers_text(shared: Path) -> None:
    """Every printed number, compared with the text of the paper, row by row."""
    lines = (shared / "paper" / "mfm.txt").read_text().splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("Method Road"))
    half, name, seen = "", "", 0
    for line in lines[start + 1 :]:
        if line.startswith("Table 1"):
            break
        if "Cityscape" in line:
            half = "gta" if line.startswith("GTA") else "synthia"
            continue
        words = line.split()
        numbers = [float(word) for word in words if re.fullmatch(r"\d+\.\d", word)]
        name = f"{name} w/ MFM" if words[0] == "w/" else words[0]
        paper = published(STUDIES["paper"], half)[name]
        assert [*paper.columns.values(), paper.miou] == numbers, (half, name)
        seen += 1
    assert seen == 22


# -- what is trained and compared -----------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_every_row_trains_its_own_config_and_is_compared_with_its_own_baseline(profile: str) -> None:
    """With MFM minus the row above, PiPa and SePiCo minus their recipes alone, QuadMix minus MIC; others nothing."""
    cells = list(STUDIES[profile].cells())
    assert len({cell.config_id for cell in cells}) == len(cells) == 32
    mic = {cell.table: cell.config_id for cell in cells if cell.level == "MIC"}
    for above, cell in pairwise(cells):
        if cell.level.endswith("w/ MFM") or cell.level in ("PiPa", "SePiCo"):
            assert cell.against == above.config_id
            assert cell.table == above.table
        else:
            assert cell.against == (mic[cell.table] if cell.level == "QuadMix" else None)


@pytest.mark.parametrize("profile", PROFILES)
def test_columns_are_metrics_that_a_trial_reports(profile: str) -> None:
    """Per-class keys of the classes that the profile scores, and the mean of the half."""
    study = STUDIES[profile]
    for table in study.tables:
        config = row(profile, table.name, Method.DACS)
        names = Segmentation().class_names(config)
        classes = [key.removeprefix("student/iou/") for key, _ in table.columns if key.startswith("student/iou/")]
        assert set(classes) <= set(names)
        assert len(classes) == {"gta": len(names), "synthia": 10 if profile != "paper" else 16}[table.name]
        headings = [heading for _, heading in table.columns]
        assert len(set(headings)) == len(headings)
    assert metric(study.tables[0]) is None
    assert metric(study.tables[1]) == ("student/miou16" if profile == "paper" else "student/miou10")


def metric(table: Table) -> str | None:
    """The metric of a table; None is the study's."""
    return table.metric


def test_the_paper_profile_says_what_it_needs() -> None:
    """Both sources, the target, and the ImageNet weights of both encoders; the small profiles need nothing."""
    assert set(STUDIES["paper"].needs) == {"gta", "synthia", "cityscapes", "resnet101-v1c", "mit-b5"}
    assert STUDIES["mini"].needs == STUDIES["smoke"].needs == ()


@pytest.mark.parametrize("profile", ["smoke", "mini"])
def test_a_smaller_profile_changes_sizes_only(profile: str) -> None:
    """Every row: the difference of its config to the paper's, printed (pytest -s), holds fields of size only.

    Smoke's confidence threshold is lower too: its few steps make no teacher that is sure of anything.
    """
    allowed = {"adaptation.threshold"} if profile == "smoke" else set()
    for table in STUDIES[profile].tables:
        for method in Method:
            changes = difference(
                canonical(row(profile, table.name, method)), canonical(row("paper", table.name, method))
            )
            print(f"\n{table.name}: {method.value}, {profile} against paper")
            for change in changes:
                print(f"  {change.field:<55} {_short(change.first):>40} {_short(change.second):>40}")
            others = {change.field for change in changes if not SIZES.match(change.field)}
            assert others <= allowed


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


def test_the_test_of_sizes_would_see_another_method() -> None:
    """A ratio, a threshold or a task that differs is no size."""
    config = row("mini", "gta", Method.MIC_MFM)
    others = (
        replace(config, auxiliary=config.auxiliary[1:]),
        replace(config, auxiliary=(*config.auxiliary[:2], replace(config.auxiliary[2], ratio=0.5))),
        replace(config, adaptation=replace(config.adaptation, momentum=0.9)),  # type: ignore[arg-type]
        replace(config, rare_class_sampling=None),
    )
    for other in others:
        changes: tuple[Change, ...] = difference(canonical(other), canonical(config))
        assert any(not SIZES.match(change.field) for change in changes)


# -- by the command line --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", PROFILES)
def test_the_plan_is_right(profile: str, tmp_path: Path) -> None:
    """32 configs, 96 trials; neither torch nor ray is imported."""
    argv = ["search_spaces/table1.py", "--profile", profile, "--plan", "--storage", str(tmp_path)]
    code = (
        f"import sys; from mfm_tune.run import main; status = main({argv!r}); "
        "assert not {'torch', 'ray'} & set(sys.modules); sys.exit(status)"
    )
    told = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert re.search(r"configs +32 distinct", told)
    assert re.search(r"trials +96 \(seeds 0, 1, 2\): 96 to do", told)


@pytest.mark.slow
@pytest.mark.parametrize("table", ["gta", "synthia"])
@pytest.mark.parametrize("method", list(Method), ids=lambda method: method.value)
def test_every_row_trains_a_step_and_is_scored_at_smoke(method: Method, table: str, tmp_path: Path) -> None:
    """Every method on two benchmarks: one step, the table's metrics, all of them numbers."""
    config = row("smoke", table, method)
    config = replace(config, initial=None, schedule=replace(config.schedule, steps=1))
    trial = Segmentation().open(config, seed=0, folder=str(tmp_path / "t"), shared=str(tmp_path / "s"), data={})
    report = trial.advance()
    assert report["outcome"] == "finished"
    found = next(one for one in STUDIES["smoke"].tables if one.name == table)
    for key in (found.metric or "student/miou", *(key for key, _ in found.columns)):
        assert key in report["metrics"]
    assert np.isfinite(report["metrics"][found.metric or "student/miou"])
    trial.close()


FULL = "MFM_TUNE_FULL_SIZE"


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(FULL not in os.environ, reason=f"takes 10 minutes and up to 14 GB of memory: set {FULL}=1")
@pytest.mark.parametrize("method", list(Method), ids=lambda method: method.value)
def test_every_row_trains_a_step_at_full_architecture(method: Method) -> None:
    """Batch 1 + 1 at the published crops, and one image labelled, in a process of its own; its peak memory is told."""
    told = measured(method.name)
    print(told)
    assert told["peak_gb"] < 14


def test_configs_have_ids_of_their_own() -> None:
    """Rows of different profiles are different trials."""
    ids = [config_id(row(profile, "gta", method)) for profile in PROFILES for method in Method]
    assert len(set(ids)) == len(ids)


def test_every_study_begins_with_what_its_means_are_taken_over() -> None:
    """The note of the scale, before the study's own."""
    assert {study.notes for study in STUDIES.values()} == {(OVER_SEEDS, *NOTES)}
