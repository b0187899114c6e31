"""The report as files: every table in every form, text as it is meant, no network, no number made up."""

from __future__ import annotations

import csv
import io
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from rich.cells import cell_len

from mfm_tune.identity import config_id
from mfm_tune.ledger.records import trial_folder
from mfm_tune.program import Outcome
from mfm_tune.report.charts import SHEET
from mfm_tune.report.columns import IN_A_PAPER, Kind
from mfm_tune.report.terminal import terminal_table
from mfm_tune.report.write import ReportFiles, write_report
from mfm_tune.space import OOM, Axis, Paper, Published, Quoted, Study, Table
from tests.colour_vision import SEEN, lab
from tests.mfm_tune.made_ledger import FINGERPRINT, MACHINE, MadeLedger, stub, stub_study
from tests.mfm_tune.stub_program import StubConfig

NASTY = '<script>alert(1)</script> & 100 % of_it | $x$ \\ {β} 中文 "q"'


class Page(HTMLParser):
    """What a page holds: elements with their attributes, ids, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        self._open.append(tag)

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def all(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


def written(study: Study, ledger: MadeLedger, folder: Path, paper: tuple[Kind, ...] = ()) -> ReportFiles:
    return write_report(study, ledger.state, folder / "report", storage=folder, paper=paper)


def page_of(files: ReportFiles) -> Page:
    return Page(files.html.read_text(encoding="utf-8"))


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def full_study(**settings: Any) -> Study:
    """Two tables, one of them a figure, with the paper's numbers of all kinds."""
    first = Published(miou=52.1, note="By another recipe.")
    levels: tuple[tuple[int, Paper], ...] = ((0, first), (1, 55.9), (2, OOM), (3, Published(note="In no paper.")))
    plotted = tuple((level, None) for level in (1, 2, 3))
    quoted = (Quoted(label="Quoted method", paper=Published(miou=71.7, note="On another base.")),)
    tables = (
        Table(name="one", title="(a) One", axis=Axis(name="one", levels=levels, make=stub), quoted=quoted),
        Table(
            name="two",
            title="(b) Two",
            axis=Axis(name="two", levels=plotted, make=stub, trained=lambda level: level * 10),
            plot=True,
            note="A note under the table.",
        ),
    )
    said = {"notes": ("A note of the study.",), "comparable": ("Toy data.",)}
    return stub_study({}, references={"DACS": 0, "default": 1}, tables=tables, **{**said, **settings})


def full_ledger(study: Study) -> MadeLedger:
    """Numbers for all, classes too, but for one trial of each other outcome at level 3."""
    ledger = MadeLedger(study)
    for seed in study.seeds:
        for level in range(3):
            value = 50.0 + level + 0.25 * seed * (level + 1)
            classes = {f"student/iou/{name}": value + index for index, name in enumerate(("road", "car"))}
            cost = {"time/step_ms": 100.0 + level, "memory/peak_mib": 400.0}
            ledger.trial(stub(level), seed, {"student/miou": value, "teacher/miou": value + 1, **classes, **cost})
    ledger.trial(stub(3), 0, {"student/miou": 99.9}, outcome=Outcome.STOPPED, steps=(2,))
    ledger.trial(stub(3), 1, None, outcome=Outcome.FAILED, error=f"Traceback\nValueError: {NASTY}")
    ledger.trial(
        stub(3), 2, {"loss/source": float("nan")}, outcome=Outcome.DIVERGED, steps=(2,), error="A loss is nan."
    )
    return ledger


