"""What a search space declares: levels, axes, tables, figures, a study. Standard library only.

A search space reads like the tables of a paper. An `Axis` moves one thing over its levels, and makes what
each level trains; a `Table` prints an axis as cells; a `Study` is a set of tables that share seeds and a metric.

    DIM = Axis(name="dim", levels=((128, 54.7), (256, 55.1)), make=lambda dim: recipe(dim=dim))
    STUDY = Study(name="mine", tables=(Table(name="a", title="Width", axis=DIM),), ...)

Nothing here imports torch or ray: declaring a study and planning it answer in under a second.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, is_dataclass
from enum import Enum
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar, overload

from mfm_tune.errors import SearchSpaceError, asked
from mfm_tune.fields import Line, Name, Profile, Rule, shown
from mfm_tune.identity import config_id
from mfm_tune.program import Program
from mfm_tune.published import OOM as OOM
from mfm_tune.published import Declared, Paper, check_line, check_paper
from mfm_tune.published import OutOfMemory as OutOfMemory
from mfm_tune.published import Published as Published

V = TypeVar("V", bound=Hashable)
W = TypeVar("W", bound=Hashable)
TAKEN = ("trials", "curves", "classes", "explored")  # what the report calls tables of its own
Config = Any  # a frozen dataclass of the program; mfm_tune looks into it only through `identity`


def default_label(value: object) -> str:
    """How a level is printed when its axis does not say: an enum by its value, the rest by `str`."""
    return str(value.value) if isinstance(value, Enum) else str(value)


class Levels(Rule):
    """Levels of an axis: a tuple in which a tuple is a pair of a level and the paper's number."""

    wanted = "be a tuple of levels, each a plain value or a pair (level, the paper's number or None)"

    def fits(self, value: object) -> bool:
        """Whether it is a tuple of such levels; the axis checks the paper's numbers, and names the level."""
        return isinstance(value, tuple) and all(not isinstance(each, tuple) or len(each) == 2 for each in value)


@dataclass(frozen=True, kw_only=True)
class Axis(Declared, Generic[V]):
    """One ablated thing and its levels.

    Args:
        name: The axis's name in commands and tags, such as `dim`.
        levels: Plain values, or pairs of a level and the paper's number for it (percent, `OOM`, `Published`, or None).
            A level that is itself a tuple is given as a pair: `((96, 128), None)`.
        make: The complete config that a level trains.
        label: How a level is printed.
        trained: What a level trains at this scale, where it differs from what is printed.
        against: The config that a level is compared with, where that is not one of the study's references.

    Raises:
        SearchSpaceError: No level, a level twice, two with one label, or a label that cannot be printed.
    """

    name: Name
    levels: Annotated[tuple[tuple[V, Paper] | V, ...], Levels()]
    make: Callable[[V], Config]
    label: Callable[[V], str] = default_label
    trained: Callable[[V], object] | None = None
    against: Callable[[V], Config | None] | None = None

    if TYPE_CHECKING:  # so that V is found from pairs and from plain values

        @overload
        def __init__(
            self,
            *,
            name: str,
            levels: tuple[tuple[V, Paper], ...],
            make: Callable[[V], Config],
            label: Callable[[V], str] = ...,
            trained: Callable[[V], object] | None = ...,
            against: Callable[[V], Config | None] | None = ...,
        ) -> None: ...

        @overload
        def __init__(
            self,
            *,
            name: str,
            levels: tuple[V, ...],
            make: Callable[[V], Config],
            label: Callable[[V], str] = ...,
            trained: Callable[[V], object] | None = ...,
            against: Callable[[V], Config | None] | None = ...,
        ) -> None: ...

        def __init__(self, **_: Any) -> None: ...

    @property
    def rows(self) -> tuple[tuple[V, Paper], ...]:
        """Each level with the paper's number for it; a plain value has none."""
        return tuple(each if isinstance(each, tuple) else (each, None) for each in self.levels)

    def _check_together(self) -> None:
        if not self.levels:
            raise SearchSpaceError(f"Axis '{self.name}' has no levels; give at least one.")
        seen: list[V] = []
        labels: dict[str, V] = {}
        for level, paper in self.rows:
            label = self.label_of(level)
            if level in seen:
                raise SearchSpaceError(
                    f"Axis '{self.name}' names level {label} twice; name each level once, so remove one."
                )
            if label in labels:
                raise SearchSpaceError(
                    f"Axis '{self.name}' prints levels {shown(labels[label])} and {shown(level)} alike, as '{label}'; "
                    "a report tells levels apart by their labels, so change `label`."
                )
            check_paper(self.name, label, paper)
            seen.append(level)
            labels[label] = level

    def label_of(self, level: V) -> str:
        """How a level is printed.

        Raises:
            SearchSpaceError: `label` fails, or gives no line of text.
        """
        where = f"Axis '{self.name}', label of level {shown(level)}"
        label = asked(self.label, level, where)
        check_line(label, where)
        return label


