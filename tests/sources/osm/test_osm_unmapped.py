"""Areas that the map lacks lie where nothing is mapped, and are asked about or drawn."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from glocal.core import legends
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.sources.osm.kind import TERMS
from glocal.sources.osm.tags import crosswalk_of
from glocal.sources.osm.unmapped import unmapped_areas
from glocal.testing import grid, provenance_of
from tests.sources.findings import findings_about, window_of

LEGEND = legends.legend("worldcover")
SIDE, CELL = 60, 10.0
BOX = grid(SIDE, SIDE)
YEAR = Interval.of_year(2021)


def mapped(rng: np.random.Generator, n: int) -> Observations:
    """Return a few meadows."""
    box = BOX.boundingbox
    corner = np.array([box.left, box.bottom]) + rng.uniform(0, (SIDE - 20) * CELL, (n, 2))
    size = rng.uniform(30, 200, (n, 2))
    shapes = [shapely.box(*low, *(low + by)) for low, by in zip(corner, size, strict=True)]
    return Observations(
        source="osm",
        support="objects",
        geobox=BOX,
        symbols=np.ones(n, np.uint16),
        crosswalk=crosswalk_of(("landuse=meadow",), LEGEND),
        phenomenon_time=YEAR,
        provenance=provenance_of("osm"),
        geometry=np.array(shapes, object),
        record=np.array([f"way/{i}@1" for i in range(n)], str),
    )


def cells(field: np.ndarray) -> shapely.Geometry:
    """Return the outline of the cells that are True."""
    rows, columns = np.nonzero(field)
    box = BOX.boundingbox
    left, top = box.left + columns * CELL, box.top - rows * CELL
    return shapely.union_all(shapely.box(left, top - CELL, left + CELL, top))


@given(st.integers(0, 10_000), st.integers(1, 8), st.sampled_from(["tree", "water", "crop"]))
@settings(max_examples=25, deadline=None)
def test_missing_areas_lie_outside_everything_mapped(seed: int, n: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    osm = mapped(rng, n)
    seen = ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 6) > 0
    findings = findings_about(osm, unmapped=[(name, 0.95, cells(seen))])
    found = unmapped_areas(osm, findings, window_of(BOX, LEGEND, interval=YEAR), TERMS)
    if name == "crop":  # a fallow field looks like many things
        assert not len(found)
    assert set(found.proposed.tolist()) <= {name}
    assert set(found.fault.tolist()) <= {"missing"}
    taken = shapely.union_all(osm.geometry)
    drawn = found.action == "create"
    assert shapely.area(shapely.intersection(found.support[drawn], taken)).sum() == 0
    # questions are simplified within one cell
    inner = shapely.buffer(found.support[~drawn], -1.01 * CELL)
    assert shapely.area(shapely.intersection(inner, taken)).sum() == 0
    assert (found.columns["why"][drawn] == "").all()
    assert (found.columns["why"][~drawn] != "").all()
    assert (shapely.area(found.support[drawn]) >= 2e4).all()


def test_where_trees_are_seen_and_nothing_is_mapped_an_area_is_drawn() -> None:
    osm = mapped(np.random.default_rng(0), 1)
    seen = np.zeros((SIDE, SIDE), bool)
    seen[5:30, 5:30] = True
    findings = findings_about(osm, unmapped=[("tree", 0.95, cells(seen))])
    window = window_of(BOX, LEGEND, interval=YEAR)
    found = unmapped_areas(osm, findings, window, TERMS)
    assert found.fate.tolist() == ["create"]
    assert found.probability == pytest.approx([0.95])
    assert found.columns["edit"][0].set == {"natural": "wood"}
    faint = findings_about(osm, unmapped=[("tree", 0.75, cells(seen))])
    assert not len(unmapped_areas(osm, faint, window, TERMS))
