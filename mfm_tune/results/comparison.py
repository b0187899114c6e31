"""How two configs of a ledger differ, and their metrics side by side."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from mfm_tune.errors import OptionError, StorageError
from mfm_tune.fields import hyphened
from mfm_tune.identity import Canonical, difference
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.ledger.stages import FirstStage
from mfm_tune.ledger.state import LedgerState
from mfm_tune.program import Outcome
from mfm_tune.results.names import configs_called, labels_of, names
from mfm_tune.results.statistics import CONFIDENCE, Summary, paired_difference, summary
from mfm_tune.results.trials import ConfigResult

LONGEST_VALUE = 40
MOST_NAMED = 5
EXCLUDES_ZERO = "*"  # marks an interval that does not hold 0


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two that are compared.

    Args:
        id: Config id or trial key, to be copied.
        labels: What people call the config.
        config: Canonical form.
        result: The trials that count, one a seed.
        left_out: Seeds with results of other code, which do not count.
    """

    id: str
    labels: tuple[str, ...]
    config: Canonical
    result: ConfigResult
    left_out: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Its first label; its id where nothing calls it anything."""
        return next(iter(self.labels), self.id)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of its finished trials, in their order."""
        finished = (record for record in self.result.records if record.outcome is Outcome.FINISHED)
        return tuple(dict.fromkeys(key for record in finished for key in record.metrics))


def find(state: LedgerState, text: str, studies: Collection[str] = (), profiles: Collection[str] = ()) -> Side:
    """The config or trial that a text names: by the beginning of its id or key, or by a name that a ledger has for it.

    Args:
        studies, profiles: Only names of these studies and searches, and of these profiles; empty takes all.

    Raises:
        OptionError: Nothing or more than one config begins so or is called so; all that match are listed.
    """
    beginning = [record for key, record in state.trials.items() if "-" in text and key.startswith(text)]
    of_seed = [record for record in beginning if record.key.rpartition("-")[0] == text]  # s1 begins s10, too
    trials = of_seed or beginning
    begun = {record.config_id for record in trials} or {name for name in state.configs if name.startswith(text)}
    configs = begun if text in begun else begun | configs_called(state, text, studies, profiles)
    if not text.strip() or not configs:
        raise OptionError(
            f"'{text}' begins no config id and no trial key of this ledger, and names nothing in it"
            f"{_within(studies, profiles)}; {_known(state)}."
        )
    if len(configs) > 1 and configs == begun:
        raise OptionError(f"'{text}' begins {len(configs)} configs: {_ids(state, configs)}; give more of it.")
    if len(configs) > 1:
        raise OptionError(_ambiguous(state, text, configs))
    config = next(iter(configs))
    known = state.configs.get(config)
    if known is None:
        raise StorageError(f"The ledger has no config {config}, of which '{text}' is a trial; restore it from a copy.")
    canonical: Canonical = json.loads(json.dumps(known.config))
    every = [record for record in state.trials.values() if record.config_id == config]
    counting = {seed: state.counts(config, seed) for seed in sorted({record.seed for record in every})}
    finished = {record.key: record.seed for record in every if record.outcome is Outcome.FINISHED}
    others = finished.keys() - {record.key for record in counting.values() if record is not None}
    by_seed = _named(trials, counting) if trials else counting
    return Side(
        id=_id(config, trials),
        labels=labels_of(state, config),
        config=canonical,
        result=ConfigResult(config_id=config, trials=by_seed, classes=known.classes),
        left_out=() if trials else tuple(sorted({finished[key] for key in others})),
    )


def _named(trials: Sequence[TrialRecord], counting: Mapping[int, TrialRecord | None]) -> dict[int, TrialRecord | None]:
    """Seed -> the trial of it that is named, or the one that counts where several are."""
    of_seed = Counter(record.seed for record in trials)
    alone = {record.seed: record for record in trials if of_seed[record.seed] == 1}
    return {seed: alone.get(seed) or counting[seed] for seed in sorted(of_seed)}


def _within(studies: Collection[str], profiles: Collection[str]) -> str:
    words = (("study", studies), ("profile", [hyphened(each) for each in profiles]))
    return "".join(f" in {word} {' or '.join(sorted(given))}" for word, given in words if given)


def _ambiguous(state: LedgerState, text: str, configs: Iterable[str]) -> str:
    """A sentence, and a line for each config that is meant: id, names, the fitting ones first, where it is declared.

    Names are those with their tables' where several configs have one name at one place.
    """
    every = list(names(state))
    among = {config: [named for named in every if named.config_id == config] for config in configs}
    alike = Counter(called for own in among.values() for called in {(one.label, *one.place) for one in own})
    rows = []
    for config, own in among.items():
        own.sort(key=lambda named: not named.is_called(text) and not named.holds(text))
        places = dict.fromkeys(f"{named.declared} at {hyphened(named.profile)}" for named in own)
        labels = [named.label if alike[named.label, *named.place] == 1 else named.in_table for named in own]
        rows.append((f"  {config}", _some(list(dict.fromkeys(labels))), ", ".join(places)))
    head = f"'{text}' means {len(rows)} configs; give more of the name, an id of these, --study or --profile:"
    return "\n".join((head, *_aligned(sorted(rows, key=lambda row: (row[2], row[1], row[0])), left=3)))