@pytest.fixture
def uncharted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are written without charts, which take most of the time."""
    for draw in ("forest_figures", "figures", "class_figures"):
        monkeypatch.setattr(f"mfm_tune.report.write.{draw}", lambda _: {})


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    study = full_study()
    return written(study, full_ledger(study), tmp_path_factory.mktemp("full"), IN_A_PAPER)


# --------------------------------------------------------------------------------------------------------------------
# What stands in it
# --------------------------------------------------------------------------------------------------------------------


def test_every_table_stands_in_every_form(full: ReportFiles) -> None:
    page, text = page_of(full).text, full.markdown.read_text(encoding="utf-8")
    for title in ("(a) One", "(b) Two"):
        assert title in page
        assert title in text
    names = {path.name for path in full.tables}
    assert names == {"one.csv", "one.tex", "two.csv", "two.tex", "trials.csv", "curves.csv", "classes.csv"}
    assert {"two-plot.svg", "one-seeds.svg", "forest-0.svg", "forest-1.svg", "one-curve-1.svg", "classes-1.svg"} <= {
        path.name for path in full.figures
    }


def test_what_a_published_row_rests_on_is_a_footnote_of_it(full: ReportFiles) -> None:
    """In the page, the Markdown, the LaTeX and the CSV; quoted rows have theirs as trained ones do."""
    text, latex = (
        full.markdown.read_text(encoding="utf-8"),
        next(f for f in full.tables if f.name == "one.tex").read_text(),
    )
    for level, number, note in (("Quoted method", 1, "On another base."), ("0", 2, "By another recipe.")):
        dagger = ("\\dag{}", "\\ddag{}")[number - 1]
        assert rf"| {level} \[{number}\] |" in text
        assert f"{level}\\textsuperscript{{{dagger}}}" in latex
        assert f"\\textsuperscript{{{dagger}}}~{note}" in latex
        assert note in text
        assert note in page_of(full).text
    notes = [row["notes"] for row in rows_of(next(f for f in full.tables if f.name == "one.csv"))]
    assert "By another recipe." in notes[0]
    assert "In no paper." in notes[3]  # a row without a number of the paper has a note as well


def test_values_the_papers_and_differences_stand_beside_each_other(full: ReportFiles) -> None:
    page, text = page_of(full).text, full.markdown.read_text(encoding="utf-8")
    for said in ("51.5 ± 0.5 (3)", "55.9", "OOM", "+1.2 [+0.6, +1.9]", "paper +3.8; half-width 0.6", "71.7"):
        assert said in page, said
    assert "| 51.5 ± 0.5 (3) | 55.9 | +1.2 \\[+0.6, +1.9\\]<br>paper +3.8; half-width 0.6 |" in text


def test_other_outcomes_are_shown_and_never_averaged(full: ReportFiles) -> None:
    page = page_of(full).text
    assert "stopped (2), failed, diverged" in page
    assert "seed 0 stopped early at step 2 of 4" in page
    assert not re.search(r"99\.9(?!0 at step 2)", page)  # the curve of the trial itself is all there is
    assert "one 3: seed 0 stopped early at step 2 of 4; seed 1 failed; seed 2 diverged at step 2 of 4" in page


def test_words_of_the_study_and_what_is_not_comparable_are_printed(full: ReportFiles) -> None:
    for text in (page_of(full).text, full.markdown.read_text(encoding="utf-8")):
        for said in ("A note of the study.", "A note under the table.", "Toy data.", "printed without a spread"):
            assert said in text


def test_where_it_ran_is_said(full: ReportFiles) -> None:
    page = page_of(full).text
    assert "1 launch on host-a, trials 2 at a time." in page
    assert "torch 2.14" in page
    assert "cpu, stub, torch 2.14, 1 thread" in page


@pytest.mark.usefixtures("uncharted")
def test_cost_stands_only_where_an_axis_can_change_it_as_a_range_and_without_ratios(tmp_path: Path) -> None:
    """The rows of one table cost the same, and differ by the machine's other work alone; those of the other do not."""
    same = Axis(name="lambda", levels=((0, None), (1, None)), make=stub)
    slow = StubConfig(level=2, sleep_s=0.5)
    other = Axis(
        name="dim", levels=(("small", None), ("large", None)), make=lambda dim: stub(0) if dim == "small" else slow
    )
    tables = (Table(name="same", title="Same", axis=same), Table(name="other", title="Other", axis=other))
    study = stub_study({}, tables=tables, seeds=(0, 1))
    ledger = MadeLedger(study)
    for config, base in ((stub(0), 48.7), (stub(1), 53.1), (slow, 200.0)):
        for seed in study.seeds:
            ledger.trial(config, seed, {"student/miou": 50.0, "time/step_ms": base + seed, "memory/peak_mib": 777.0})
    files = written(study, ledger, tmp_path)
    text = files.markdown.read_text(encoding="utf-8")
    of_same, of_other = text.split("### Same")[1].split("### Other")
    assert "ms/step" not in of_same
    assert "ms/step" in of_other
    assert "| 48.7 to 49.7 |" in of_other
    assert "| 200 to 201 |" in of_other
    for said in (page_of(files).text, text, terminal_table(study, ledger.state, width=200)):
        assert not re.search(r"777|peak|times a step|cost /", said)
    tables_csv = {path.stem: rows_of(path) for path in files.tables if path.suffix == ".csv"}
    assert "step ms" not in tables_csv["same"][0]
    assert [row["step ms"] for row in tables_csv["other"]] == ["48.7 to 49.7", "200 to 201"]
    gpu = MadeLedger(study)
    gpu.trial(slow, 0, {"student/miou": 50.0, "memory/peak_mib": 777.0}, machine={**MACHINE, "device": "cuda"})
    assert "| 777 |" in written(study, gpu, tmp_path / "gpu").markdown.read_text(encoding="utf-8")


