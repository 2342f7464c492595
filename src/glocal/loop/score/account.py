"""All numbers of a run put together, and what its reader should know of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np

from glocal.core.concepts import CONCEPTS
from glocal.core.grid import cell_area_ha
from glocal.core.result import Displacement
from glocal.core.setting import ENGINE
from glocal.fusion.alarms import audits
from glocal.loop.area.area import Area
from glocal.loop.rounds.turns import Turn
from glocal.loop.score.metrics import (
    ClassArea,
    ClassRow,
    CorrectionRow,
    Metrics,
    RoundRow,
    ShiftRow,
    SourceRow,
)
from glocal.loop.score.summary import Summary
from glocal.sources.kind import Reading, Written

WEAK = 0.5
"""Median probability of the estimate below which its readers are warned."""

LEVEL = 0.95
TOO_FEW = "too few anchors: exponents are conservative and nothing is promised"


def metrics_of(
    area: Area,
    turn: Turn,
    history: Sequence[RoundRow],
    summary: Summary,
    given: Mapping[str, Written],
    shifts: Mapping[str, Displacement],
    software: str,
) -> Metrics:
    """Return the numbers of a run whose round ``turn`` is kept."""
    estimate = turn.estimate
    size = np.bincount(estimate.classes.ravel(), minlength=len(area.legend))
    hectares = (size * cell_area_ha(area.geobox)).tolist()
    sizes = zip(area.legend.values, hectares, strict=True)
    families = sorted({one.family for one in turn.fused.reliabilities()})
    return Metrics(
        software=software,
        area=area.config.name,
        seed=area.config.seed,
        rounds=list(history),
        round_kept=turn.round,
        interval_level=LEVEL,
        legend=[ClassRow.model_validate(c, from_attributes=True) for c in area.legend.classes],
        reference=summary.reference,
        estimate=summary.estimate,
        baselines=summary.baselines,
        calibration=summary.calibration,
        sources={one.name: _source(area, one, summary) for one in area.readings},
        corrections={name: _correction(given[name], summary, name) for name in sorted(given)},
        weights=estimate.weights,
        families=[list(family) for family in families],
        displacement={
            name: ShiftRow(
                dx=one.dx,
                dy=one.dy,
                sd=float(np.sqrt((one.covariance[0][0] + one.covariance[1][1]) / 2)),
                gauge=one.gauge,
                applied=one.applied,
            )
            for name, one in sorted(shifts.items())
        },
        class_area=[ClassArea(value=value, area_ha=ha) for value, ha in sizes],
        attribution=list(estimate.provenance.attribution),
        licence=estimate.provenance.licence,
        ties=[asdict(one) for one in turn.fused.ties],
        audits=[asdict(one) for one in audits(turn.fused)],
        notes=[*_notes(area, turn), *_signs(turn, history[turn.round])],
    )


def _source(area: Area, reading: Reading, summary: Summary) -> SourceRow:
    found = summary.sources.get(reading.name, SourceRow())
    about = {"kind": reading.config.kind}
    if found.before is not None:
        return found.model_copy(update={**about, "metric": reading.kind.metric})
    if reading.kind.why_never or area.reference is None:
        why = reading.kind.why_never or "no reference points"
    else:
        why = reading.kind.why_not(reading)
    return found.model_copy(update={**about, "why": why})


def _correction(given: Written, summary: Summary, name: str) -> CorrectionRow:
    """Return what a source receives; ``measured`` counts held-out points in changed places."""
    told = given.corrections
    return CorrectionRow(
        measured=None if told is None else summary.changed.get(name),
        count=given.count,
        files=[path.as_posix() for path in given.files],
        expected_precision=None if told is None else told.expected_precision,
        threshold=None if told is None else told.threshold,
        note=given.note,
    )


def _notes(area: Area, turn: Turn) -> list[str]:
    notes = []
    if turn.anchor_log_loss is None:
        notes.append(
            f"{turn.fused.anchors} answered anchors, fewer than the {ENGINE.min_sample} needed: "
            "exponents are conservative, surroundings are read with fixed weights, and "
            "probabilities are not calibrated"
        )
    usual = float(np.exp(np.median(turn.estimate.log_p.max(axis=-1))))
    if usual < WEAK:
        notes.append(
            f"the sources say little here: half of the cells have no class likelier than "
            f"{usual:.2f}; read estimate.tif only together with probability.tif"
        )
    if strange := [one.name for one in area.legend.classes if not one.concept]:
        notes.append(
            f"legend {area.legend.name}: no concept is known for {', '.join(strange)}, so no tag "
            "stands for such ground and words of observers must name it exactly; a legend CSV may "
            f"have a column concept, one of {', '.join(CONCEPTS)}"
        )
    terms = {one.kind.terms for one in area.readings if not area.is_whole_under(one.kind.terms)}
    notes += [
        f"some sources are under licences that {community} can't accept; what goes to "
        f"{community} was made by a second run of the loop without them"
        for community in sorted(one.community for one in terms if one is not None)
    ]
    if not area.learners:
        notes.append("no model among the sources, so one round says all")
    if len({one.family for one in turn.fused.reliabilities()}) < 2:
        notes.append(
            "all sources share one root: they can't check each other, so expect abstention"
        )
    return notes


def _signs(turn: Turn, kept: RoundRow) -> list[str]:
    """Return a note for every source that repeats another, and every alarm that rings."""
    fused = turn.fused
    return [
        *(
            f"{name} repeats {twin} word for word from the same roots: counted once"
            for name, twin in sorted(fused.twins.items())
        ),
        *(
            f"alarm: {one['name']} is {one['value']:.2f}, limit {one['limit']:.2f}; {one['advice']}"
            for one in kept.alarms
            if one["rings"]
        ),
        *(
            f"{one.a} and {one.b} share no declared root but err alike at {one.anchors} anchors "
            f"(correlation {one.correlation:.2f}, p = {one.p:.3f}): they share a budget"
            for one in fused.ties
        ),
    ]
