"""What makers of maps are told: patches, piece by piece, and a map with them made."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import geopandas as gpd
import numpy as np
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from glocal.core import legends
from glocal.core.answer import Answered
from glocal.core.burn import burn
from glocal.core.findings import Doubts
from glocal.core.interval import Interval
from glocal.core.legend import Crosswalk
from glocal.core.observation import Observations
from glocal.sources.kind import Reading
from glocal.sources.maps.kind import MIN_PATCH_CELLS, Maps
from glocal.testing import grid, provenance_of
from tests.sources.findings import findings_about, window_of

LEGEND = legends.legend("worldcover").subset(("tree", "grass", "crop", "water"))
SIDE, K = 24, len(LEGEND)
BOX = grid(SIDE, SIDE)
YEAR = Interval.of_year(2020)
MAPS = Maps()


def read(symbols: np.ndarray) -> Reading:
    """Return a map as it was read; symbols are class positions + 1, 0 for silence."""
    said = Observations(
        source="map",
        support="cells",
        geobox=BOX,
        symbols=symbols.astype(np.uint8),
        crosswalk=Crosswalk(
            symbols=tuple(f"code {value}" for value in LEGEND.values),
            target=LEGEND,
            matrix=np.eye(K),
            confidence=np.full(K, 0.8),
        ),
        phenomenon_time=YEAR,
        provenance=provenance_of("map"),
    )
    window = window_of(BOX, LEGEND, interval=Interval.of_year(2021))
    return Reading(
        kind=MAPS, config=SimpleNamespace(name="map"), window=window,
        provenance=said.provenance, statements=said,
    )  # fmt: skip


def blobs(rng: np.random.Generator, values: int) -> np.ndarray:
    """Return patches of 0..values-1."""
    fields = [ndimage.gaussian_filter(rng.normal(size=(SIDE, SIDE)), 2) for _ in range(values)]
    return np.argmax(fields, axis=0)


def doubted(seed: int) -> tuple[Reading, Doubts]:
    rng = np.random.default_rng(seed)
    said = blobs(rng, K)
    symbols = np.where(rng.random((SIDE, SIDE)) < 0.05, 0, said + 1)
    proposed = (said + 1 + blobs(rng, K - 1)) % K
    return read(symbols), Doubts(
        correct=np.full((SIDE, SIDE), 0.1),
        proposed=proposed,
        probability=np.where(blobs(rng, 2) == 0, 0.9, 0.3),
        supported=blobs(rng, 3) > 0,
    )


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_pieces_are_the_cells_of_large_patches_and_nothing_else(seed: int) -> None:
    reading, doubts = doubted(seed)
    told = MAPS.receive(reading, findings_about(reading.says, doubts=doubts))
    edit = doubts.supported & (doubts.probability > 0.5) & (reading.says.symbols > 0)
    large = np.zeros_like(edit)
    for k in range(K):
        parts, _ = ndimage.label(edit & (doubts.proposed == k))
        size = np.bincount(parts.ravel())
        large |= (parts > 0) & (size[parts] >= MIN_PATCH_CELLS)
    owner = burn(told.support, BOX)
    np.testing.assert_array_equal(owner > 0, large)
    said = reading.says.said_class()
    for i in range(len(told)):
        here = owner == i + 1
        assert len(np.unique(said[here])) == 1
        assert told.proposed[i] == LEGEND.names[np.unique(doubts.proposed[here]).item()]
        assert told.current[i] == reading.says.words[here][0]
        assert shapely.area(told.support[i]) == here.sum() * 100
    assert set(told.fault.tolist()) <= {"patch"}
    assert set(told.fate.tolist()) <= {"modify"}
    after = MAPS.corrected(reading, findings_about(reading.says, doubts=doubts), told)
    wanted = np.where(large, doubts.proposed, said)
    np.testing.assert_array_equal(after.said_class(), wanted)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=8, deadline=None)
def test_patches_of_the_file_are_those_that_were_told(seed: int, tmp_path_factory) -> None:
    reading, doubts = doubted(seed)
    findings = findings_about(reading.says, doubts=doubts)
    told = MAPS.receive(reading, findings)
    folder: Path = tmp_path_factory.mktemp("map")
    given_ = MAPS.write(reading, findings, told, folder)
    table = gpd.read_parquet(folder / "patches.parquet")
    assert table["change_id"].tolist() == told.record.tolist()
    assert table["class_to"].tolist() == told.proposed.tolist()
    assert table["p_to"].tolist() == told.probability.round(4).tolist()
    assert given_.count == told.counts()
    with rasterio.open(folder / "corrected_map.tif") as one:
        codes = one.read(1)
    after = MAPS.corrected(reading, findings, told).said_class()
    np.testing.assert_array_equal(codes, np.array([*LEGEND.values, LEGEND.nodata])[after])


@given(st.integers(0, 10_000), st.sampled_from(["rejected", "accepted", "too_hard"]))
@settings(max_examples=12, deadline=None)
def test_a_patch_that_was_answered_is_not_told_again(seed: int, verdict: str) -> None:
    reading, doubts = doubted(seed)
    told = MAPS.receive(reading, findings_about(reading.says, doubts=doubts))
    said = reading.says.said_class()
    owner = burn(told.support, BOX)
    n = len(told)
    before = [LEGEND.names[said[owner == i + 1][0]] for i in range(n)]
    half = np.arange(n) % 2 == 0
    answers = Answered(
        source=np.full(n, "map"), proposal=told.record, record=told.record, fault=told.fault,
        current=np.array(before, str), proposed=told.proposed,
        verdict=np.where(half, verdict, ""), stated=np.full(n, ""), geometry=told.support,
    )  # fmt: skip
    findings = findings_about(reading.says, doubts=doubts, answers=(answers,))
    again = MAPS.receive(reading, findings)
    settled = np.isin(owner, 1 + np.flatnonzero(half)) & (verdict != "too_hard")
    asked = burn(again.support, BOX) > 0
    assert not (asked & settled).any()
    if verdict == "too_hard":
        assert again.record.tolist() == told.record.tolist()
    after = MAPS.corrected(reading, findings, again).said_class()
    kept = settled & (verdict == "accepted")
    np.testing.assert_array_equal(after[kept], doubts.proposed[kept])
    refused = settled & (verdict == "rejected")
    np.testing.assert_array_equal(after[refused], said[refused])
