"""Reading OpenStreetMap: tags, painting order, geometry, and files that are not right."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from xml.sax.saxutils import quoteattr

import geopandas as gpd
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rasterio.features import rasterize

from glocal.core import legends
from glocal.core.correction import Corrections
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.errors import BadSourceError, GridMismatchError, SourceUnavailableError
from glocal.sources.osm.read import observe_osm, with_edits
from tests.sources.osm.giving import found, told

LEGEND = legends.legend("worldcover")
YEAR = Interval.of_year(2021)
EXTRACT = "liechtenstein-20210504.osm.pbf"


def osm_xml(areas: list[dict], relations: str = "", head: str = "") -> str:
    """Return an OSM file; an area has corners (x0, y0, x1, y1) in 1e-3 degrees and tags."""
    nodes, ways = [], []
    for i, area in enumerate(areas, start=1):
        x0, y0, x1, y1 = area["box"]
        refs = []
        for k, (x, y) in enumerate(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), start=1):
            refs.append(10 * i + k)
            lon, lat = 9 + x / 1000, 47 + y / 1000
            nodes.append(f'<node id="{10 * i + k}" version="1" lat="{lat:.7f}" lon="{lon:.7f}"/>')
        refs.append(refs[0])
        inside = "".join(f'<nd ref="{ref}"/>' for ref in refs) + "".join(
            f"<tag k={quoteattr(k)} v={quoteattr(v)}/>" for k, v in area["tags"].items()
        )
        who = area.get("who", "")
        ways.append(
            f'<way id="{i}" version="{area.get("version", 3)}" '
            f'timestamp="2020-05-0{1 + i % 8}T00:00:00Z" {who}>{inside}</way>'
        )
    return f'<?xml version="1.0"?>{head}<osm version="0.6">{"".join(nodes + ways)}{relations}</osm>'


def grid(size: float = 10.0) -> GeoBox:
    return area_geobox((500_000, 5_205_000, 503_000, 5_208_000), "EPSG:32632", size)


def observe(path: Path, geobox: GeoBox | None = None, **options) -> Observations:
    return observe_osm(path, geobox or grid(), LEGEND, interval=YEAR, **options)


def written(folder: Path, text: str, name: str = "area.osm") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def spoken(observations: Observations) -> list[str]:
    return [observations.crosswalk.symbols[i - 1] for i in observations.symbols]


def test_reads_areas_with_version_and_time(tmp_path: Path) -> None:
    text = osm_xml([{"box": (1, 1, 5, 5), "tags": {"landuse": "meadow", "name": "Lou"}}])
    one = observe(written(tmp_path, text))
    assert one.record.tolist() == ["way/1@3"]
    assert spoken(one) == ["landuse=meadow"]
    assert one.columns["timestamp"][0] == np.datetime64("2020-05-02T00:00:00")
    assert one.columns["tags"][0] == {"landuse": "meadow", "name": "Lou"}
    assert one.crosswalk.matrix[0, LEGEND.index("grass")] == 1
    assert one.provenance.licences == {"ODbL-1.0"}
    # A rectangle of 4/1000 degrees at 47 degrees north.
    assert one.geometry[0].area == pytest.approx(445 * 304, rel=0.01)


def test_gzip_is_read_like_plain_xml(tmp_path: Path) -> None:
    text = osm_xml([{"box": (1, 1, 5, 5), "tags": {"natural": "water"}}])
    path = tmp_path / "area.osm.gz"
    path.write_bytes(gzip.compress(text.encode()))
    assert spoken(observe(path)) == ["natural=water"]


def test_uses_are_painted_below_cover_and_buildings_on_top(tmp_path: Path) -> None:
    text = osm_xml(
        [
            {"box": (3, 3, 4, 4), "tags": {"building": "yes"}},
            {"box": (2, 2, 6, 6), "tags": {"natural": "water"}},
            {"box": (1, 1, 9, 9), "tags": {"natural": "wood"}},
            {"box": (0, 0, 3, 3), "tags": {"landuse": "residential"}},
        ]
    )
    assert spoken(observe(written(tmp_path, text))) == [
        "landuse=residential",
        "natural=wood",
        "natural=water",
        "building=*",
    ]


SIDES = st.lists(st.integers(1, 15), min_size=2, max_size=8)


@given(sides=SIDES)
@settings(max_examples=15, deadline=None)
def test_smaller_covers_are_painted_later(sides: list[int], tmp_path_factory) -> None:
    areas = [
        {"box": (0, 0, side, side), "tags": {"landuse": ("meadow", "forest")[i % 2]}}
        for i, side in enumerate(sides)
    ]
    path = written(tmp_path_factory.mktemp("osm"), osm_xml(areas))
    sizes = shapely.area(observe(path).geometry)
    assert (np.diff(sizes) <= 1e-6).all()


def test_qualifier_gets_a_symbol_when_frequent_or_when_it_changes_the_class(
    tmp_path: Path,
) -> None:
    def areas(count: int, **tags: str) -> list[dict]:
        return [
            {"box": (i % 9, 1 + i // 9, i % 9 + 1, 2 + i // 9), "tags": tags} for i in range(count)
        ]

    many = areas(25, natural="wood", leaf_type="needleleaved")
    few = areas(3, natural="wood", leaf_type="mixed")
    swamp = areas(1, natural="wetland", wetland="swamp")
    one = observe(written(tmp_path, osm_xml(many + few + swamp)))
    assert set(spoken(one)) == {
        "natural=wood&leaf_type=needleleaved",
        "natural=wood",
        "natural=wetland&wetland=swamp",
    }


HOLED = """<relation id="7" version="2">
<member type="way" ref="1" role="outer"/><member type="way" ref="2" role="inner"/>
<tag k="type" v="multipolygon"/><tag k="landuse" v="forest"/></relation>"""
BROKEN = """<relation id="8" version="1"><member type="way" ref="99" role="outer"/>
<tag k="type" v="multipolygon"/><tag k="landuse" v="forest"/></relation>"""


def test_multipolygon_keeps_its_hole_and_a_broken_one_is_counted(tmp_path: Path) -> None:
    rings = [{"box": (1, 1, 9, 9), "tags": {}}, {"box": (3, 3, 5, 5), "tags": {}}]
    one = observe(written(tmp_path, osm_xml(rings, HOLED + BROKEN)))
    assert one.record.tolist() == ["relation/7@2"]
    assert shapely.get_num_interior_rings(one.geometry[0].geoms[0]) == 1
    assert "1 broken" in one.provenance.used[0]


def test_contributors_become_strata_and_nothing_else(tmp_path: Path) -> None:
    areas = [
        {
            "box": (i, 1, i + 1, 2),
            "tags": {"landuse": "meadow", "addr:street": "Home 1", "contact:email": "a@b"},
            "who": f'uid="{4242 + i % 3}" user="Some Body" changeset="987654"',
        }
        for i in range(12)
    ]
    path = written(tmp_path, osm_xml(areas))
    assert observe(path).stratum is None
    one = observe(path, salt=b"key")
    assert set(one.stratum.tolist()) <= set(range(1, 5))
    assert np.array_equal(one.stratum, observe(path, salt=b"key").stratum)
    people = dict(zip(one.record, one.stratum, strict=True))
    assert people["way/1@3"] == people["way/4@3"]
    text = str([column.tolist() for column in one.columns.values()]) + str(one.provenance)
    assert not any(word in text for word in ("4242", "Some Body", "987654", "Home", "a@b"))


def test_objects_are_kept_whole_when_they_touch_the_area(tmp_path: Path) -> None:
    areas = [
        {"box": (-20, 1, 5, 5), "tags": {"landuse": "meadow"}},
        {"box": (500, 1, 505, 5), "tags": {"landuse": "meadow"}},
    ]
    one = observe(written(tmp_path, osm_xml(areas)))
    assert one.record.tolist() == ["way/1@3"]
    assert one.geometry[0].bounds[0] < 499_000


@pytest.mark.parametrize(
    ("areas", "message"),
    [
        ([], "0 areas read"),
        ([{"box": (1, 1, 2, 2), "tags": {"landuse": "military"}}], "1 areas read, none"),
        ([{"box": (1, 1, 2, 2), "tags": {"natural": "coastline"}}], "none with a tag"),
    ],
)
def test_nothing_usable_is_refused_with_counts(tmp_path: Path, areas, message) -> None:
    with pytest.raises(BadSourceError, match=message):
        observe(written(tmp_path, osm_xml(areas)))


def test_another_place_is_refused(tmp_path: Path) -> None:
    text = osm_xml([{"box": (900, 1, 910, 5), "tags": {"landuse": "meadow"}}])
    with pytest.raises(GridMismatchError, match="does not overlap"):
        observe(written(tmp_path, text))


BOMB = '<!DOCTYPE osm [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>'
OUTSIDE = '<!DOCTYPE osm [<!ENTITY a SYSTEM "file:///etc/hostname">]>'


@pytest.mark.parametrize("head", [BOMB, OUTSIDE])
@pytest.mark.parametrize("name", ["area.osm", "change.osc"])
def test_xml_entities_are_refused(tmp_path: Path, head: str, name: str) -> None:
    text = osm_xml([{"box": (1, 1, 2, 2), "tags": {"landuse": "meadow"}}], head=head)
    if name.endswith("osc"):
        text = text.replace('<osm version="0.6">', '<osmChange version="0.6"><create>')
        text = text.replace("</osm>", "</create></osmChange>")
    text = text.replace('v="meadow"', 'v="&a;"')
    with pytest.raises(SourceUnavailableError, match="entities"):
        observe(written(tmp_path, text, name))


def test_missing_and_damaged_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceUnavailableError, match="check the path"):
        observe(tmp_path / "none.osm.pbf")
    with pytest.raises(SourceUnavailableError, match="can't be read"):
        observe(written(tmp_path, "no xml", "area.osm"))


def layer(folder: Path, **columns) -> Path:
    boxes = [
        shapely.box(500_100 + 100 * i, 5_206_000, 500_190 + 100 * i, 5_206_500) for i in range(4)
    ]
    table = {"osm_id": ["11", "11", "12", "13"], "fclass": ["forest", "forest", "park", "nature"]}
    frame = gpd.GeoDataFrame({**table, **columns}, geometry=boxes, crs="EPSG:32632")
    frame.to_crs("EPSG:4326").to_file(folder / "layer.gpkg", driver="GPKG")
    return folder / "layer.gpkg"


def test_geofabrik_layer_with_shared_ids(tmp_path: Path) -> None:
    one = observe(layer(tmp_path))
    assert sorted(spoken(one)) == ["fclass=forest", "fclass=forest", "fclass=park"]
    assert len(set(one.record.tolist())) == 3
    kind = dict(zip(one.columns["osm_id"].tolist(), one.columns["osm_type"].tolist(), strict=True))
    assert kind == {11: "relation", 12: "way"}
    assert not one.columns["has_metadata"].any()


def test_layer_without_classes_is_refused(tmp_path: Path) -> None:
    path = layer(tmp_path)
    gpd.read_file(path).drop(columns="fclass").to_file(path, driver="GPKG")
    with pytest.raises(BadSourceError, match="no column 'fclass'"):
        observe(path)


def corrections_of(one: Observations, proposed: dict[str, str]) -> Corrections:
    place = {record: i for i, record in enumerate(one.record.tolist())}
    rows = {place[record]: ("modify", name, 0.9) for record, name in proposed.items()}
    return told(one, found(one, rows))


@given(data=st.data())
@settings(max_examples=15, deadline=None)
def test_applying_twice_is_applying_once(data, tmp_path_factory) -> None:
    tags = [{"landuse": "farmland"}, {"natural": "scrub"}, {"landuse": "residential"}]
    areas = [{"box": (i, 1, i + 1, 2), "tags": one} for i, one in enumerate(tags)]
    before = observe(written(tmp_path_factory.mktemp("osm"), osm_xml(areas)))
    names = data.draw(st.lists(st.sampled_from(LEGEND.names), min_size=3, max_size=3))
    records = ["way/1@3", "way/2@3", "way/3@3"]
    wish = corrections_of(before, dict(zip(records, names, strict=True)))
    once = with_edits(before, wish)
    twice = with_edits(once, wish)
    assert spoken(once) == spoken(twice)
    assert once.columns["tags"].tolist() == twice.columns["tags"].tolist()
    assert once.crosswalk.symbols == twice.crosswalk.symbols
    assert "landuse=residential" in spoken(once)


def test_applied_correction_means_the_proposed_class(tmp_path: Path) -> None:
    text = osm_xml([{"box": (1, 1, 2, 2), "tags": {"landuse": "farmland", "crop": "wheat"}}])
    before = observe(written(tmp_path, text))
    after = with_edits(before, corrections_of(before, {"way/1@3": "tree"}))
    assert spoken(after) == ["natural=wood"]
    assert after.columns["tags"][0] == {"natural": "wood"}
    row = after.crosswalk.matrix[after.symbols[0] - 1]
    assert LEGEND.names[int(row.argmax())] == "tree"
    assert after.crosswalk.symbols[: len(before.crosswalk.symbols)] == before.crosswalk.symbols


def test_real_extract_reads_and_rasterises(shared: Path) -> None:
    geobox = area_geobox((535_000, 5_214_000, 545_000, 5_236_000), "EPSG:32632", 50)
    one = observe(shared / "osm" / EXTRACT, geobox)
    assert len(one) > 10_000
    assert (one.columns["version"] > 0).all()
    numbers = enumerate(one.geometry, start=1)
    painted = rasterize(
        [(shape, i) for i, shape in numbers],
        out_shape=geobox.shape,
        transform=geobox.transform,
        dtype="int32",
    )
    assert 0.3 < (painted > 0).mean() < 0.9
    again = observe(shared / "osm" / EXTRACT, geobox)
    assert np.array_equal(one.record, again.record)
    assert np.array_equal(one.symbols, again.symbols)


@pytest.mark.parametrize("share", [0.2, 0.9])
def test_truncated_pbf_is_refused(shared: Path, tmp_path: Path, share: float) -> None:
    content = (shared / "osm" / EXTRACT).read_bytes()
    path = tmp_path / "cut.osm.pbf"
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(SourceUnavailableError, match=r"cut\.osm\.pbf"):
        observe(path)


def test_replaced_symbols_leave_the_original_untouched(tmp_path: Path) -> None:
    text = osm_xml([{"box": (1, 1, 2, 2), "tags": {"natural": "scrub"}}])
    before = observe(written(tmp_path, text))
    kept = replace(before)
    with_edits(before, corrections_of(before, {"way/1@3": "water"}))
    assert spoken(before) == spoken(kept) == ["natural=scrub"]