def test_csv_holds_unrounded_numbers_of_each_seed(full: ReportFiles) -> None:
    path = next(path for path in full.tables if path.name == "one.csv")
    first, second, _, fourth = rows_of(path)
    assert [float(second[f"seed {seed}"]) for seed in range(3)] == [51.0, 51.5, 52.0]
    assert float(second["minus DACS mean"]) == 1.25
    assert float(second["minus DACS visible from"]) == pytest.approx(4.302652729911275 * 0.25 / 3**0.5)
    assert float(second["minus DACS paper"]) == pytest.approx(3.8)
    assert first["minus DACS mean"] == ""
    assert fourth["mean"] == ""
    assert fourth["standing 0"] == "stopped early at step 2 of 4"


def test_all_trials_and_classes_stand_in_csv(full: ReportFiles) -> None:
    trials = rows_of(next(path for path in full.tables if path.name == "trials.csv"))
    assert len(trials) == 12
    assert {row["outcome"] for row in trials} == {"finished", "stopped", "failed", "diverged"}
    classes = rows_of(next(path for path in full.tables if path.name == "classes.csv"))
    assert {row["class"] for row in classes} == {"road", "car"}


@pytest.mark.usefixtures("uncharted")
def test_no_text_in_csv_is_a_formula_and_numbers_stay_numbers(tmp_path: Path) -> None:
    labels = {0: "=HYPERLINK(1)", 1: "+a", 2: "@b", 3: "-c", 4: "-1", 5: "plain"}
    axis = Axis(name="level", levels=tuple((level, None) for level in labels), make=stub, label=labels.__getitem__)
    study = stub_study({}, references={}, seeds=(0,), tables=(Table(name="t", title="T", axis=axis),))
    ledger = MadeLedger(study)
    ledger.trial(stub(0), 0, {"student/miou": -1.5, "=1+1": 2.0})
    files = written(study, ledger, tmp_path)
    rows = rows_of(next(path for path in files.tables if path.name == "t.csv"))
    assert [row["level"] for row in rows] == ["'=HYPERLINK(1)", "'+a", "'@b", "'-c", "-1", "plain"]
    assert rows[0]["seed 0"] == "-1.5"
    (trial,) = rows_of(next(path for path in files.tables if path.name == "trials.csv"))
    assert (trial["'=1+1"], trial["name"]) == ("2.0", "level =HYPERLINK(1)")


