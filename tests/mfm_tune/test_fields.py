"""Ranges, and the check of a field against its type; what search spaces declare is checked by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mfm_tune.criteria import Criterion
from mfm_tune.errors import SearchSpaceError
from mfm_tune.fields import AtLeast1, IntRange, Makes, Number, Range, Settings, Size
from mfm_tune.program import Program
from mfm_tune.search_space import Asha, Choice, Float, Grid, Integer, Median, Search, Tpe
from mfm_tune.space import Axis, Published, Quoted, Study, Table
from tests.mfm_tune.stub_program import StubConfig, StubProgram


@given(st.floats(allow_nan=True) | st.integers() | st.booleans(), st.booleans(), st.booleans())
def test_a_number_fits_where_it_lies(value: float, open_low: bool, open_high: bool) -> None:
    """Against the definition of an interval; NaN, infinities and bools lie nowhere."""
    above = value > 0 if open_low else value >= 0
    below = value < 1 if open_high else value <= 1
    fits = Number(0, 1, open_low=open_low, open_high=open_high).fits(value)
    assert fits is (above and below and type(value) is not bool)


@given(st.integers(-40, 40), st.integers(-10, 10), st.integers(0, 20), st.integers(1, 5))
def test_an_integer_fits_where_a_range_holds_it(value: int, low: int, length: int, step: int) -> None:
    """Against `range`."""
    known = value in range(low, low + length + 1) and value in range(-60, 60, step)  # each step divides 60
    assert IntRange(low, low + length, step=step).fits(value) is known
    assert not IntRange(low).fits(float(value))


@given(st.tuples(st.integers(-3, 20), st.integers(-3, 20)))
def test_pairs(pair: tuple[int, int]) -> None:
    """Sizes bound each part; spans are in order."""
    assert Size(4).fits(pair) is (min(pair) >= 4)
    assert Range().fits(pair) is (0 <= pair[0] <= pair[1])
    assert Range(open_low=True).fits(pair) is (0 < pair[0] <= pair[1])
    assert not Size(4).fits(list(pair))


def test_settings_of_ones_own_are_checked_alike() -> None:
    """Types of another module, with a range of its own."""

    @dataclass(frozen=True, kw_only=True)
    class Own(Settings):
        weight: Annotated[float, Number(0, 2)] = 1.0
        layers: tuple[AtLeast1, ...] = (1,)

    assert Own(layers=(3, 4)).layers == (3, 4)
    with pytest.raises(ValueError, match=r"^Own\.weight must lie in \[0, 2\], got 3\.$"):
        Own(weight=3)


class Tool(Settings):
    """The base of what makes a tool."""

    def make(self) -> str:
        raise NotImplementedError


@dataclass(frozen=True)
class Hammer(Tool):
    """Makes one."""

    weight: int = 1

    def make(self) -> str:
        return "hammer"


@dataclass(frozen=True)
class Mallet(Hammer):
    """Would be made as a hammer."""


class Unfinished(Hammer):
    """Its field is none: the decorator is missing."""

    length: int = 3

    def make(self) -> str:
        return "unfinished"


@dataclass(frozen=True)
class Saw(Tool):
    """Wants more than it is given."""

    def make(self, teeth: int) -> str:  # type: ignore[override]
        return "saw" * teeth


@dataclass(frozen=True)
class Blueprint(Tool):
    """Makes nothing."""


@dataclass(frozen=True)
class Tools:
    """As `Tool`, but no settings."""

    def make(self) -> str:
        return "tools"


@dataclass(frozen=True, kw_only=True)
class Box(Settings):
    """Holds what makes a tool."""

    tool: Annotated[Any, Makes("a tool", "make", Tool)] = Hammer()
    tools: tuple[Annotated[Any, Makes("a tool", "make", Tool)], ...] = (Hammer(),)


WANTED = "Box.tool must be settings of a tool (a frozen dataclass derived from Tool with a make of its own), got "


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (3, "3."),
        (Hammer, "<class 'tests.mfm_tune.test_fields.Hammer'>."),
        (Tools(), "Tools()."),
        (Blueprint(), "Blueprint(), which has no method make; give it one."),
        (
            Mallet(),
            "Mallet(weight=1), which inherits make from Hammer and would be taken for one; give it a make of its own.",
        ),
        (Saw(), "Saw(), whose method is make(self, teeth: 'int') -> 'str'; define it as make(self)."),
        (Unfinished(), "Unfinished(weight=1), which is no frozen dataclass; decorate it with @dataclass(frozen=True)."),
    ],
)
def test_what_makes_itself_is_of_a_class_with_a_method_of_its_own(value: object, told: str) -> None:
    """Any such class fits, known or not; one that inherits the method would be recorded as itself and made as its
    parent."""
    assert Box(tool=Hammer(weight=2)).tool.make() == "hammer"
    with pytest.raises(ValueError) as refused:
        Box(tool=value)
    assert str(refused.value) == WANTED + told
    with pytest.raises(
        ValueError, match=r"^Box\.tools must be one or more settings that each have a make of their own, "
    ):
        Box(tools=(Hammer(), value))


@dataclass(frozen=True, kw_only=True)
class Kinds(Settings):
    """One field of each kind that is no number."""

    program: Program
    make: Callable[[int], Any]
    named: Mapping[str, Float | Choice]
    pairs: tuple[tuple[str, str], ...]


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        (
            "program",
            StubProgram,
            "Kinds.program must be Program, got <class 'tests.mfm_tune.stub_program.StubProgram'>.",
        ),
        ("program", abs, "Kinds.program must be Program, got <built-in function abs>."),
        ("make", 3, "Kinds.make must be a function, got 3."),
        ("named", {"a": 1}, "Kinds.named must be a mapping to Float or Choice, got {'a': 1}."),
        ("named", {1: Float(0, 1)}, "Kinds.named must be a mapping to Float or Choice, got "),
        ("named", [("a", 1)], "Kinds.named must be a mapping to Float or Choice, got [('a', 1)]."),
        ("pairs", ("ab",), "Kinds.pairs must be a tuple of tuples of two, got ('ab',)."),
        ("pairs", (("a", "b", "c"),), "Kinds.pairs must be a tuple of tuples of two, got (('a', 'b', 'c'),)."),
    ],
)
def test_what_is_no_number(field: str, value: object, sentence: str) -> None:
    """A class where its instance belongs, and mappings and tuples of other things, down to their parts."""
    named = {"a": Float(0, 1), "b": Choice((1, 2))}
    good = Kinds(program=StubProgram(), make=StubConfig, named=named, pairs=(("a", "b"),))
    with pytest.raises(ValueError) as refused:
        replace(good, **{field: value})
    assert str(refused.value).startswith(sentence)


STUB = StubConfig()
AXIS = Axis(name="level", levels=((1, None), (2, 50.0)), make=lambda level: StubConfig(level=level))
TABLE = Table(name="t", title="T", axis=AXIS)
STUDY = Study(name="s", title="S", profile="mini", program=StubProgram(), tables=(TABLE,), references={"stub": STUB})
SEARCH = Search(
    name="s", title="S", profile="mini", program=StubProgram(), parameters={"level": Integer(1, 4)},
    make=lambda values: StubConfig(level=values["level"]), baselines={"stub": STUB}, trials=4, confirm=1,
)  # fmt: skip
DECLARED: tuple[tuple[Any, str, object, str], ...] = (
    (STUDY, "tables", TABLE, "Study.tables must be a tuple of Table, got Table(...)."),
    (STUDY, "tables", (), "Study 's' has no tables; give at least one Table."),
    (STUDY, "seeds", 0, "Study.seeds must be one or more integers, got 0."),
    (STUDY, "references", STUB, "Study.references must be a mapping, got "),
    (
        STUDY,
        "references",
        {"DACS": None},
        "Study 's', reference 'DACS': the config must be a frozen dataclass, got None.",
    ),
    (STUDY, "program", StubProgram, "Study.program must be Program, got "),
    (STUDY, "metric", None, "Study.metric must be a string, got None."),
    (TABLE, "axis", "level", "Table.axis must be Axis, got 'level'."),
    (TABLE, "columns", ("student/miou",), "Table.columns must be a tuple of tuples of two, got ('student/miou',)."),
    (
        AXIS,
        "levels",
        [1, 2],
        "Axis.levels must be a tuple of levels, each a plain value or a pair (lev",
    ),
    (
        AXIS,
        "levels",
        ((1, None, 2),),
        "Axis.levels must be a tuple of levels, each a plain value or a pair (lev",
    ),
    (AXIS, "levels", ((1, "55"), (2, None)), "Axis 'level', level 1: the paper's number must lie in 0 to 100"),
    (AXIS, "make", None, "Axis.make must be a function, got None."),
    (STUDY, "references", {"2": STUB}, "Axis 'level': level 2 has the name of a reference that trains another config;"),
    (STUDY, "name", "a/b", "Study.name must be 1 to 64 letters, digits, '.' or '_' or '-', the first"),
    (STUDY, "profile", "x/../../../../ESCAPED", "Study.profile must be 1 to 64 letters, digits, '.' or '_', the first"),
    (STUDY, "profile", "half-size", "Study.profile must be 1 to 64 letters, digits, '.' or '_', the first"),
    (SEARCH, "name", "", "Search.name must be 1 to 64 letters, digits, "),
    (SEARCH, "profile", "..", "Search.profile must be 1 to 64 letters, digits, "),
    (TABLE, "name", "../t", "Table.name must be 1 to 64 letters, digits, "),
    (
        TABLE,
        "columns",
        (("student/iou/car", "Car"), ("teacher/iou/car", "Car")),
        "Table.columns of 't' has the heading 'Car' twice; rename one.",
    ),
    (
        TABLE,
        "name",
        "trials",
        "Table.name must be none of trials, curves, classes, explored, which the report's own files",
    ),
    (AXIS, "name", "l" * 65, "Axis.name must be 1 to 64 letters, digits, "),
    (Published(miou=50.0), "miou", "high", "Published.miou must be a finite number or None, got 'high'."),
    (Quoted(label="PiPa", paper=Published(miou=50.0)), "paper", 50.0, "Quoted.paper must be Published, got 50.0."),
    (SEARCH, "sampler", Tpe, "Search.sampler must be Tpe, Random, Grid or Other, got <class"),
    (SEARCH, "scheduler", "asha", "Search.scheduler must be Asha, Median or None, got 'asha'."),
    (SEARCH, "criterion", "student/miou", "Search.criterion must be Criterion, got 'student/miou'."),
    (SEARCH, "parameters", {"level": (1, 4)}, "Search.parameters must be a mapping to Float, Integer or Choice, got"),
    (SEARCH, "trials", "4", "Search.trials must be an integer from 1 to 10000, got '4'."),
    (SEARCH, "confirm", 5, "Search 's' must have confirm <= trials, got 5 and 4."),
    (SEARCH, "baselines", {"DACS": {}}, "Search 's', baseline 'DACS': the config must be a frozen dataclass, got {}."),
    (SEARCH, "trials", 10**6, "Search.trials must be an integer from 1 to 10000, got 1000000."),
    (SEARCH, "parameters", {"\x1b[31m": Integer(1, 4)}, "Search.parameters must hold no control characters, got "),
    (SEARCH, "parameters", {"a\nb": Integer(1, 4)}, "Search 's', a parameter's name must be one line of at most 300"),
    (SEARCH, "title", "\ud800", r"Search.title must be one line of at most 300 characters, none a control character,"),
    (STUDY, "title", "\x1b]0;owned\x07", "Study.title must be one line of at most 300 characters, none a control char"),
    (
        STUDY,
        "title",
        "t" * 100_000,
        f"Study.title must be one line of at most 300 characters, none a control character, "
        f"got '{'t' * 80}'... (100000 characters).",
    ),
    (STUDY, "notes", ("One\nparagraph.", "\x9b31m"), r"Study.notes must hold no control characters, got '\x9b31m'."),
    (STUDY, "references", {"\u202eDACS": STUB}, r"Study.references must hold no control characters, got '\u202eDACS'."),
    (TABLE, "note", "\ud800", r"Table.note must hold no control characters, got '\ud800'."),
    (TABLE, "columns", (("student/miou", "\x1bc"),), r"Table.columns must hold no control characters, got '\x1bc'."),
    (AXIS, "label", lambda level: level, "Axis 'level', label of level 1 must be one line of at most 300 characters, "),
    (AXIS, "label", lambda level: 1 / 0, "Axis 'level', label of level 1: ZeroDivisionError: division by zero;"),
    (AXIS, "label", lambda level: f"\x1b{level}", r"Axis 'level', label of level 1 must be one line of at most 300 "),
    (AXIS, "label", lambda level: "same", "Axis 'level' prints levels 1 and 2 alike, as 'same'; a report tells levels"),
    (Integer(1, 4), "high", 10**30, "Integer.high must be an integer from -9007199254740992 to 9007199254740992, got"),
    (Float(0.1, 0.9), "high", 10**400, "Float.high must be a finite number, got "),
    (Float(0.1, 0.9), "low", "0.1", "Float.low must be a finite number, got '0.1'."),
    (Float(0.1, 0.9), "digits", 18, "Float.digits must be an integer from 1 to 17, got 18."),
    (
        Integer(1, 4),
        "high",
        4.0,
        "Integer.high must be an integer from -9007199254740992 to 9007199254740992, got 4.0.",
    ),
    (Choice((1, 2)), "options", 1, "Choice.options must be a tuple of values, got 1."),
    (Tpe(), "startup", -1, "Tpe.startup must be an integer of at least 0, got -1."),
    (Grid(), "points", 0, "Grid.points must be an integer from 1 to 10000, got 0."),
    (Asha(), "reduction_factor", 1, "Asha.reduction_factor must be an integer of at least 2, got 1."),
    (Asha(), "brackets", 3, "Asha.brackets must be at most the number of rungs, got 3 with 2 rungs."),
    (Median(), "grace", 1.0, "Median.grace must lie in [0, 1), got 1.0."),
    (Criterion(key="a", label="A"), "key", None, "Criterion.key must be a string, got None."),
)


@pytest.mark.parametrize(
    ("good", "field", "value", "sentence"),
    DECLARED,
    ids=[f"{type(good).__name__}-{field}-{number}" for number, (good, field, *_) in enumerate(DECLARED)],
)
def test_what_a_search_space_declares_is_checked_alike(good: Any, field: str, value: object, sentence: str) -> None:
    """As one sentence of a `SearchSpaceError`, which the command line prints with file and line."""
    with pytest.raises(SearchSpaceError) as refused:
        replace(good, **{field: value})
    assert str(refused.value).startswith(sentence)