def cross(
    first: Axis[V],
    second: Axis[W],
    make: Callable[[V, W], Config],
    paper: Mapping[tuple[V, W], Paper] | None = None,
) -> Axis[tuple[V, W]]:
    """Every level of one axis with every level of another, as one axis whose levels are pairs."""
    published = paper or {}
    of_a, of_b = first.trained or first.label, second.trained or second.label
    pairs = tuple((a, b) for a, _ in first.rows for b, _ in second.rows)
    return Axis(
        name=f"{first.name}-x-{second.name}",
        levels=tuple((pair, published.get(pair)) for pair in pairs),
        make=lambda pair: make(*pair),
        label=lambda pair: f"{first.label(pair[0])}, {second.label(pair[1])}",
        trained=(lambda pair: f"{of_a(pair[0])}, {of_b(pair[1])}") if first.trained or second.trained else None,
    )


@dataclass(frozen=True, kw_only=True)
class Quoted(Declared):
    """A row that is printed from the literature and not trained."""

    label: Line
    paper: Published


@dataclass(frozen=True, kw_only=True)
class Table(Declared):
    """One printed table: an axis, and what is shown of it.

    Args:
        name: Short name in files and tags, such as `2a`.
        title: What the report prints above the table.
        axis: The rows (or, for a figure, the points).
        metric: The metric key of the printed number; None takes the study's.
        columns: Metric keys printed as further columns, with their headings (per-class IoU, say).
        quoted: Rows from the literature, printed but not trained.
        plot: Draw it as a curve over the levels as well (the paper's Figure 4).
        note: A paragraph printed under the table.
        draws_of: Where the rows are draws of one thing, as sets of initial weights are, what they are draws of: the
            report then tells how much varies between rows from how much varies within them.
    """

    name: Name
    title: Line
    axis: Axis[Any]
    metric: str | None = None
    columns: tuple[tuple[str, str], ...] = ()
    quoted: tuple[Quoted, ...] = ()
    plot: bool = False
    note: str = ""
    draws_of: str = ""

    def _check_together(self) -> None:
        if self.name in TAKEN:
            raise SearchSpaceError(
                f"Table.name must be none of {', '.join(TAKEN)}, which the report's own files have, got '{self.name}'."
            )
        if twice := _twice(heading for _, heading in self.columns):
            raise SearchSpaceError(f"Table.columns of '{self.name}' has the heading '{twice}' twice; rename one.")


def _twice(names: Iterable[str]) -> str | None:
    """The first name that is there more than once."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One printed entry: an axis at one level, with the config that it trains."""

    table: str
    axis: str
    level: str
    trained: str | None
    paper: Paper
    config: Config
    config_id: str
    against: str | None = None  # config id of the row's own reference
    against_config: Config = None


def row_name(axis: str, level: str) -> str:
    """How a row is called outside of its table: `dim 128`."""
    return f"{axis} {level}"


@dataclass(frozen=True, kw_only=True)
class Experiment(Declared):
    """What a study and a search declare alike.

    Args:
        name: Short name in files and tags.
        title: One line for people.
        profile: The scale it runs at: `smoke`, `mini`, `midi` or `paper`.
        program: What trains a config (see `mfm_tune.program`).
        seeds: One trial a config and seed.
        metric: Key of the number that tables print (percent).
        second_metric: Key of the second column, or None (the EMA teacher, say).
        needs: Names of datasets that must be given by `--data NAME=PATH`.
        comparable: What a reader must know before comparing with the paper, one sentence an entry.
        notes: Paragraphs that the report prints at its top.
        about: What references or baselines are, in a phrase, by the names that are printed.
    """

    name: Name
    title: Line
    profile: Profile
    program: Program
    seeds: tuple[int, ...] = (0, 1, 2)
    metric: str = "student/miou"
    second_metric: str | None = "teacher/miou"
    needs: tuple[str, ...] = ()
    comparable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    about: Mapping[str, str] = field(default_factory=dict)

    def _check_configs(self, configs: Mapping[str, Config], kind: str) -> None:
        check_seeds(self.seeds)
        where = f"{type(self).__name__} '{self.name}'"
        for name, config in configs.items():
            check_line(name, f"{where}, a {kind}'s name")
            check_config(config, f"{where}, {kind} '{name}'")