def test_an_error_costs_its_piece_of_the_report_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study = full_study()
    ledger = full_ledger(study)
    monkeypatch.setattr("mfm_tune.report.write.figures", lambda _: {})
    whole = written(study, ledger, tmp_path)
    monkeypatch.setattr("mfm_tune.report.write.strips", lambda *_: 1 / 0)
    monkeypatch.setattr("mfm_tune.report.write.class_figures", lambda *_: {}["class"])
    monkeypatch.setattr("mfm_tune.report.write.latex", lambda _: "\ud800")
    files = written(study, ledger, tmp_path)
    assert files.lost[0] == "The report lacks figures of classes: KeyError: 'class'"
    assert files.lost[1] == "The report lacks the pictures: ZeroDivisionError: division by zero"
    assert [said.split(":")[0] for said in files.lost[2:]] == [
        f"The report lacks tables/{n}.tex" for n in ("one", "two")
    ]
    kept = {path for path in whole.tables if path.suffix == ".csv"}
    assert (set(files.tables), files.html.is_file(), str(files)) == (
        kept,
        True,
        f"Report, incomplete: {tmp_path}/report",
    )
    assert {path for path in tmp_path.rglob("*") if path.suffix == ".tex" or path.name.startswith("classes-")} == set()


def test_latex_has_one_entry_a_column_and_only_plain_rules(full: ReportFiles) -> None:
    for path in (*full.tables, *full.paper):
        if path.suffix != ".tex":
            continue
        text = path.read_text(encoding="utf-8")
        columns = re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)
        assert columns is not None
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(rows) >= 4
        for row in rows:
            assert len(re.findall(r"(?<!\\)&", row)) == len(columns[1]) - 1
        for rule in (r"\toprule", r"\midrule", r"\bottomrule"):
            assert text.count(rule) == 1
        body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
        assert not re.findall(r"[±−–×λ]", body)


def test_a_paper_gets_chosen_columns_the_best_in_bold_a_caption_and_figures_of_their_own(full: ReportFiles) -> None:
    """Figures are one a file; what the rows are trained for stands where it differs from what is printed."""
    text = next(path for path in full.paper if path.name == "one.tex").read_text(encoding="utf-8")
    assert "one & student mIoU & paper & minus DACS & minus default \\\\" in text
    assert r"\textbf{52.8 $\pm$ 0.8 (3)} & OOM & +2.5 [+1.3, +3.7] &" in text
    assert text.count(r"\textbf") == 2  # ours and the paper's
    assert r"1 & 51.5 $\pm$ 0.5 (3) & \textbf{55.9}" in text
    assert r"\caption{(a) One: student mIoU, mean $\pm$ sample standard deviation over 3 seeds;" in text
    assert "Profile mini. Toy data. Differences are paired by seed, with 95 \\% t-intervals.}" in text
    assert r"\label{tab:stub-one}" in text
    assert "two & trained & student mIoU" in next(p for p in full.paper if p.name == "two.tex").read_text(
        encoding="utf-8"
    )
    drawn = {path.stem for path in full.paper if path.suffix == ".pdf"}
    assert drawn == {path.stem for path in full.figures}
    for path in full.paper:
        assert (
            path.suffix == ".tex"
            or path.read_bytes().count(b"/Type /Page\n") + path.read_bytes().count(b"/Type /Page ") == 1
        )


def test_learning_curves_stand_in_csv_with_the_level_that_a_config_has_of_each_axis(full: ReportFiles) -> None:
    curves = rows_of(next(path for path in full.tables if path.name == "curves.csv"))
    own = [row for row in curves if row["name"] == "one 2" and row["seed"] == "1" and row["metric"] == "student/miou"]
    assert [(row["level one"], row["level two"], row["step"]) for row in own] == [("2", "2", "2"), ("2", "2", "4")]
    assert float(own[1]["value"]) == 52.75
    assert {row["level two"] for row in curves if row["name"] == "DACS"} == {""}
    trials = rows_of(next(path for path in full.tables if path.name == "trials.csv"))
    assert {(row["name"], row["level one"]) for row in trials} >= {("DACS", "0"), ("one 3", "3")}


