"""What a round found about one source, for its kind to tell it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from glocal.core.correction import Corrections
from glocal.core.findings import Findings, Voices
from glocal.core.observation import Observations
from glocal.core.placement import Registration
from glocal.core.promise import UNCHECKED
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement
from glocal.core.typing import Layers, Table
from glocal.fusion.fuse import Fused
from glocal.fusion.place.misplaced import misplaced_objects
from glocal.fusion.place.points import layer_shift, suggest_places
from glocal.fusion.place.scene_shift import register
from glocal.fusion.propose import cell_doubts, meanings, object_doubts, point_doubts
from glocal.loop.area.area import Area
from glocal.loop.rounds.turns import Turn
from glocal.sources.kind import Reading

NOTHING_SURE = "nothing is wrong with enough confidence to say so"
UNCHECKABLE = "all who speak here share its roots: nobody can check it"


def findings_of(
    area: Area,
    turn: Turn,
    reading: Reading,
    *,
    shift: Displacement | None = None,
    held_out: Table | None = None,
    sharpness: float = UNCHECKED,
) -> Findings:
    """Return what the others know about a source after a round.

    ``shift`` is how far its layer lies off as a whole; ``held_out`` and ``sharpness`` as in
    `Findings`.
    """
    everybody = [*area.observations, *turn.models]
    kin = reading.kind.kin(reading, everybody)
    others = [one for one in everybody if one.source not in kin and one.speaks]
    names = tuple(sorted(one.source for one in others))
    fused, known = turn.fused, turn.fused.reliabilities()
    said = next((one for one in everybody if one.source == reading.name), None)
    found = Findings(
        source=reading.name,
        estimate=turn.estimate,
        others=fused.cells(kin),
        because=names,
        provenance=Provenance.derive("fuse", [one.provenance for one in others], used=names),
        checkable=len({one.family for one in known}) > 1,
        reliability=next((one for one in known if one.source == reading.name), None),
        shift=shift,
        answers=tuple(one.about(reading.name) for one in area.answers),
        too_hard=area.too_hard,
        anchors=area.anchors,
        reference=area.reference,
        held_out=held_out,
        sharpness=sharpness,
        points=area.points(),
    )
    if reading.image is not None:
        return replace(found, registration=_registration(area, reading, found))
    return found if said is None else _about_statements(fused, said, found)


def _about_statements(fused: Fused, said: Observations, found: Findings) -> Findings:
    """Add what is found about statements, by how they relate to the grid."""
    if said.support == "objects":
        misplaced = misplaced_objects(fused, said)
        return replace(found, doubts=object_doubts(fused, said), misplaced=misplaced)
    if said.support == "points":
        if found.reliability is None:
            raise ValueError(f"{said.source} has no reliability")
        # P(symbol | class) of every point's symbol, (n, K); 1 where it is silent
        stratum = np.zeros(len(said), int) if said.stratum is None else said.stratum.astype(int)
        symbol = np.maximum(said.symbols.astype(np.int64) - 1, 0)
        table = found.reliability.confusion[stratum, :, symbol] ** found.reliability.exponent
        likelihood = np.where((said.symbols > 0)[:, None], table, 1.0)
        others: Layers = np.exp(found.others)
        return replace(
            found,
            doubts=point_doubts(fused, said),
            places=suggest_places(said, likelihood, said.crosswalk.meant()[said.symbols], others),
            shift=layer_shift(said, likelihood, others),
        )
    told, twins = fused.fit.messages, fused.twins
    message = {name: told[twins.get(name, name)].log_p for name in {*told, *twins} - {said.source}}
    found = replace(found, voices=Voices(unit=fused.fit.problem.units.of_cell, message=message))
    if said.support != "cells":
        return found
    return replace(found, doubts=cell_doubts(fused, said), meaning=meanings(fused, said))


def _registration(area: Area, reading: Reading, found: Findings) -> Registration | None:
    if not found.because:
        return None
    layers = reading.shows.layers
    clear = np.asarray(np.isfinite(layers).all(axis=0))
    step = abs(float(area.geobox.resolution.x))
    others = np.exp(found.others)
    seen = register(np.nan_to_num(layers), clear, others, step, seed=area.config.seed)
    if seen is None:
        return None
    gauge = f"relative to {', '.join(found.because)}"
    return replace(seen, shift=replace(seen.shift, gauge=gauge))


def told(reading: Reading, findings: Findings) -> Corrections | None:
    """Return what the source is told of its records, with a note where that is nothing."""
    corrections = reading.kind.receive(reading, findings)
    if corrections is None or len(corrections):
        return corrections
    return replace(corrections, note=NOTHING_SURE if findings.checkable else UNCHECKABLE)
