"""Loading a search space: each mistake is one sentence with file and line."""

from __future__ import annotations

import importlib
import os
import pickle
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from mfm_tune.errors import OptionError, SearchSpaceError
from mfm_tune.planning.loading import REPOSITORY, find_search_space, load_search_space, summaries
from mfm_tune.planning.profiles import check_data, choose
from tests.mfm_tune.stub_space import LINE, forgotten_after, write_space

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Writes a search space whose body follows the common head; what loading changes is put back after."""
    with forgotten_after(tmp_path):
        yield partial(write_space, tmp_path)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (
            'STUDY = study("mini", make=lambda v: StubConfig(levle=v))',
            r":{line}: StubConfig has no field 'levle' \(it has "
            r"steps, .*\); did you mean 'level'\?",
        ),
        ('STUDY = study("mini", titel=1)', r":\d+: Study has no field 'titel' \(.*\); did you mean 'title'\?"),
        ('STUDY = study("mini", levles=())', r":\d+: .*'levles'"),
        ('W = Width(12)\nSTUDY = study("mini")', r":{line}: Width.size must lie in \[1, 9\], got 12\."),
        ('STUDY = study("mini", make=lambda v: Width(v * 9))', r"level 2: Width.size must lie in \[1, 9\], got 18"),
        ('STUDY = study("mini", levels=((1, None), (1, None)))', r":\d+: Axis 'level' names level 1 twice"),
        ("STUDY = studdy()", r":{line}: NameError: name 'studdy' is not defined; correct the file\."),
        ("STUDY = study(", r":{line}: '\(' was never closed; correct the syntax\."),
        ("import no_such_module_xyz", r":{line}: ModuleNotFoundError: No module named 'no_such_module_xyz'"),
        ("raise SystemExit(3)", r":{line}: SystemExit: 3"),
        ("class B(BaseException): pass\nraise B('mine')", r":\d+: B: mine; correct the file\."),
        ("class E(Exception):\n    def __str__(self): return 1 / 0\nraise E", r":\d+: E: \(it cannot be printed\)"),
        ("raise ValueError('\\x1b[2J\\ud800')", r":{line}: \\x1b\[2J\\ud800$"),
        ("raise ValueError('y' * 100_000)", r":{line}: y{200}\.\.\.y{75}$"),
        ('STUDY = study("mini", make=lambda v: 1 / 0)', r"level 1: ZeroDivisionError: division by zero; correct the f"),
        (
            'import sys\nSTUDY = study("mini", make=lambda v: sys.exit(0))',
            r"level 1: SystemExit: 0; correct the file\.",
        ),
        ("x = 1", r"it must define STUDY, a Study, or STUDIES"),
        ("STUDY = 3", r"STUDY must be a Study, got 3; correct the file\."),
        ('SEARCH = study("mini")', r"SEARCH must be a Search, got Study\("),
        ('STUDY = study("mini")\nSTUDIES = {"mini": STUDY}', r"it defines both STUDY and STUDIES; put STUDY into"),
        ("STUDIES = [1]", r"STUDIES must map profiles to Studies, got list"),
        ("STUDIES = {'mini': 1}", r"STUDIES must map profiles to Studies; 'mini' is a int"),
        ("STUDIES = {'mini': study('smoke')}", r"profile 'mini' for a study whose profile is 'smoke'"),
    ],
)
def test_each_mistake_is_one_sentence_with_its_place(write: Write, body: str, sentence: str) -> None:
    """Wrong fields come with a suggestion; Python errors name file and line."""
    path = write(body)
    with pytest.raises(SearchSpaceError, match=sentence.replace("{line}", str(LINE))) as caught:
        load_search_space(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_of_a_package_that_is_loaded_again_is_the_one_that_imports_find(tmp_path: Path) -> None:
    """Both ways of importing it lead to the same module, so that its enums and classes exist once."""
    package = tmp_path / "spaces_of_mine"
    package.mkdir()
    (package / "__init__.py").touch()
    with forgotten_after(tmp_path):
        path = write_space(package, 'STUDY = study("mini")')
        load_search_space(path)
        load_search_space(path)
        module = importlib.import_module("spaces_of_mine.space_under_test")
        assert getattr(importlib.import_module("spaces_of_mine"), "space_under_test", None) is module


def test_a_file_that_is_changed_within_a_second_is_run_as_it_is(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's compiled file of the one before has its size and its second."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for level in (1, 2):
        path = write(f'STUDY = study("mini", levels=({level},))')
        os.utime(path, (1_790_000_000, 1_790_000_000))
        (cell,) = load_search_space(path).declared["mini"].cells()
        assert cell.level == str(level)


def test_a_missing_file_a_folder_and_a_strange_name_are_one_sentence(tmp_path: Path) -> None:
    """What is no Python file is named with the remedy."""
    with pytest.raises(SearchSpaceError, match="does not exist; give the path of a Python file"):
        find_search_space(tmp_path / "none.py")
    with pytest.raises(SearchSpaceError, match="does not exist; give the path of a Python file"):
        load_search_space(tmp_path / "none.py")
    with pytest.raises(SearchSpaceError, match="is a folder"):
        load_search_space(tmp_path)
    (tmp_path / "table-2.py").write_text("")
    with pytest.raises(SearchSpaceError, match=r"cannot be imported as 'table-2'"):
        load_search_space(tmp_path / "table-2.py")
    (tmp_path / "space.txt").write_text("")
    with pytest.raises(SearchSpaceError, match=r"must end in \.py"):
        load_search_space(tmp_path / "space.txt")


@pytest.mark.parametrize("given", ["table2", "table2.py", "search_spaces/table2"])
def test_a_name_is_found_among_the_search_spaces_here(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the folder and the ending, or without them."""
    monkeypatch.chdir(REPOSITORY)
    assert find_search_space(Path(given)) == Path("search_spaces/table2.py")