def test_a_failures_last_line_is_shown_as_text(full: ReportFiles) -> None:
    assert "ValueError: <script>alert(1)</script> & 100 % of_it" in page_of(full).text


# --------------------------------------------------------------------------------------------------------------------
# The page
# --------------------------------------------------------------------------------------------------------------------


def test_the_page_loads_nothing_and_runs_nothing(full: ReportFiles) -> None:
    page = page_of(full)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for target in (*page.all("src"), *page.all("href")):
        assert target.startswith(("#", "data:")), target[:80]
    assert not re.search(r"(?:https?:)?//[a-z]|url\(|@import", full.html.read_text(encoding="utf-8"), re.IGNORECASE)
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]


def test_names_and_links_on_the_page_lead_somewhere(full: ReportFiles) -> None:
    page = page_of(full)
    ids = page.all("id")
    assert len(ids) == len(set(ids))
    targets = [href[1:] for href in page.all("href") if href.startswith("#")]
    targets += [each for named in page.all("aria-labelledby") for each in named.split()]
    assert targets
    assert set(targets) <= set(ids)


def test_tables_and_drawings_are_usable_without_eyes_and_mouse(full: ReportFiles) -> None:
    page = page_of(full)
    assert page.elements[0][0] == "html"
    assert page.elements[0][1]["lang"] == "en"
    assert [tag for tag, _ in page.elements].count("h1") == 1
    for tag, attributes in page.elements:
        if tag == "th":
            assert attributes["scope"] in ("row", "col")
        if attributes.get("class") == "scroll":
            assert attributes["tabindex"] == "0"
            assert attributes["role"] == "region"
        if tag == "svg":
            assert attributes["role"] == "img"
            assert attributes["aria-labelledby"]


def test_figures_are_well_formed_files_of_their_own(full: ReportFiles) -> None:
    for path in full.figures:
        root = ElementTree.fromstring(path.read_text(encoding="utf-8"))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "nan" not in path.read_text(encoding="utf-8").lower().replace("finance", "")


def test_no_number_that_is_none_is_printed(full: ReportFiles) -> None:
    page = page_of(full).text
    assert not re.search(r"\b(nan|None|inf)\b", page.replace("A loss is nan.", ""))


def test_drawings_are_of_text_and_of_the_pages_colours(full: ReportFiles) -> None:
    """A drawing is right in light and dark: each colour is a property that the style sheet sets for both."""
    style, _, dark = SHEET.partition("@media (prefers-color-scheme: dark)")
    for path in full.figures:
        drawing = path.read_text(encoding="utf-8").partition("</style>")[2]
        colours = set(re.findall(r"(?:fill|stroke): ([^;\"]+)", drawing)) - {"none"}
        assert {"var(--ink)", "var(--soft)"} <= colours
        for colour in colours:
            name = re.fullmatch(r"var\((--\w+)\)", colour)
            assert name is not None, colour
            assert f"{name[1]}: #" in style
            assert f"{name[1]}: #" in dark
        assert "</text>" in drawing


@pytest.mark.parametrize("seen", SEEN)
def test_better_and_worse_are_told_apart_by_everyone_in_light_and_dark(seen: str) -> None:
    for sheet in SHEET.split("@media"):
        named = dict(re.findall(r"--(\w+): #(\w{6})", sheet))
        colours = np.array([list(bytes.fromhex(named[name])) for name in ("good", "bad")], dtype=float)
        good, bad = lab(colours, SEEN[seen])
        assert np.linalg.norm(good - bad) > 40  # CIELAB units; about 2.3 are just noticeable side by side


