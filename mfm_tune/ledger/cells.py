"""The cells of a study as its event in the ledger declares them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mfm_tune.ledger.schema import Event


@dataclass(frozen=True, kw_only=True)
class DeclaredCell:
    """A cell as a study event declares it; `order` counts the study's cells in printing order."""

    study: str
    profile: str
    table: str
    axis: str
    level: str
    trained: str | None
    paper: float | str | None
    config_id: str
    against: str | None
    metric: str
    order: int
    seeds: tuple[int, ...]

    @property
    def key(self) -> str:
        """Unique in a ledger."""
        return f"cell/{self.study}/{self.profile}/{self.table}/{self.level}"


def declared_cells(study: Event) -> Iterator[DeclaredCell]:
    """The cells of a study event in printing order."""
    places = [(table, cell) for table in study["tables"] for cell in table["cells"]]
    for order, (table, cell) in enumerate(places):
        yield DeclaredCell(
            study=study["study"],
            profile=study["profile"],
            table=table["name"],
            axis=table["axis"],
            level=str(cell["level"]),
            trained=cell.get("trained"),
            paper=cell.get("paper"),
            config_id=cell["config_id"],
            against=cell.get("against"),
            metric=table["metric"],
            order=order,
            seeds=tuple(study["seeds"]),
        )


def study_configs(study: Event) -> set[str]:
    """Ids of all configs that a study's numbers rest on."""
    cells = list(declared_cells(study))
    compared = {cell.against for cell in cells if cell.against is not None}
    return {cell.config_id for cell in cells} | compared | set(study["references"].values())
