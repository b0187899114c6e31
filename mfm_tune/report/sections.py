"""The text of a study's report: what it begins with, what is missing, what failed, where it ran."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from mfm_tune.errors import last_line
from mfm_tune.fields import hyphened
from mfm_tune.ledger.records import TrialRecord
from mfm_tune.planning.forecast import duration
from mfm_tune.program import Outcome
from mfm_tune.report.first_page import banner, claims_section, cost_section
from mfm_tune.report.numbers import counted
from mfm_tune.report.pseudo_labels import pseudo_label_section
from mfm_tune.report.sentences import how_to_read, missing, status
from mfm_tune.report.text import Section, Text, filled
from mfm_tune.report.two_levels import two_levels_section
from mfm_tune.report.two_stage import stages_section
from mfm_tune.results.study import Results
from mfm_tune.results.trials import letter


def study_text(results: Results) -> Text:
    """All text of a study's report."""
    study = results.study
    return Text(
        subtitle=f"Study {study.name}, profile {hyphened(study.profile)}. {status(results)}",
        banner=banner(results),
        first=filled(
            claims_section(results), two_levels_section(results), stages_section(results), _comparable(results)
        ),
        reading=how_to_read(results),
        leading=filled(cost_section(results), pseudo_label_section(results)),
        sections=filled(_missing(results), _failed(results), _where(results)),
    )


def _comparable(results: Results) -> Section:
    return Section(key="comparable", title="Not comparable with the paper", sentences=results.study.comparable)


def _missing(results: Results) -> Section:
    lines = missing(results)
    every = "Nothing: every cell has a number of every seed."
    return Section(key="missing", title="What is missing", sentences=lines or (every,))


def _failed(results: Results) -> Section:
    rows = tuple(
        (results.configs[record.config_id].name, str(record.seed), record.outcome.value, _reason(record))
        for record in results.records
        if record.outcome not in (None, Outcome.FINISHED)
    )
    headings = ("config", "seed", "outcome", "reason")
    return Section(key="outcomes", title="Trials that ended without a number", headings=headings, rows=rows)


def _reason(record: TrialRecord) -> str:
    if record.outcome is Outcome.STOPPED:
        return f"stopped by the scheduler at step {record.step} of {record.planned_steps}"
    return last_line(record.error)


def _where(results: Results) -> Section:
    records = results.records
    launches = results.launches
    hosts = dict.fromkeys(str(launch["host"]) for launch in launches if launch.get("host"))
    slots = dict.fromkeys(int(launch.get("slots", 0)) for launch in launches)
    side_by_side = [f"{count} at a time" if count else "on a cluster" for count in slots]
    trials = f", trials {' and '.join(side_by_side)}" if side_by_side else ""
    sentences = [f"{counted(len(launches), 'launch', 'launches')} on {', '.join(hosts) or 'no known host'}{trials}."]
    if records:
        executed, seconds = sum(each.executed_steps for each in records), sum(each.seconds for each in records)
        needed = sum(each.step for each in records)
        again = f", {executed - needed:,} of them repeated after interruptions" if executed > needed else ""
        sentences.append(
            f"{executed:,} training steps{again}; {duration(seconds)} of trial time, summed over all trials."
        )
    if results.other_seeds:
        others = ", ".join(map(str, results.other_seeds))
        sentences.append(f"Finished trials of these configs with other seeds are no part of this report: {others}.")
    starts = [each.started for each in records if each.started is not None]
    ends = [each.last_seen for each in records if each.last_seen is not None]
    if starts and ends:
        sentences.append(f"First start {_utc(min(starts))}, last sign of a trial {_utc(max(ends))}.")
    sentences += dict.fromkeys(f"Versions: {_listed(launch.get('versions') or {})}." for launch in launches)
    sentences += _codes(results)
    if len(results.environments) > 1:
        sentences.append(
            "Cells are marked where a seed ran on another machine than A: numbers may differ in the last bits."
        )
    return Section(
        key="where",
        title="What ran where",
        sentences=tuple(sentences),
        headings=("machine", "what", "finished trials"),
        rows=tuple(
            (letter(results.environments, each), str(each), str(_trials_on(results, each)))
            for each in results.environments
        ),
    )


def _trials_on(results: Results, environment: object) -> int:
    return sum(each == environment for config in results.configs.values() for each in config.environments.values())


def _codes(results: Results) -> Sequence[str]:
    earlier = [name for config in results.configs.values() for name in config.other_code]
    prints = sorted({record.fingerprint[:8] for record in results.records})
    if not prints:
        return ()
    mixed = f"; {counted(len(earlier), 'result is', 'results are')} of earlier code" if earlier else ""
    return (f"Training code {', '.join(prints)} (fingerprints){mixed}.",)


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in versions.items()) or "not recorded"


def _utc(milliseconds: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(milliseconds / 1000))