def test_a_pointer_on_a_mark_is_told_whose_number_it_is(full: ReportFiles) -> None:
    (path,) = (path for path in full.figures if path.name == "one-seeds.svg")
    svg = "{http://www.w3.org/2000/svg}"
    marks = [mark for mark in ElementTree.parse(path).iter(f"{svg}use") if mark.find(f"{svg}title") is not None]
    titles = {mark.findtext(f"{svg}title"): float(mark.attrib["x"]) for mark in marks}
    assert {"0, seed 0: 50.00", "1, seed 2: 52.00", "2, seed 2: 53.50", "2, mean: 52.75"} <= titles.keys()
    assert titles["0, seed 0: 50.00"] < titles["1, seed 2: 52.00"] < titles["2, mean: 52.75"]
    assert titles["1, seed 2: 52.00"] == titles["2, seed 0: 52.00"]


def test_one_drawing_has_all_cells_against_a_baseline_with_the_papers_differences(full: ReportFiles) -> None:
    """Under the titles of their tables; those of the second table have no number of the paper's."""
    drawing = next(path for path in full.figures if path.name == "forest-0.svg").read_text(encoding="utf-8")
    page = full.html.read_text(encoding="utf-8")
    for said in ("(a) One", "(b) Two", "the baseline itself", "no number", "95 % interval that excludes 0"):
        assert f">{said}</text>" in drawing
    assert re.findall(r"<title>(\d, paper: [^<]+)</title>", drawing) == ["1, paper: +3.8"]
    assert "1: +1.2 (95 % interval +0.6 to +1.9, 3 seeds)" in drawing
    assert page.index('id="answer"') < page.index('id="claims"') < page.index('id="forest"') < page.index('id="tables"')
    assert "<details><summary>All cells minus default, student mIoU</summary>" in page


def test_the_same_ledger_gives_the_same_report(full: ReportFiles, tmp_path: Path) -> None:
    """Whatever else of this process set up matplotlib."""
    study = full_study()
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9, "svg.fonttype": "path"}):
        again = written(study, full_ledger(study), tmp_path, IN_A_PAPER)
    assert {path.name: path.read_bytes() for path in again.paper} == {p.name: p.read_bytes() for p in full.paper}
    assert again.html.read_bytes() == full.html.read_bytes()
    assert again.markdown.read_bytes() == full.markdown.read_bytes()


def test_figures_of_an_earlier_report_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mfm_tune.report.write.figures", lambda _: {})  # those of classes are enough
    study = full_study()
    before = written(study, full_ledger(study), tmp_path)
    after = written(study, MadeLedger(study), tmp_path)
    assert before.figures
    assert not any(path.exists() for path in before.figures)
    assert all(path.exists() for path in after.tables)


def test_nothing_else_is_left_in_the_folder(full: ReportFiles) -> None:
    there = {path for path in full.html.parent.rglob("*") if path.is_file()}
    assert there == {full.html, full.markdown, *full.tables, *full.figures, *full.paper}


# --------------------------------------------------------------------------------------------------------------------
# Text that is not meant as markup
# --------------------------------------------------------------------------------------------------------------------


def test_text_with_markup_in_it_is_printed_as_text(tmp_path: Path) -> None:
    axis = Axis(name="level", levels=((0, 50.0), (1, 51.0)), make=stub, label=lambda level: f"{NASTY} {level}")
    table = Table(name="t", title=NASTY, axis=axis, plot=True, note=NASTY)
    study = stub_study(
        {}, title=NASTY, tables=(table,), references={NASTY: 0, "default": 1}, notes=(NASTY,), comparable=(NASTY,)
    )
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0 + config.level * seed)
    files = written(study, ledger, tmp_path)
    page = page_of(files)
    assert "script" not in {tag for tag, _ in page.elements}
    assert NASTY in page.text
    tex = next(path for path in files.tables if path.suffix == ".tex").read_text(encoding="utf-8")
    body = "\n".join(line for line in tex.splitlines() if not line.startswith("%"))
    assert r"\textless{}script\textgreater{}alert(1)" in body
    assert r"\& 100 \% of\_it | \$x\$ \textbackslash{} \{β\} 中文" in body
    for path in files.figures:
        ElementTree.fromstring(path.read_text(encoding="utf-8"))
    text = files.markdown.read_text(encoding="utf-8")
    assert "<script" not in text.replace(r"\<script", "")
    headings = [line for line in text.splitlines() if line.startswith("# ")]
    assert headings == [r'# \<script\>alert(1)\</script\> & 100 % of\_it \| $x$ \\ \{β\} 中文 "q"']


