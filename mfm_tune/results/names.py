"""What studies and searches of a ledger call their configs, and the configs that a name may mean."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from mfm_tune.ledger.cells import declared_cells
from mfm_tune.ledger.state import LedgerState
from mfm_tune.search.candidates import candidate_name
from mfm_tune.space import row_name


@dataclass(frozen=True, kw_only=True)
class Named:
    """One name of a config.

    Args:
        label: As reports have it: `DACS`, `dim 128`, `trial 3 of search_mfm`.
        declared: Name of the study or search that calls it so.
        profile: Of that study or search.
        metric: What that place compares configs by; None where it says nothing of it.
        spellings: Other ways in which a table prints it: its level alone, behind the table's name or its title.
    """

    label: str
    config_id: str
    declared: str
    profile: str
    metric: str | None = None
    spellings: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str]:
        """The study or search, and its profile."""
        return self.declared, self.profile

    @property
    def in_table(self) -> str:
        """The name with its table's: `gta DACS`; the label of what stands in no table."""
        return self.spellings[1] if len(self.spellings) > 1 else self.label

    def is_labelled(self, text: str) -> bool:
        """Whether a text is the label; case, spaces and `=` make no difference."""
        return _plain(text) == _plain(self.label)

    def is_called(self, text: str) -> bool:
        """Whether a text is another spelling, likewise."""
        return _plain(text) in {_plain(each) for each in self.spellings}

    def holds(self, text: str) -> bool:
        """Whether the label has every word of a text, in any order, each from a word's beginning."""
        words = _plain(self.label).split()
        wanted = _plain(text).split()
        return bool(wanted) and all(any(word.startswith(part) for word in words) for part in wanted)


def names(state: LedgerState) -> Iterator[Named]:
    """Every name in a ledger: references and baselines, rows of tables, candidates of searches."""
    for (declared, profile), event in (*state.studies.items(), *state.searches.items()):
        for name, config in event.get("references", event.get("baselines", {})).items():
            yield Named(label=name, config_id=config, declared=declared, profile=profile, metric=event.get("metric"))
    for study in state.studies.values():
        titles = {table["name"]: table["title"] for table in study["tables"]}
        for cell in declared_cells(study):
            yield Named(
                label=row_name(cell.axis, cell.level),
                config_id=cell.config_id,
                declared=cell.study,
                profile=cell.profile,
                metric=cell.metric,
                spellings=(cell.level, f"{cell.table} {cell.level}", f"{titles[cell.table]} {cell.level}"),
            )
    for (search, profile), proposals in state.proposals.items():
        metric = state.searches.get((search, profile), {}).get("metric")
        for event in proposals:
            name = candidate_name(event["number"])
            yield Named(
                label=f"{name} of {search}",
                config_id=event["config_id"],
                declared=search,
                profile=profile,
                metric=metric,
                spellings=(name,),
            )


def labels_of(state: LedgerState, config: str) -> tuple[str, ...]:
    """What studies and searches call a config, as reports do: references, rows of tables, candidates of searches."""
    return tuple(dict.fromkeys(named.label for named in names(state) if named.config_id == config))


def configs_called(
    state: LedgerState, text: str, declared: Collection[str] = (), profiles: Collection[str] = ()
) -> set[str]:
    """The configs that a text names: those with this label, else those that a table prints so, else those whose labels
    have all its words.

    Args:
        declared, profiles: Only names of these studies and searches, and of these profiles; empty takes all.
    """
    among = [
        named
        for named in names(state)
        if (not declared or named.declared in declared) and (not profiles or named.profile in profiles)
    ]
    for means in (Named.is_labelled, Named.is_called, Named.holds):
        if found := {named.config_id for named in among if means(named, text)}:
            return found
    return set()


def metric_of(state: LedgerState, first: str, second: str) -> str | None:
    """What two configs are compared by where both are declared: in one table, else in one study or search."""
    every = [(named.config_id, named.metric) for named in names(state) if named.metric is not None]
    ours, theirs = ([metric for config, metric in every if config == own] for own in (first, second))
    return next((metric for metric in ours if metric in theirs), next(iter((*ours, *theirs)), None))


def _plain(text: str) -> str:
    return " ".join(text.replace("=", " ").casefold().split())