@dataclass(frozen=True, kw_only=True)
class Study(Experiment):
    """Tables that share seeds, a metric and references.

    Args:
        tables: Tables and figures, in printing order.
        references: Configs that every cell is compared with, by the name printed (DACS, MFM).

    Raises:
        SearchSpaceError: A name twice, no table, seeds that are no distinct non-negative integers, or two levels of
            one axis that train the same config.
    """

    tables: tuple[Table, ...]
    references: Mapping[str, Config] = field(default_factory=dict)

    def _check_together(self) -> None:
        if not self.tables:
            raise SearchSpaceError(f"Study '{self.name}' has no tables; give at least one Table.")
        if twice := _twice(table.name for table in self.tables):
            raise SearchSpaceError(f"Study '{self.name}' has two tables named '{twice}'; rename one.")
        self._check_configs(self.references, "reference")
        for table in self.tables:
            _check_distinct(self, table)

    def cells(self) -> Iterator[Cell]:
        """All cells in printing order; a config can be that of several."""
        return chain.from_iterable(self._cells.values())

    def cells_of(self, table: Table) -> tuple[Cell, ...]:
        """The cells of one of the study's tables."""
        return self._cells[table.name]

    @cached_property
    def reference_ids(self) -> Mapping[str, str]:
        """The config id of each reference by its name."""
        return {name: config_id(config) for name, config in self.references.items()}

    def configs(self, tables: Iterable[Table] | None = None) -> dict[str, Config]:
        """Distinct configs by id: references, then the cells of tables (None: all), then baselines of single rows."""
        cells = tuple(chain.from_iterable(map(self.cells_of, self.tables if tables is None else tables)))
        configs: dict[str, Config] = {}
        for name, config in (
            *zip(self.reference_ids.values(), self.references.values(), strict=True),
            *((cell.config_id, cell.config) for cell in cells),
            *((cell.against, cell.against_config) for cell in cells if cell.against is not None),
        ):
            configs.setdefault(name, config)
        return configs

    def name_of(self, config: str) -> str:
        """The name of a config by its id: that of the reference that it is, else that of its first row: `dim 128`, or
        `gta DACS` with the table's name where rows of two tables with one name train different configs."""
        return self._names.get(config, config)

    @cached_property
    def _names(self) -> Mapping[str, str]:
        references = ((config, name) for name, config in self.reference_ids.items())
        cells = [(cell.config_id, row_name(cell.axis, cell.level), cell) for cell in self.cells()]
        configs = Counter(name for _, name in {(config, name) for config, name, _ in cells})
        rows = [(one, name if configs[name] == 1 else row_name(cell.table, cell.level)) for one, name, cell in cells]
        return dict(reversed((*references, *rows)))  # the first name of a config wins

    @cached_property
    def _cells(self) -> Mapping[str, tuple[Cell, ...]]:
        return {table.name: tuple(self._expand(table)) for table in self.tables}

    def _expand(self, table: Table) -> Iterator[Cell]:
        """The cells of one table.

        Raises:
            SearchSpaceError: `make` refused a level (the program's own sentence is passed on).
        """
        axis = table.axis
        for level, paper in axis.rows:
            where = f"Study '{self.name}', axis '{axis.name}', level {axis.label_of(level)}"
            config = asked(axis.make, level, where)
            check_config(config, where)
            against = asked(axis.against, level, f"{where}, against") if axis.against else None
            if against is not None:
                check_config(against, f"{where}, against")
            yield Cell(
                table=table.name,
                axis=axis.name,
                level=axis.label_of(level),
                trained=_trained(axis, level, where),
                paper=paper,
                config=config,
                config_id=config_id(config),
                against=None if against is None else config_id(against),
                against_config=against,
            )


def check_seeds(seeds: tuple[int, ...]) -> None:
    """Raise `SearchSpaceError` unless seeds are distinct non-negative integers, at least one."""
    valid = all(isinstance(seed, int) and not isinstance(seed, bool) and 0 <= seed < 2**31 for seed in seeds)
    if not seeds or not valid or len(set(seeds)) != len(seeds):
        raise SearchSpaceError(
            f"seeds must be distinct integers from 0 to 2147483647, at least one, got {list(seeds)}; for example 0,1,2."
        )


def _trained(axis: Axis[V], level: V, where: str) -> str | None:
    if axis.trained is None:
        return None
    text = default_label(asked(axis.trained, level, f"{where}, trained"))
    check_line(text, f"{where}, trained")
    return text


def check_config(config: Config, where: str) -> None:
    """Raise `SearchSpaceError` unless a config is a dataclass; which one, its program says."""
    if not is_dataclass(config) or isinstance(config, type):
        raise SearchSpaceError(f"{where}: the config must be a frozen dataclass, got {config!r}.")


def _check_distinct(study: Study, table: Table) -> None:
    first: dict[str, str] = {}
    references = {} if table.axis.against else study.reference_ids
    for cell in study.cells_of(table):
        if references.get(cell.level, cell.config_id) != cell.config_id:
            raise SearchSpaceError(
                f"Axis '{cell.axis}': level {cell.level} has the name of a reference that trains another config; "
                "curves go by these names, so change one."
            )
        if cell.config_id in first:
            raise SearchSpaceError(
                f"Axis '{cell.axis}': levels {first[cell.config_id]} and {cell.level} train the same config; "
                "remove one, or make the levels differ in a trained value."
            )
        first[cell.config_id] = cell.level