def _id(config: str, trials: Sequence[TrialRecord]) -> str:
    return trials[0].key if len(trials) == 1 else config


def _known(state: LedgerState) -> str:
    return f"it has {_ids(state, state.configs)}" if state.configs else "it has none yet"


def _ids(state: LedgerState, configs: Iterable[str]) -> str:
    """Some config ids, each with its first label."""
    every = [(each, labels_of(state, each)[:1]) for each in sorted(configs)]
    return _some([" ".join((each, *(f"({label})" for label in labels))) for each, labels in every])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else "")


# --------------------------------------------------------------------------------------------------------------------
# In words
# --------------------------------------------------------------------------------------------------------------------


def describe(a: Side, b: Side, wanted: Sequence[str] = (), stages: Mapping[str, FirstStage] | None = None) -> list[str]:
    """The comparison as lines.

    Args:
        stages: Metric -> the first stage, where the two were compared in two stages.
        wanted: Only metrics whose names hold one of these; empty takes all.
    """
    heads = [(letter, side.id, _some(side.labels)) for letter, side in (("A", a), ("B", b))]
    left_out = [
        f"{letter}: results of other code do not count, seeds {', '.join(map(str, side.left_out))}"
        for letter, side in (("A", a), ("B", b))
        if side.left_out
    ]
    return [*_aligned(heads, left=3), "", *_fields(a, b), "", *_metrics(a, b, wanted, stages or {}), *left_out]


def _fields(a: Side, b: Side) -> list[str]:
    changes = difference(a.config, b.config)
    if not changes:
        return ["The configs are the same."]
    rows = [(change.field, _text(change.first), _text(change.second)) for change in changes]
    return _aligned([("field", "A", "B"), *rows], left=3)


def _text(value: Canonical) -> str:
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"


def _metrics(a: Side, b: Side, wanted: Sequence[str], stages: Mapping[str, FirstStage]) -> list[str]:
    keys = metrics_of(a, b, wanted)
    finals = {name: (a.result.finals(name), b.result.finals(name)) for name in keys}
    rows = [row for name in keys if (row := _metric_row(name, *finals[name], stages.get(name)))]
    if not rows:
        return ["No finished trial has a metric to compare."]
    shared = sorted(_finished_seeds(a) & _finished_seeds(b))
    seeds = ", ".join(map(str, shared)) or "none"
    head = ("metric", "A", "B", "B − A", "95 % interval")
    notes = [
        "",
        f"mean ± std (n) over finished seeds; differences over the seeds that both have: {seeds}, as far as there are "
        "numbers of both",
    ]
    intervals = sum(row[-1] != "–" for row in rows)
    if intervals:
        notes.append(
            f"{EXCLUDES_ZERO} the interval excludes zero; of {intervals} intervals about "
            f"{intervals * (1 - CONFIDENCE):.1g} do so by chance alone where there is no difference"
        )
    else:
        notes.append("an interval needs two seeds at least")
    notes += [note for name in keys if (note := _stage_note(name, *finals[name], stages.get(name)))]
    return [*_aligned([head, *rows], left=1), *notes]


def _stage_note(name: str, a: Mapping[int, float], b: Mapping[int, float], first: FirstStage | None) -> str | None:
    """How an interval was made, where it is that of the two-stage procedure."""
    paired = paired_difference(b, a, first)
    if paired.first is None:
        return None
    return (
        f"{name}: two-stage interval over {paired.n} of the {paired.first.needed} seeds that a half-width of "
        f"{paired.first.half_width:g} takes; its spread is that of seeds {', '.join(map(str, paired.first.pairs))}"
    )


def metrics_of(a: Side, b: Side, wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """Metrics of either one, in their order; only those whose names hold one of the wanted texts; empty takes all.

    Raises:
        OptionError: There are metrics, and one of the texts is in the name of none.
    """
    names = tuple(dict.fromkeys((*a.metrics, *b.metrics)))
    for text in wanted:
        if names and not any(text in name for name in names):
            known = ", ".join(names)
            raise OptionError(f"--metric got '{text}', which is in the name of no metric; there are {known}.")
    return tuple(name for name in names if not wanted or any(text in name for text in wanted))


def _metric_row(
    name: str, a: Mapping[int, float], b: Mapping[int, float], first: FirstStage | None
) -> tuple[str, ...] | None:
    if not a and not b:
        return None
    paired = paired_difference(b, a, first)
    mean = "–" if paired.mean is None else f"{paired.mean:+.4g}"
    interval = "–"
    if paired.low is not None and paired.high is not None:
        mark = EXCLUDES_ZERO if paired.sign else " "
        interval = f"{paired.low:+.4g} … {paired.high:+.4g} {mark}"
    return name, _summed(summary(a.values())), _summed(summary(b.values())), mean, interval


def _summed(result: Summary) -> str:
    if result.mean is None:
        return "–"
    std = f" ± {result.std:.2g}" if result.std is not None else ""
    return f"{result.mean:.4g}{std} ({result.n})"


def _finished_seeds(side: Side) -> set[int]:
    return {record.seed for record in side.result.records if record.outcome is Outcome.FINISHED}


def _aligned(rows: Sequence[tuple[str, ...]], left: int) -> list[str]:
    """Rows as text in columns, the first `left` of them flush left."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
