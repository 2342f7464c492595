"""Tables are written the same way twice and read back as they were."""

from __future__ import annotations

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pyarrow.parquet as pq
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from odc.geo.geom import BoundingBox

from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io import vector

NOTES = {"licence": "CC0-1.0", "attribution": "nobody"}


def _table() -> gpd.GeoDataFrame:
    boxes = [shapely.box(400_000, 5_800_000, 400_010, 5_800_010), shapely.box(0, 0, 10, 10)]
    return gpd.GeoDataFrame(
        {"fid": ["a", "b"], "p": [0.25, float("nan")], "n": [1, 2]},
        geometry=boxes,
        crs="EPSG:32633",
    )


def test_parquet_is_1_1_and_repeatable(tmp_path: Path) -> None:
    first = vector.write_table(tmp_path / "a.parquet", _table(), **NOTES).read_bytes()
    second = vector.write_table(tmp_path / "a.parquet", _table(), **NOTES).read_bytes()
    assert first == second
    metadata = pq.read_schema(tmp_path / "a.parquet").metadata
    geo = json.loads(metadata[b"geo"])
    assert geo["version"] == "1.1.0"
    assert "covering" in geo["columns"]["geometry"]
    assert metadata[b"licence"] == b"CC0-1.0"
    assert vector.read_table(tmp_path / "a.parquet").crs == "EPSG:32633"


@pytest.mark.parametrize("rows", [2, 0])
def test_gpkg_is_repeatable(tmp_path: Path, rows: int) -> None:
    table = _table().iloc[:rows]
    first = vector.write_gpkg(tmp_path / "a.gpkg", table, layer="x", **NOTES).read_bytes()
    second = vector.write_gpkg(tmp_path / "a.gpkg", table, layer="x", **NOTES).read_bytes()
    assert first == second
    assert len(vector.read_table(tmp_path / "a.gpkg")) == rows


def test_geojson_is_rfc_7946(tmp_path: Path) -> None:
    path = vector.write_geojson(tmp_path / "a.geojson", _table(), **NOTES)
    document = json.loads(path.read_text())
    assert "crs" not in document
    assert document["licence"] == "CC0-1.0"
    ring = document["features"][0]["geometry"]["coordinates"][0]
    assert shapely.LinearRing(ring).is_ccw
    assert 13 < ring[0][0] < 14
    assert 52 < ring[0][1] < 53
    assert max(len(str(v).split(".")[1]) for point in ring for v in point) <= 7
    assert document["features"][1]["properties"]["p"] is None


def test_csv_keeps_text_and_finds_the_separator(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\ufeffid;x\n007;"1,50"\n', "utf-8")
    table = vector.read_table(path)
    assert table.to_dict("records") == [{"id": "007", "x": "1,50"}]


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("a.csv", b"", BadSourceError),
        ("a.csv", b"id,x\n1\n", BadSourceError),
        ("a.csv", b"id,id\n1,2\n", BadSourceError),
        ("a.csv", b"id,x\n\xff,2\n", SourceUnavailableError),
        ("a.parquet", b"PAR1", SourceUnavailableError),
        ("a.gpkg", b"nothing", SourceUnavailableError),
        ("a.xlsx", b"", SourceUnavailableError),
    ],
)
def test_broken_files_are_named(
    tmp_path: Path, name: str, content: bytes, error: type[Exception]
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match="a\\."):
        vector.read_table(tmp_path / name)


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        vector.read_table(tmp_path / "no.csv")


@given(st.text(max_size=8))
def test_guarded_text_is_no_formula(text: str) -> None:
    assert not vector.FORMULA.match(vector.guard(text))
    assert vector.guard(text).endswith(text)


def test_polygons_follow_cells() -> None:
    grid = GeoBox.from_bbox(BoundingBox(0, 0, 40, 20, crs="EPSG:32633"), resolution=10)
    labels = np.array([[1, 1, 0, 2], [0, 1, 0, 2]], np.int32)
    one, two = vector.polygons_of_labels(labels, grid)
    assert one.area == 300
    assert two.bounds == (30, 0, 40, 20)
    assert vector.polygons_of_labels(labels * 0, grid).shape == (0,)


def test_several_layers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.gpkg"
    table = _table().drop(columns="fid")
    table.to_file(path, layer="one")
    table.to_file(path, layer="two")
    with pytest.raises(BadSourceError, match=r"exactly one layer.*two"):
        vector.read_table(path)