# --------------------------------------------------------------------------------------------------------------------
# Little or nothing to show
# --------------------------------------------------------------------------------------------------------------------


def test_a_study_without_a_finished_trial_has_a_report(tmp_path: Path) -> None:
    study = full_study()
    files = written(study, MadeLedger(study), tmp_path)
    page = page_of(files).text
    assert "12 not started" in page
    assert "No interval can be given yet" in page
    assert files.figures == ()
    assert "not started" in terminal_table(study, MadeLedger(study).state)


def test_one_seed_shows_differences_without_intervals(tmp_path: Path) -> None:
    study = full_study(seeds=(7,))
    page = page_of(written(study, full_ledger_of_one_seed(study), tmp_path)).text
    assert "+1.0 (1 seed)" in page
    assert "51.0 (1)" in page
    assert "No interval can be given yet" in page
    assert "one seed cannot tell that from chance." in page


def full_ledger_of_one_seed(study: Study) -> MadeLedger:
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0 + config.level)
    return ledger


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0, 100.0, 1e308])
def test_extreme_numbers_of_all_cells_do_no_harm(value: float, tmp_path: Path) -> None:
    study = full_study()
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: value, steps=(4,))
    page = page_of(written(study, ledger, tmp_path)).text
    assert not re.search(r"\b(nan|inf)\b", page)


@pytest.mark.usefixtures("uncharted")
def test_a_study_without_references_has_tables_and_no_differences(tmp_path: Path) -> None:
    study = stub_study({0: 50.0, 1: None}, references={})
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0 + config.level + seed)
    page = page_of(written(study, ledger, tmp_path)).text
    assert "51.0 ± 1.0 (3)" in page
    assert "names no reference" in page


def test_a_study_without_a_second_metric_has_no_column_for_it(tmp_path: Path) -> None:
    study = stub_study({0: 50.0, 1: None}, second_metric=None)
    ledger = MadeLedger(study)
    ledger.finish(lambda config, seed: 50.0 + config.level + seed)
    files = written(study, ledger, tmp_path)
    (table,) = (path for path in files.tables if path.name == "t.csv")
    assert "teacher" not in table.read_text(encoding="utf-8").splitlines()[0]
    assert "teacher mIoU while training" in page_of(files).text  # the curves are there all the same


# --------------------------------------------------------------------------------------------------------------------
# Pictures
# --------------------------------------------------------------------------------------------------------------------


def ledger_with_pictures(study: Study, storage: Path, seeds: Mapping[int, tuple[int, ...]]) -> MadeLedger:
    """Level -> seeds that finished with pictures; classes are road (red) and car (blue)."""
    ledger = MadeLedger(study)
    for level, finished in seeds.items():
        for seed in finished:
            folder = storage / trial_folder(config_id(stub(level)), seed, FINGERPRINT) / "pictures"
            folder.mkdir(parents=True)
            names = [f"{kind}-{index}" for kind in ("image", "label", "prediction") for index in range(2)]
            for name in names:
                Image.fromarray(np.full((8, 16, 3), 10 * level + seed, np.uint8)).save(folder / f"{name}.png")
            Image.fromarray(np.array([[[255, 0, 0], [0, 0, 255]]], np.uint8)).save(folder / "palette.png")
            pictures = {name: f"pictures/{name}.png" for name in (*names, "palette")}
            metrics = {"student/miou": 50.0, "student/iou/road": 60.0, "student/iou/car": 40.0}
            ledger.trial(stub(level), seed, metrics, pictures=pictures)
    return ledger


