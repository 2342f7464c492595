"""Areas that the map lacks: where the others agree and nothing is mapped, and how to draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from glocal.core.burn import burn
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.grid import cell_area_ha
from glocal.core.observation import Observations
from glocal.core.provenance import Terms
from glocal.sources.answers.settled import settled
from glocal.sources.kind import Window
from glocal.sources.osm.change import MAX_NODES
from glocal.sources.osm.outline import outline
from glocal.sources.osm.rows import NO_EDIT, NO_LICENCE, columns_of
from glocal.sources.osm.tags import TagEdit, tags_of_new
from glocal.sources.patches import patches_of
from glocal.sources.telling import corrections_of

MISSING = ("tree", "water")
"""Concepts whose absence from OSM can be seen from above."""

MISSING_HA = 2.0
"""Smallest unmapped area that is worth somebody's look, and the smallest that is drawn."""

MOST = 50
LAYER_IS_PART = "a layer holds only a part of OpenStreetMap, so it may be mapped elsewhere"
LAYER_IS_OFF = "the layer lies off the images, so its outline would not fit its neighbours"
NO_TAG = "its class has no tag that can be told from above"
TOO_LONG = f"its outline has more than {MAX_NODES} nodes"


def unmapped_areas(
    source: Observations, findings: Findings, window: Window, terms: Terms
) -> Corrections:
    """Return areas of trees or water where nothing is mapped: new areas, else questions."""
    legend, geobox = window.legend, window.geobox
    classes = np.flatnonzero(np.isin(legend.concepts, MISSING))
    best, p = findings.others.argmax(axis=-1), np.exp(findings.others.max(axis=-1))
    free = burn(source.geometry, geobox) == 0
    use = np.isin(best, classes) & (p >= window.precision) & free
    cell_ha = cell_area_ha(geobox)
    found = patches_of(np.where(use, 1 + best, 0), int(np.ceil(MISSING_HA / cell_ha)), geobox)
    probability = np.clip(found.mean(p), 0, 1)
    order = np.argsort(-probability * np.log1p(found.size * cell_ha), kind="stable")[:MOST]
    names = np.array(legend.names)[found.code[order] - 1]
    done = settled(findings.answers, names, names, names, missing=found.geometry[order])
    order, names = order[~done], names[~done]
    patches = found.geometry[order]
    tags = [tags_of_new(legend.concepts[code - 1]) for code in found.code[order]]
    drawn = [_drawn(source, findings, terms, *one) for one in zip(patches, tags, strict=True)]
    why = [reason for _, reason in drawn]
    pairs = zip(tags, why, strict=True)
    edit = [NO_EDIT if no else TagEdit(set=one, unset=()) for one, no in pairs]
    new = np.array([not reason for reason in why], bool)
    middle = shapely.get_coordinates(shapely.point_on_surface(patches)).tolist()
    record = [f"new/{name}/{x:.0f}_{y:.0f}" for name, (x, y) in zip(names, middle, strict=True)]
    return corrections_of(
        source,
        findings,
        record=np.array(record, str),
        fault="missing",
        action=np.where(new, "create", "flag"),
        fate=np.where(new, "create", "missing"),
        current="",
        proposed=names,
        probability=probability[order],
        support=np.array([shape for shape, _ in drawn], object),
        columns=columns_of(len(record), np.array(why, object), np.array(edit, object)),
    )


def _drawn(
    source: Observations, findings: Findings, terms: Terms, patch: Any, tags: dict[str, str]
) -> tuple[Any, str]:
    """Return the outline of an area, and why it can't be a new one ("" if it can)."""
    cell = abs(float(source.geobox.resolution.x))
    rough = shapely.simplify(shapely.force_2d(patch), cell)
    if "layer_rows" in source.columns:
        return rough, LAYER_IS_PART
    if findings.shift is not None and findings.shift.significant:
        return rough, LAYER_IS_OFF
    if not tags:
        return rough, NO_TAG
    near = shapely.intersects(source.geometry, shapely.buffer(patch, cell))
    taken = shapely.union_all(shapely.make_valid(source.geometry[near]))
    shape, why = outline(patch, taken, cell, min_area=MISSING_HA * 1e4)
    if not why and shapely.count_coordinates(shape) > MAX_NODES:
        why = TOO_LONG
    elif not why and not terms.accept(findings.provenance.licences):
        why = NO_LICENCE
    return (rough if why else shape), why
