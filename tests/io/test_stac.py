"""Items validate offline against the core schema, and against extension schemas where present."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import shapely
from odc.geo.geobox import GeoBox

from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Legend
from glocal.core.provenance import Provenance
from glocal.errors import RunError
from glocal.io.prov import prov_document
from glocal.io.stac import Asset, class_band, geographic_outline, round_item
from tests.catalogue import stac_errors

LEGEND = Legend(
    name="small",
    classes=(ClassDef(value=10, name="tree", title="Tree", color="00aa00"),),
)


@pytest.fixture
def grid() -> GeoBox:
    return area_geobox((330_000, 5_814_360, 345_360, 5_822_040), "EPSG:32633", 10)


@pytest.fixture
def item(tmp_path: Path, grid: GeoBox) -> dict[str, Any]:
    scene = Provenance(
        activity="read",
        agent="ESA",
        licences={"Copernicus"},
        roots={"S2A_20170216"},
        attribution=("Contains modified Copernicus Sentinel data 2017",),
    )
    (tmp_path / "rounds").mkdir()
    (tmp_path / "rounds" / "estimate.tif").write_bytes(b"map")
    (tmp_path / "report.html").write_bytes(b"page")
    return round_item(
        area="havel",
        round=1,
        geobox=grid,
        interval=Interval.parse("2017"),
        legend=LEGEND,
        provenance=Provenance.derive("fuse", [scene]),
        assets={
            "map": Asset(
                path=tmp_path / "rounds" / "estimate.tif",
                title="Classes",
                bands=(class_band("class", LEGEND),),
                geobox=grid,
            ),
            "report": Asset(path=tmp_path / "report.html", title="Report", roles=("overview",)),
        },
        folder=tmp_path / "rounds",
        licence="ODbL-1.0",
        software={"glocal": "0.1.0"},
        derived_from=["https://example.org/scene"],
        previous="../0/item.json",
        prov="./prov.json",
    )


def test_item_is_valid(item: dict[str, Any]) -> None:
    assert stac_errors(item) == []
    assert pystac.Item.from_dict(copy.deepcopy(item)).id == "havel-r1"


def test_item_is_valid_with_extensions(item: dict[str, Any], shared: Path) -> None:
    assert stac_errors(item, shared / "schemas" / "stac") == []


@pytest.mark.parametrize("break_it", ["datetime", "bbox", "links"])
def test_the_validator_can_fail(item: dict[str, Any], break_it: str) -> None:
    item["properties"].pop(break_it, None)
    item.pop(break_it, None)
    assert stac_errors(item)


def test_item_names_files_relative_to_itself(item: dict[str, Any], tmp_path: Path) -> None:
    assert item["assets"]["map"]["href"] == "./estimate.tif"
    assert item["assets"]["report"]["href"] == "../report.html"
    assert item["assets"]["map"]["file:checksum"].startswith("1220")
    assert item["properties"]["end_datetime"] == "2018-01-01T00:00:00Z"
    assert {"derived_from", "license", "via", "predecessor-version"} == {
        one["rel"] for one in item["links"]
    }
    assert str(tmp_path) not in json.dumps(item)


def test_crs_without_a_code(tmp_path: Path) -> None:
    grid = area_geobox((0, 0, 100, 100), "+proj=laea +lat_0=50 +lon_0=10 +type=crs", 10)
    item = round_item(
        area="a",
        round=0,
        geobox=grid,
        interval=Interval.of_year(2017),
        legend=LEGEND,
        provenance=Provenance(activity="x", agent="y"),
        assets={},
        folder=tmp_path,
        licence="ODbL-1.0",
        software={},
    )
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"].startswith("PROJCRS")
    assert stac_errors(item) == []


def test_missing_assets_are_refused(tmp_path: Path, grid: GeoBox) -> None:
    with pytest.raises(RunError, match=r"no\.tif"):
        round_item(
            area="a",
            round=0,
            geobox=grid,
            interval=Interval.of_year(2017),
            legend=LEGEND,
            provenance=Provenance(activity="x", agent="y"),
            assets={"map": Asset(path=tmp_path / "no.tif", title="x")},
            folder=tmp_path,
            licence="ODbL-1.0",
            software={},
        )


def test_outline_is_counter_clockwise_and_holds_the_grid(grid: GeoBox) -> None:
    geometry, box = geographic_outline(grid)
    outline = shapely.geometry.shape(geometry)
    assert shapely.is_ccw(outline.exterior)
    assert outline.is_valid
    np.testing.assert_allclose(outline.bounds, box)
    assert 12 < box[0] < box[2] < 13


def test_prov_links_outputs_to_inputs() -> None:
    one = Provenance(activity="read", agent="A & B", licences={"CC0-1.0"}, roots={"r"})
    two = Provenance(activity="read", agent="OSM", licences={"ODbL-1.0"}, roots={"o"})
    made = Provenance.derive("fuse", [one, two])
    document = prov_document(
        {"map-r2": made},
        {"scene": one, "osm file": two},
        activity="fuse-round-2",
        software={"glocal": "0.1.0"},
        previous="map-r1",
    )
    assert {row["prov:usedEntity"] for row in document["wasDerivedFrom"].values()} == {
        "gl:scene",
        "gl:osm%20file",
        "gl:map-r1",
    }
    names = set(document["entity"]) | set(document["activity"]) | set(document["agent"])
    for kind in (
        "used",
        "wasGeneratedBy",
        "wasDerivedFrom",
        "wasAssociatedWith",
        "wasAttributedTo",
    ):
        for row in document[kind].values():
            assert set(row.values()) <= names
    assert document["entity"]["gl:map-r2"]["gl:licence"] == ["CC0-1.0", "ODbL-1.0"]
    assert json.loads(json.dumps(document)) == document
