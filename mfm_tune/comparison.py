"""A study of one table, for configs that no paper prints. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping

from mfm_tune.program import Program
from mfm_tune.space import Axis, Config, Study, Table

__all__ = ["Study", "compare"]


def compare(
    name: str,
    configs: Mapping[str, Config],
    baselines: Mapping[str, Config],
    *,
    profile: str,
    program: Program,
    title: str | None = None,
    needs: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
) -> Study:
    """A study whose one table has a row for each config.

    Args:
        name: Of the study, its table and their axis.
        configs: What is trained, by the name of its row.
        baselines: Configs that each row is compared with, by name.
        profile, program, needs, notes: As in `Study`.
        title: One line for people; None takes the name.

    Raises:
        SearchSpaceError: As in `Study`, `Table` and `Axis`.
    """
    title = name if title is None else title
    axis = Axis(name=name, levels=tuple((row, None) for row in configs), make=configs.__getitem__)
    table = Table(name=name, title=title, axis=axis)
    return Study(
        name=name,
        title=title,
        profile=profile,
        program=program,
        tables=(table,),
        references=baselines,
        needs=needs,
        notes=notes,
    )