@pytest.mark.usefixtures("uncharted")
def test_predictions_of_one_seed_stand_side_by_side_in_the_page(tmp_path: Path) -> None:
    study = stub_study({0: None, 1: None})
    ledger = ledger_with_pictures(study, tmp_path, {0: (1, 2), 1: (2,)})
    page = page_of(written(study, ledger, tmp_path))
    images = [attributes for tag, attributes in page.elements if tag == "img"]
    assert [image["alt"] for image in images] == [
        f"Example {index}: {what}"
        for index in (1, 2)
        for what in ("image", "ground truth", "prediction of base", "prediction of default")
    ]
    assert all(image["src"].startswith("data:image/webp;base64,") for image in images)
    assert "Seed 2" in page.text
    swatches = [style for style in page.all("style") if style.startswith("background")]
    assert swatches == ["background:#ff0000", "background:#0000ff"]


def test_a_row_stands_beside_its_own_reference_in_words_bars_and_pictures(tmp_path: Path) -> None:
    axis = Axis(
        name="level", levels=((0, 50.0), (1, 54.0)), make=stub, against=lambda level: stub(0) if level else None
    )
    study = stub_study({}, references={}, tables=(Table(name="t", title="Levels", axis=axis),))
    page = page_of(written(study, ledger_with_pictures(study, tmp_path, {0: (0,), 1: (0,)}), tmp_path))
    assert "Of the 1 difference to the row's baseline: 1 without an interval yet." in page.text
    assert "names no reference" not in page.text
    assert "IoU of each class: 1 against 0, Levels" in page.text
    said = [attributes["alt"].removeprefix("Example 1: ") for tag, attributes in page.elements if tag == "img"]
    assert said == ["image", "ground truth", "prediction of 0", "prediction of 1"]


@pytest.mark.usefixtures("uncharted")
@pytest.mark.parametrize("damage", ["gone", "broken"])
def test_pictures_that_cannot_be_read_are_left_out(damage: str, tmp_path: Path) -> None:
    study = stub_study({0: None, 1: None})
    ledger = ledger_with_pictures(study, tmp_path, {0: (0,), 1: (0,)})
    for path in tmp_path.rglob("prediction-*.png"):
        path.unlink() if damage == "gone" else path.write_bytes(b"no picture")
    assert "img" not in {tag for tag, _ in page_of(written(study, ledger, tmp_path)).elements}


# --------------------------------------------------------------------------------------------------------------------
# The terminal
# --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120])
def test_the_terminal_table_fits_and_holds_the_numbers(width: int) -> None:
    study = full_study()
    text = terminal_table(study, full_ledger(study).state, width=width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    for said in ("(a) One", "(b) Two", "51.5 ± 0.5 (3)", "55.9", "+1.2 [+0.6, +1.9]", "1 (trained 10)"):
        assert said in text
    assert ("teacher mIoU" in text.splitlines()[2]) == (width == 120)
    assert "\x1b" not in text
    assert "different 95 % intervals" in text


def test_long_and_wide_levels_still_fit_a_terminal() -> None:
    axis = Axis(
        name="level", levels=((0, 50.0), (1, 51.0)), make=stub, label=lambda level: f"{'中文 word ' * 12}{level}"
    )
    study = stub_study({}, tables=(Table(name="t", title="T" * 100, axis=axis),))
    text = terminal_table(study, full_ledger_of_one_seed(study).state, width=80)
    assert max(cell_len(line) for line in text.splitlines()) <= 80


@pytest.mark.usefixtures("uncharted")
def test_a_report_of_fewer_seeds_speaks_of_those_alone(tmp_path: Path) -> None:
    study = full_study()
    page = page_of(written(replace(study, seeds=(0, 1)), full_ledger(study), tmp_path)).text
    assert "8 trials with seeds 0, 1" in page
    assert "51.2 ± 0.4 (2)" in page
