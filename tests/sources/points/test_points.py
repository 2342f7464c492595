"""Field points: meanings, refusals, and what goes back to the observers."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Legend
from glocal.core.placement import Places
from glocal.errors import (
    BadSourceError,
    ConfigError,
    GlocalError,
    GridMismatchError,
    LegendMismatchError,
)
from glocal.sources.field.write import Verdicts, encode_field
from glocal.sources.points.read import observe_points, read_anchors
from glocal.sources.points.words import meanings

NAMES = ["tree", "grass", "cropland", "built", "water"]
LEGEND = Legend(
    name="small",
    classes=tuple(
        ClassDef(value=10 * (i + 1), name=name, title=name.title(), color="00aa00")
        for i, name in enumerate(NAMES)
    ),
)
YEAR = Interval.of_year(2017)
HEADER = "id,x,y,class,confidence,second\n"


@pytest.fixture
def grid() -> GeoBox:
    return area_geobox((330_000, 5_814_360, 331_000, 5_815_360), "EPSG:32633", 10)


def _csv(folder: Path, body: str, header: str = HEADER) -> Path:
    path = folder / "points.csv"
    path.write_text(header + body, "utf-8")
    return path


def _observe(path: Path, grid: GeoBox, **more: object):
    given = {"source": "field", "root": "field", "columns": {}, "interval": YEAR}
    given["licence"] = "CC0-1.0"
    return observe_points(path, grid, LEGEND, **{**given, **more})


def _centre(grid: GeoBox) -> tuple[float, float]:
    x, y = grid.extent.centroid.coords[0]
    return Transformer.from_crs(str(grid.crs), "EPSG:4326", always_xy=True).transform(x, y)


BODY = (
    "1,330105,5814505,crop,high,\n"
    "2,330205,5814505,crop,low,grass\n"
    "3,330305,5814505,cloud,med,crop\n"
    "4,330405,5814505,Tree,med,cloud\n"
    "5,999999,5814505,tree,high,\n"
)


def test_doubt_becomes_a_soft_prior(tmp_path: Path, grid: GeoBox) -> None:
    seen = _observe(_csv(tmp_path, BODY), grid)
    assert seen.record.tolist() == ["1", "2", "4"]
    assert seen.crosswalk.symbols == ("Tree/med", "crop/high", "crop/low:grass")
    low = seen.crosswalk.matrix[2]
    np.testing.assert_allclose(low, [0.01, 0.36, 0.61, 0.01, 0.01])
    assert seen.crosswalk.matrix[1].argmax() == 2
    assert seen.support == "points"
    assert seen.provenance.used[0].startswith("points.csv sha256:")


def test_anchors_keep_non_response(tmp_path: Path, grid: GeoBox) -> None:
    anchors = read_anchors(_csv(tmp_path, BODY), grid, LEGEND, columns={}, licence="CC0-1.0")
    assert anchors.record.tolist() == ["1", "2", "3", "4"]
    assert anchors.answered.tolist() == [True, True, False, True]
    np.testing.assert_allclose(anchors.shares[1], [0, 0.35 / 0.95, 0.6 / 0.95, 0, 0])
    assert anchors.shares[0].tolist() == [0, 0, 1, 0, 0]


def test_anchor_weights(tmp_path: Path, grid: GeoBox) -> None:
    path = _csv(tmp_path, "a,330105,5814505,crop,4\n", "id,x,y,class,w\n")
    anchors = read_anchors(path, grid, LEGEND, columns={}, weight_column="w", licence="CC0-1.0")
    assert anchors.weight.tolist() == [4]


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        ("1,nan,5814505,crop,,\n", BadSourceError, "no finite coordinates"),
        ("1,,5814505,crop,,\n", BadSourceError, "no finite coordinates"),
        ("1,inf,5814505,crop,,\n", BadSourceError, "no finite coordinates"),
        ("1,330105;5,5814505,crop,,\n", BadSourceError, "decimal point"),
        ("1,330105,5814505,crop,,\n" * 2, BadSourceError, "repeat"),
        (",330105,5814505,crop,,\n", BadSourceError, "empty"),
        ("1,330105,5814505,zebra,,\n", LegendMismatchError, "zebra.*1 rows"),
        ("1,330105,5814505,crop,perhaps,\n", BadSourceError, "perhaps"),
        ("1,10,20,crop,,\n", GridMismatchError, "none of 1"),
        ("1,5814505,330105,crop,,\n", BadSourceError, "swapped"),
        ("1,330105,5814505,cloud,,\n", BadSourceError, "no point in the area has a class"),
        ("", BadSourceError, "no rows"),
    ],
)
def test_bad_rows_are_refused(
    tmp_path: Path, grid: GeoBox, body: str, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        _observe(_csv(tmp_path, body), grid)


def test_swapped_degrees_are_named(tmp_path: Path, grid: GeoBox) -> None:
    lon, lat = _centre(grid)
    right = _csv(tmp_path, f"1,{lon},{lat},crop\n", "id,lon,lat,class\n")
    assert len(_observe(right, grid)) == 1
    for swapped in (f"1,{lat},{lon},crop\n", f"1,{lat},122.5,crop\n"):
        with pytest.raises(BadSourceError, match="swapped"):
            _observe(_csv(tmp_path, swapped, "id,lon,lat,class\n"), grid)


@pytest.mark.parametrize("geo", ["place-", "_place_", "gps_"])
def test_degrees_of_forms_are_found(tmp_path: Path, grid: GeoBox, geo: str) -> None:
    lon, lat = _centre(grid)
    header = f"KEY,{geo}Latitude,{geo}Longitude,cover\n"
    path = _csv(tmp_path, f"uuid:1,{lat},{lon},forest\n", header)
    seen = _observe(path, grid, columns={"id": "KEY", "class": "cover"})
    assert seen.record.tolist() == ["uuid:1"]


def test_missing_columns_time_and_licence(tmp_path: Path, grid: GeoBox) -> None:
    path = _csv(tmp_path, "1,330105,5814505,crop\n", "nr,x,y,class\n")
    with pytest.raises(BadSourceError, match="no column found for \\['id'\\]"):
        _observe(path, grid)
    with pytest.raises(BadSourceError, match="no columns"):
        _observe(path, grid, columns={"id": "number"})
    with pytest.raises(ConfigError, match="columns knows"):
        _observe(path, grid, columns={"ident": "nr"})
    with pytest.raises(ConfigError, match="when was the ground"):
        _observe(path, grid, columns={"id": "nr"}, interval=None)
    with pytest.raises(ConfigError, match="licence"):
        _observe(path, grid, columns={"id": "nr"}, licence="")


def test_lucas_2018_is_recognised(tmp_path: Path) -> None:
    grid = area_geobox((500_000, 4_428_000, 501_000, 4_429_000), "EPSG:32630", 10)
    lon, lat = _centre(grid)
    header = "POINT_ID,TH_LAT,TH_LONG,CAR_EW,SURVEY_DATE,OBS_TYPE,LC1\n"
    body = f"1,{lat},{-lon},W,03/06/18,1,B11\n2,{lat},{-lon},W,05/06/18,3,C22\n"
    body += f"3,{lat},{-lon},W,05/06/18,4,8\n"
    seen = _observe(_csv(tmp_path, body, header), grid, interval=None)
    assert seen.crosswalk.symbols == ("B11/high", "C22/med")
    assert seen.crosswalk.matrix.argmax(axis=1).tolist() == [2, 0]
    assert seen.phenomenon_time.isoformat() == "2018-06-03T00:00:00Z/2018-06-06T00:00:00Z"


def test_lucas_harmonised_is_recognised(tmp_path: Path, grid: GeoBox) -> None:
    lon, lat = _centre(grid)
    header = "id,point_id,year,th_lat,th_long,survey_date,obs_type,lc1\n"
    body = f"7,1,2018,{lat},{lon},03/06/18,In situ < 100 m,E20\n"
    body += f"8,2,2018,{lat},{lon},2018-06-04,In situ PI,B55\n"
    seen = _observe(_csv(tmp_path, body, header), grid, interval=None)
    assert seen.record.tolist() == ["7", "8"]
    assert seen.crosswalk.symbols == ("B55/med", "E20/high")
    assert seen.crosswalk.matrix[0, 1] == pytest.approx(seen.crosswalk.matrix[0, 2])


@pytest.mark.parametrize("text", ["not built", "green urban area", "tree and grass", "savanna"])
def test_unclear_words_are_refused(text: str) -> None:
    with pytest.raises(LegendMismatchError, match="class_names"):
        meanings([text], LEGEND)


@pytest.mark.parametrize("suffix", [".geojson", ".gpkg", ".parquet"])
def test_layers_bring_their_own_crs(tmp_path: Path, grid: GeoBox, suffix: str) -> None:
    table = gpd.GeoDataFrame(
        {"id": [7], "class": ["water"]},
        geometry=gpd.points_from_xy([330105], [5814505]),
        crs="EPSG:32633",
    ).to_crs("EPSG:4326")
    path = tmp_path / f"points{suffix}"
    table.to_parquet(path) if suffix == ".parquet" else table.to_file(path)
    seen = _observe(path, grid)
    assert seen.record.tolist() == ["7"]
    assert abs(seen.geometry[0].x - 330105) < 0.01
    folder = tmp_path / "back"
    nowhere = np.full(1, np.nan)
    verdicts = Verdicts(
        p_correct=np.ones(1),
        flags=np.ones(1, np.uint8),
        suggested=np.array([""]),
        places=Places(dx=nowhere, dy=nowhere, sd=nowhere),
    )
    written = encode_field(None, seen, verdicts, path, {}, folder)
    assert all(one.exists() for one in written)


def test_polygons_are_no_points(tmp_path: Path, grid: GeoBox) -> None:
    table = gpd.GeoDataFrame(
        {"id": [7], "class": ["water"]},
        geometry=gpd.points_from_xy([330105], [5814505]).buffer(5),
        crs="EPSG:32633",
    )
    table.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(BadSourceError, match="needs points"):
        _observe(tmp_path / "p.parquet", grid)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("10", "tree"),
        ("Forest", "tree"),
        ("built-up", "built"),
        ("BUILT UP", "built"),
        ("Artificial land", "built"),
        ("arable land", "cropland"),
        ("A11", "built"),
        ("E20", "grass"),
        ("permanent water bodies", "water"),
    ],
)
def test_words_find_their_class(text: str, name: str) -> None:
    assert meanings([text], LEGEND) == {text: {name: 1.0}}


def test_given_names_win() -> None:
    assert meanings(["crop", "x"], LEGEND, {"crop": 10, "x": ""}) == {
        "crop": {"tree": 1.0},
        "x": {},
    }
    with pytest.raises(LegendMismatchError):
        meanings(["crop"], LEGEND, {"crop": "no such class"})


def test_class_that_the_legend_lacks(tmp_path: Path, grid: GeoBox) -> None:
    path = _csv(tmp_path, "1,330105,5814505,snow,high,\n2,330105,5814605,crop,,\n")
    seen = _observe(path, grid)
    assert seen.crosswalk.confidence.tolist() == [0.8, 0.0]
    with pytest.raises(LegendMismatchError, match="snow"):
        read_anchors(path, grid, LEGEND, columns={}, licence="CC0-1.0")


@given(st.text(max_size=12))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        shares = meanings([text], LEGEND)[text.strip()]
    except GlocalError:
        return
    assert not shares or abs(sum(shares.values()) - 1) < 1e-9


def _encoded(tmp_path: Path, grid: GeoBox, name: str) -> Path:
    path = _csv(
        tmp_path,
        BODY.replace("\n", ",=1+1,ann\n"),
        HEADER.replace("\n", ",note,SubmitterName\n"),
    )
    seen = _observe(path, grid, attribution="The field team")
    encode_field(
        None,
        seen,
        Verdicts(
            p_correct=np.array([0.99, 0.2, 0.6]),
            flags=np.array([1, 4, 3], np.uint8),
            suggested=np.array(["", "grass", "=cmd"]),
            places=Places(
                dx=np.array([np.nan, -8.0, np.nan]),
                dy=np.array([np.nan, 2.5, np.nan]),
                sd=np.array([np.nan, 4.0, np.nan]),
            ),
        ),
        path,
        {},
        tmp_path / name,
    )
    return tmp_path / name


def test_table_goes_back_with_flags(tmp_path: Path, grid: GeoBox) -> None:
    folder = _encoded(tmp_path, grid, "a")
    text = (folder / "points_checked.csv").read_text("utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["loop_flag"] for row in rows] == ["1", "4", "9", "3", "2"]
    assert [row["loop_class"] for row in rows] == ["", "grass", "", "'=cmd", ""]
    assert [row["loop_p"] for row in rows] == ["0.99", "0.2", "", "0.6", ""]
    assert [row["loop_dx_m"] for row in rows] == ["", "-8.0", "", "", ""]
    assert rows[0]["note"] == "'=1+1"
    assert gpd.read_file(folder / "points_checked.gpkg")["note"][0] == "=1+1"
    assert "SubmitterName" not in rows[0]
    package = json.loads((folder / "datapackage.json").read_text())
    resource = package["resources"][0]
    content = (folder / resource["path"]).read_bytes()
    assert resource["hash"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert package["licenses"] == [{"name": "CC0-1.0"}]
    assert resource["schema"]["primaryKey"] == ["id"]
    assert len(gpd.read_parquet(folder / "points_checked.parquet")) == 5


def test_files_are_repeatable(tmp_path: Path, grid: GeoBox) -> None:
    first, second = (_encoded(tmp_path, grid, name) for name in ("a", "b"))
    names = sorted(path.name for path in first.iterdir())
    assert len(names) == 5
    for name in names:
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_havel_points(shared: Path) -> None:
    path = shared / "havel-reference" / "points_open.csv"
    grid = area_geobox((330_000, 5_814_360, 345_360, 5_822_040), "EPSG:32633", 10)
    names = ["tree", "grass", "cropland", "built", "water", "wetland", "bare"]
    legend = Legend(
        name="seven",
        classes=tuple(
            ClassDef(value=i + 1, name=name, title=name, color="00aa00")
            for i, name in enumerate(names)
        ),
    )
    seen = observe_points(
        path,
        grid,
        legend,
        source="field",
        root="field",
        columns={},
        crs="EPSG:32633",
        interval=Interval.parse("2017-02-16"),
        licence="CC0-1.0",
    )
    anchors = read_anchors(path, grid, legend, columns={}, crs="EPSG:32633", licence="CC0-1.0")
    assert (len(seen), len(anchors), int(anchors.answered.sum())) == (169, 180, 169)