def test_a_name_that_is_not_here_is_found_where_the_project_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search space of one's own comes first."""
    monkeypatch.chdir(tmp_path)
    assert find_search_space(Path("table2")) == REPOSITORY / "search_spaces" / "table2.py"
    own = tmp_path / "search_spaces" / "table2.py"
    own.parent.mkdir()
    own.touch()
    assert find_search_space(Path("table2")).resolve() == own


@pytest.mark.parametrize("given", ["tabel2.py", "tabl2", "search_spaces/table_2.py"])
def test_a_misspelt_name_is_refused_with_the_one_that_is_meant(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence that names the file."""
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SearchSpaceError) as caught:
        find_search_space(Path(given))
    assert str(caught.value) == (f"The search space {given} does not exist; did you mean search_spaces/table2.py?")


def test_levels_may_be_plain_values(write: Write) -> None:
    """The same cells as from pairs without a number of the paper."""
    plain = load_search_space(write('STUDY = study("mini", levels=(1, 2))')).declared["mini"]
    pairs = load_search_space(write('STUDY = study("mini", levels=((1, None), (2, None)))', "pairs.py")).declared[
        "mini"
    ]
    assert list(plain.cells()) == list(pairs.cells())
    assert [cell.paper for cell in plain.cells()] == [None, None]


def test_a_file_that_hides_a_module_is_refused(write: Write) -> None:
    """A worker that imports `statistics` must not get a search space, nor the other way round."""
    path = write('STUDY = study("mini")', "statistics.py")
    with pytest.raises(SearchSpaceError, match="has the name of another module, 'statistics'"):
        load_search_space(path)


def test_classes_of_a_search_space_pickle(write: Write) -> None:
    """A config whose class the file defines travels to workers by name."""
    path = write('STUDY = study("mini", make=lambda v: Width(v))')
    loaded = load_search_space(path)
    config = next(loaded.declared["mini"].cells()).config
    assert type(config).__module__ == "space_under_test"
    assert loaded.root == path.parent
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_file_in_a_package_has_its_dotted_name(write: Write, tmp_path: Path) -> None:
    """Its name does not depend on the folder that the command was given in."""
    (tmp_path / "spaces_of_mine").mkdir()
    (tmp_path / "spaces_of_mine" / "__init__.py").write_text("")
    path = write('STUDY = study("mini", make=lambda v: Width(v))', "spaces_of_mine/wide.py")
    loaded = load_search_space(path)
    assert type(next(loaded.declared["mini"].cells()).config).__module__ == "spaces_of_mine.wide"
    assert loaded.root == tmp_path


def test_search_spaces_are_listed_without_being_run(write: Write, tmp_path: Path) -> None:
    """One line each: the first sentence of the docstring."""
    write("raise SystemExit(3)", "b.py")
    (tmp_path / "a.py").write_text("x = (")
    (tmp_path / "__init__.py").write_text("")
    found = summaries(tmp_path)
    assert found == [(tmp_path / "a.py", "(cannot be parsed)"), (tmp_path / "b.py", "A space for a test.")]
    with pytest.raises(OptionError, match="there is no folder"):
        summaries(tmp_path / "none")


BOTH = 'STUDIES = {p: study(p, needs=("gta", "city") if p == "paper" else ()) for p in ("smoke", "mini", "paper")}'


def test_the_paper_profile_runs_where_its_data_is_given_and_mini_elsewhere(write: Write, tmp_path: Path) -> None:
    """Without data sets the notice says why it is mini and how to get the paper's profile; with some, none runs."""
    loaded = load_search_space(write(BOTH))
    chosen, notice = choose(loaded, None, {})
    assert chosen.profile == "mini"
    assert "no data set is configured" in notice
    assert "--data gta=PATH city=PATH" in notice
    with pytest.raises(OptionError, match="add --data city=PATH, or choose the small benchmark by --profile mini"):
        choose(loaded, None, {"gta": "x"})
    assert choose(loaded, None, {"gta": "x", "city": "y"})[0].profile == "paper"
    assert choose(loaded, "smoke", {})[0].profile == "smoke"
    with pytest.raises(OptionError, match=r"--profile got 'huge', and .* has smoke, mini, paper"):
        choose(loaded, "huge", {})


def test_a_mistake_is_placed_by_the_path_that_was_given(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the syntax, too, which Python places by the whole path."""
    path = write("STUDY = study(")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SearchSpaceError, match=rf"^{path.name}:{LINE}: '\(' was never closed; correct the syntax\.$"):
        load_search_space(Path(path.name))


def test_a_profile_is_listed_as_it_is_typed(write: Write) -> None:
    """With a hyphen, which its name in ledgers cannot have; either is taken."""
    loaded = load_search_space(write('STUDIES = {p: study(p, needs=("gta",)) for p in ("paper", "paper_bf16")}'))
    for name in ("paper-bf16", "paper_bf16"):
        chosen = choose(loaded, name, {})[0]
        assert chosen.profile == "paper_bf16"
    with pytest.raises(OptionError, match=r"has paper, paper-bf16; give one of these\.$"):
        choose(loaded, "paper-bf61", {})
    with pytest.raises(OptionError, match=r"^Profile 'paper-bf16' of 'spaced' needs data"):
        check_data(loaded, chosen, {}, to_train=True)


def test_data_is_checked_by_name_and_path(write: Write, tmp_path: Path) -> None:
    """Unknown names, paths that do not exist and missing data sets are one sentence each."""
    loaded = load_search_space(write(BOTH))
    paper, here = loaded.declared["paper"], str(tmp_path)
    with pytest.raises(OptionError, match=r"names 'kitti', which .* does not know; it knows gta, city"):
        check_data(loaded, paper, {"kitti": here}, to_train=True)
    with pytest.raises(OptionError, match="--data gta=/no/such does not exist"):
        check_data(loaded, paper, {"gta": "/no/such"}, to_train=True)
    with pytest.raises(OptionError, match="needs data that is not given; add --data city=PATH"):
        check_data(loaded, paper, {"gta": here}, to_train=True)
    check_data(loaded, paper, {}, to_train=False)


def test_a_program_need_not_look_at_data(write: Write, tmp_path: Path) -> None:
    """One that was written before programs could is a program still, and takes what it is given."""
    loaded = load_search_space(write(BOTH))
    paper = loaded.declared["paper"]
    assert not hasattr(paper.program, "check_data")
    check_data(loaded, paper, {"gta": str(tmp_path), "city": str(tmp_path)}, to_train=True)
