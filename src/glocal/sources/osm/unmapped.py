"""Areas that the map lacks: where the others agree and nothing is mapped, and how to draw them."""

from __future__ import annotations

from typing import Any

import numpy as np
import shapely

from glocal.core.answer import settled
from glocal.core.burn import burn
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.grid import cell_area_ha
from glocal.core.observation import Observations
from glocal.core.provenance import Terms
from glocal.sources.kind import Window
from glocal.sources.osm.change import MAX_NODES
from glocal.sources.osm.outline import outline
from glocal.sources.osm.rows import NO_EDIT, NO_LICENCE, of_source
from glocal.sources.osm.tags import TagEdit, tags_of_new
from glocal.sources.patches import patches_of

__all__ = ["unmapped_areas"]

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
    best = findings.others.argmax(axis=-1).astype(np.int64)
    p = np.exp(findings.others.max(axis=-1))
    free = burn(source.geometry, geobox) == 0
    use = np.isin(best, classes) & (p >= window.precision) & free
    cell_ha = cell_area_ha(geobox)
    found = patches_of(np.where(use, 1 + best, 0), int(np.ceil(MISSING_HA / cell_ha)), geobox)
    probability = np.clip(found.mean(p), 0, 1)
    order = np.argsort(-probability * np.log1p(found.size * cell_ha), kind="stable")[:MOST]
    label = found.code - 1
    names = np.array(legend.names)[label[order]]
    patches = found.geometry[order]
    done = settled(findings.answers, names, names, names, missing=patches)
    order, names, patches = order[~done], names[~done], patches[~done]
    n = len(order)
    xy = shapely.point_on_surface(patches)
    support, edit, why = patches.copy(), np.full(n, NO_EDIT, object), np.full(n, "", object)
    for i in range(n):
        tags = tags_of_new(legend.concepts[label[order[i]]])
        drawn, reason = _drawn(source, findings, patches[i], tags)
        if not reason and not terms.accept(findings.provenance.licences):
            reason = NO_LICENCE
        cell = abs(float(geobox.resolution.x))
        support[i] = shapely.simplify(shapely.force_2d(patches[i]), cell) if reason else drawn
        why[i] = reason
        if not reason:
            edit[i] = TagEdit(set=tags, unset=())
    new = np.array([not one for one in why], bool)
    return of_source(
        source,
        findings,
        window,
        record=np.array(
            [f"new/{name}/{at.x:.0f}_{at.y:.0f}" for name, at in zip(names, xy, strict=True)], str
        ),
        fault=np.full(n, "missing"),
        action=np.where(new, "create", "flag"),
        fate=np.where(new, "create", "missing"),
        current=np.full(n, ""),
        proposed=names,
        probability=probability[order],
        support=support,
        why=why,
        edit=edit,
    )


def _drawn(
    source: Observations, findings: Findings, patch: Any, tags: dict[str, str]
) -> tuple[Any, str]:
    """Return the outline of a new area, and why it is none ("" if it can be one)."""
    if "layer_rows" in source.columns:
        return patch, LAYER_IS_PART
    if findings.shift is not None and findings.shift.significant:
        return patch, LAYER_IS_OFF
    if not tags:
        return patch, NO_TAG
    cell = abs(float(source.geobox.resolution.x))
    near = shapely.intersects(source.geometry, shapely.buffer(patch, cell))
    taken = shapely.union_all(shapely.make_valid(source.geometry[near]))
    shape, why = outline(patch, taken, cell, min_area=MISSING_HA * 1e4)
    if not why and shapely.count_coordinates(shape) > MAX_NODES:
        return shape, TOO_LONG
    return shape, why
