"""A correction needs a witness from another family."""

from __future__ import annotations

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin

from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Crosswalk, Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance
from glocal.fusion.fuse import fuse
from glocal.fusion.propose import cell_doubts

SIZE = 60
LEGEND = Legend(
    name="two",
    classes=tuple(
        ClassDef(value=v, name=n, title=n, color="000000") for v, n in ((1, "a"), (2, "b"))
    ),
)
GRID = GeoBox((SIZE, SIZE), from_origin(0, SIZE * 10, 10, 10), "EPSG:32633")


def a_map(name, cells, root):
    return Observations(
        source=name,
        support="cells",
        geobox=GRID,
        symbols=cells.astype(np.uint8),
        crosswalk=Crosswalk.from_shares(LEGEND, {"a": {"a": 1.0}, "b": {"b": 1.0}}, confidence=0.8),
        phenomenon_time=Interval.parse("2020"),
        provenance=Provenance(activity="read", agent=name, roots=frozenset({root})),
    )


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    truth = np.ones((SIZE, SIZE), int)
    truth[:, SIZE // 2 :] = 2
    wrong = truth.copy()
    wrong[10:20, 5:15] = 2
    at = rng.choice(truth.size, 80, replace=False)
    rows, columns = np.divmod(at, SIZE)
    anchors = Anchors(
        x=columns * 10 + 5.0,
        y=(SIZE - rows) * 10 - 5.0,
        shares=np.eye(2)[truth.ravel()[at] - 1],
        weight=np.ones(80),
        record=np.array([f"p{i}" for i in range(80)]),
        provenance=Provenance(activity="read", agent="survey"),
    )
    return truth, wrong, anchors


def test_relatives_alone_convict_nobody(scene):
    truth, wrong, anchors = scene
    accused = a_map("old", wrong, "one")
    sources = [accused, a_map("new", truth, "one")]
    assert not cell_doubts(fuse(sources, anchors), accused).supported.any()


def test_a_stranger_does(scene):
    truth, wrong, anchors = scene
    accused = a_map("old", wrong, "one")
    sources = [accused, a_map("new", truth, "one"), a_map("other", truth, "two")]
    found = cell_doubts(fuse(sources, anchors), accused)
    assert np.array_equal(found.supported & (accused.symbols > 0), truth != wrong)


def test_a_stranger_who_is_silent_does_not(scene):
    truth, wrong, anchors = scene
    silent = truth.copy()
    silent[10:20, 5:15] = 0
    accused = a_map("old", wrong, "one")
    sources = [accused, a_map("new", truth, "one"), a_map("other", silent, "two")]
    assert not cell_doubts(fuse(sources, anchors), accused).supported.any()
