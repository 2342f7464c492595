import json

import numpy as np
import pytest
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from glocal.errors import (
    BadSourceError,
    GridMismatchError,
    MissingExtraError,
    RunError,
    SourceUnavailableError,
    UnitError,
)
from glocal.io.raster import write_cog
from glocal.train.data import finding_zarr
from glocal.train.data.captures import chip_on, gsd_m
from glocal.train.data.finding import captures
from glocal.train.data.folders import grid_of, open_pool, pack, pair, windows
from glocal.train.data.pool import Pool
from glocal.train.data.shards import read_shard

SIDE = 16
GRID = GeoBox.from_bbox((500_000, 5_600_000, 500_640, 5_600_640), "EPSG:32631", resolution=10)


def optical(path, grid=GRID, *, seed=0, level=3000, hole=False, **options):
    """Write 12 bands of whole numbers."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(1, level, (12, *grid.shape)).astype(np.uint16)
    if hole:
        numbers[:, : SIDE * 2] = 0
    write_cog(path, numbers, grid, categorical=False, **options)
    return numbers


def radar(path, grid=GRID, *, seed=1, power=False):
    rng = np.random.default_rng(seed)
    db = rng.uniform(-25, 0, (2, *grid.shape)).astype(np.float32)
    write_cog(path, 10 ** (db / 10) if power else db, grid, categorical=False)
    return db


def heights(path, grid=GRID, corner=(500_000, 5_600_000)):
    """Write a slope: a function of place, so that any grid must find it again."""
    x, y = np.meshgrid(*(np.asarray(grid.coords[k].values) for k in ("x", "y")))
    slope = ((x - corner[0]) / 100 + (y - corner[1]) / 50).astype(np.float32)
    write_cog(path, slope[None], grid, categorical=False)
    return slope


def settings(folder, text):
    (folder / "pool.toml").write_text(text, encoding="utf-8")


def one(folder):
    found = list(captures(folder))
    assert len(found) == 1
    return found[0]


def test_names_tell_sensor_bands_date_and_units(tmp_path):
    numbers = optical(tmp_path / "s2_20200517.tif")
    capture = one(tmp_path)
    chip = chip_on(capture, GRID)
    assert capture.sensor == "s2"
    assert capture.day == 138
    assert "B10" not in chip.band_names
    assert len(chip.band_names) == 12
    assert np.allclose(chip.values, numbers * 1e-4, atol=1e-6)
    assert chip.valid.all()
    assert capture.licence == "not stated"


def test_pool_toml_tells_what_names_do_not(tmp_path):
    folder = tmp_path / "any"
    folder.mkdir()
    numbers = np.random.default_rng(0).integers(1200, 4000, (3, *GRID.shape)).astype(np.uint16)
    write_cog(folder / "scene.tif", numbers, GRID, categorical=False)
    write_cog(folder / "labels.tif", numbers[:1], GRID)
    settings(
        tmp_path,
        'origin = "survey"\nlicence = "MIT"\n'
        '[[files]]\nmatch = "*/labels*"\nsensor = ""\n'
        '[[files]]\nmatch = "any/*.tif"\nsensor = "s2"\nbands = ["nir", "", "B02"]\n'
        'scale = 0.0001\noffset = -0.1\nnodata = 2000\ndate = "2021-01-05"\n',
    )
    capture = one(tmp_path)
    chip = chip_on(capture, GRID)
    assert (capture.origin, capture.licence, capture.day) == ("survey", "MIT", 5)
    assert chip.band_names == ("B08", "B02")
    assert (chip.valid == (numbers[[0, 2]] != 2000)).all()
    truth = numbers[[0, 2]] * 1e-4 - 0.1
    assert np.allclose(chip.values[chip.valid], truth[chip.valid], atol=1e-6)


def test_linear_power_becomes_decibels(tmp_path):
    db = radar(tmp_path / "s1.tif", power=True)
    settings(tmp_path, '[[files]]\nmatch = "*"\nsensor = "sar"\npower = true\n')
    chip = chip_on(one(tmp_path), GRID)
    assert np.allclose(chip.values, db, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "text", "error", "words"),
    [
        ("scene.tif", "", BadSourceError, "pool.toml"),
        ("s2_and_dsm.tif", "", BadSourceError, "only one"),
        ("rgb.tif", "", BadSourceError, "12 layers fit no level"),
        ("s2.tif", '[[files]]\nmatch = "*"\nband = "B02"\n', BadSourceError, "band"),
        ("s2.tif", "[[files]]\nsensor = 's2'\n", BadSourceError, "match"),
        ("s2.tif", "origin =", SourceUnavailableError, "pool.toml"),
        ("s2.tif", '[[files]]\nmatch = "*"\nsensor = "l9"\n', BadSourceError, "l9"),
        ("s2.tif", '[[files]]\nmatch = "*"\nbands = ["B02"]\n', BadSourceError, "12 layers"),
        ("sar.tif", "", BadSourceError, "fit no level"),
    ],
)
def test_what_is_not_told_is_refused(tmp_path, name, text, error, words):
    optical(tmp_path / name)
    if text:
        settings(tmp_path, text)
    with pytest.raises(error, match=words):
        list(captures(tmp_path))


def test_a_raster_without_a_place_or_cut_off_is_refused(tmp_path):
    optical(tmp_path / "s2.tif")
    content = (tmp_path / "s2.tif").read_bytes()
    (tmp_path / "s2.tif").write_bytes(content[:100])
    with pytest.raises(SourceUnavailableError, match="truncated"):
        list(captures(tmp_path))
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        list(captures(tmp_path / "nowhere"))


def test_wrong_units_are_refused_when_read(tmp_path):
    optical(tmp_path / "s2.tif", level=60_000)
    with pytest.raises(UnitError, match=r"s2\.tif.*pool\.toml"):
        chip_on(one(tmp_path), GRID)


def stac(folder, assets, **properties):
    item = {
        "type": "Feature",
        "stac_version": "1.1.0",
        "id": "thing",
        "properties": {"datetime": "2020-05-17T10:00:00Z", "license": "CC-BY-4.0", **properties},
        "assets": assets,
    }
    (folder / "item.json").write_text(json.dumps(item), encoding="utf-8")


def test_a_stac_item_is_one_capture_on_its_finest_grid(tmp_path):
    files = {"blue": (GRID, 1), "B11": (GRID.zoom_out(2), 2)}
    rng = np.random.default_rng(0)
    stored = {}
    for key, (grid, _) in files.items():
        stored[key] = rng.integers(1001, 4000, (1, *grid.shape)).astype(np.uint16)
        write_cog(tmp_path / f"{key}.tif", stored[key], grid, categorical=False)
    tail = {"type": "image/tiff; application=geotiff", "roles": ["data"]}
    scaled = [{"scale": 0.0001, "offset": -0.1, "nodata": 0}]
    stac(
        tmp_path,
        {
            "blue": {"href": "./blue.tif", **tail, "raster:bands": scaled},
            "x": {"href": "B11.tif", **tail, "bands": [{"name": "B11", **scaled[0]}]},
            "thumbnail": {"href": "none.tif", "roles": ["thumbnail"]},
            "info": {"href": "info.xml", "type": "text/xml"},
        },
        constellation="sentinel-2",
    )
    capture = one(tmp_path)
    chip = chip_on(capture, capture.grid)
    assert capture.grid == GRID
    assert (capture.sensor, capture.day, capture.licence) == ("s2", 138, "CC-BY-4.0")
    assert set(chip.band_names) == {"B02", "B11"}
    assert np.allclose(chip.band("blue"), stored["blue"][0] * 1e-4 - 0.1, atol=1e-6)


@pytest.mark.parametrize(
    ("asset", "mission", "words"),
    [
        ({"href": "https://example.org/B02.tif"}, "sentinel-2", "download"),
        ({"href": "B02.tif"}, "unheard-of", "not told"),
    ],
)
def test_stac_items_that_do_not_say_enough_are_refused(tmp_path, asset, mission, words):
    stac(tmp_path, {"B02": asset}, platform=mission)
    with pytest.raises(BadSourceError, match=words):
        list(captures(tmp_path))


@pytest.mark.parametrize("version", [2, 3])
def test_zarr_stores_are_read_in_both_versions(tmp_path, version):
    zarr = pytest.importorskip("zarr")
    rng = np.random.default_rng(0)
    cube = rng.integers(1, 3000, (2, 3, 32, 48)).astype(np.uint16)
    group = zarr.open_group(tmp_path / "cube.zarr", mode="w", zarr_format=version)
    group.attrs.update(
        {"proj:code": "EPSG:32631", "spatial:transform": [10, 0, 5e5, 0, -10, 5.6e6]}
    )
    group.create_array("s2", data=cube)
    group.create_array("dsm", data=np.full((32, 48), 7, np.float32))
    group.create_array("time", data=np.array([18_000, 18_010])).attrs["units"] = (
        "days since 1970-01-01"
    )
    group.create_array("x", data=500_005 + 10.0 * np.arange(48))
    settings(tmp_path, 'licence = "MIT"\n')
    with pytest.raises(BadSourceError, match="3 layers"):
        list(captures(tmp_path))
    named = rng.integers(1, 3000, (2, 12, 32, 48)).astype(np.uint16)
    group.create_array("s2", data=named, overwrite=True)
    found = list(captures(tmp_path))
    assert [o.sensor for o in found] == ["dsm", "s2", "s2"]
    assert [o.interval.isoformat()[:10] for o in found[1:]] == ["2019-04-14", "2019-04-24"]
    assert {o.licence for o in found} == {"MIT"}
    part = found[2].grid[8:24, 16:32]
    assert np.allclose(chip_on(found[2], part).values, named[1, :, 8:24, 16:32] * 1e-4, atol=1e-6)
    del group.attrs["spatial:transform"]
    with pytest.raises(GridMismatchError, match="proj:code"):
        list(captures(tmp_path))


def dated(folder, sensor, date, **options):
    (folder / sensor).mkdir(exist_ok=True)
    path = folder / sensor / f"{sensor}_{date}.tif"
    {"s2": optical, "sar": radar, "dsm": heights}[sensor](path, **options)


def names(pairs):
    return {tuple(o.name.split("/")[-1].removesuffix(".tif") for o in group) for group in pairs}


def test_captures_are_paired_by_place_and_date(tmp_path):
    elsewhere = GRID.translate_pix(1000, 0)
    dated(tmp_path, "s2", "20200501")
    dated(tmp_path, "s2", "20200601")
    dated(tmp_path, "sar", "20200503")
    dated(tmp_path, "sar", "20200430")
    dated(tmp_path, "sar", "20200602", grid=elsewhere)
    dated(tmp_path, "dsm", "once")
    found = list(captures(tmp_path))
    assert names(pair(found, max_days=3, side=SIDE)) == {
        ("s2_20200501", "sar_20200430", "dsm_once"),
        ("s2_20200601", "dsm_once"),
        ("sar_20200503", "dsm_once"),
        ("sar_20200602",),
    }
    assert names(pair(found, max_days=0, side=SIDE)) == {
        ("s2_20200501", "sar_20200430", "dsm_once"),  # the next day begins where one ends
        ("s2_20200601", "dsm_once"),
        ("sar_20200503", "dsm_once"),
        ("sar_20200602",),
    }


def test_undated_images_and_much_coarser_ones_pair_with_nothing(tmp_path):
    dated(tmp_path, "s2", "20200501")
    dated(tmp_path, "sar", "undated")
    dated(tmp_path, "dsm", "coarse", grid=GRID.zoom_out(8))
    found = list(captures(tmp_path))
    assert names(pair(found, side=SIDE)) == {("s2_20200501",), ("sar_undated",), ("dsm_coarse",)}


def test_a_pair_of_two_crs_meets_on_one_grid(tmp_path):
    other = GRID.to_crs("EPSG:32632").zoom_to(resolution=20).pad(4)
    dated(tmp_path, "s2", "20200501")
    box = other.extent.boundingbox
    heights(tmp_path / "dsm.tif", other, corner=box[:2])
    (group,) = pair(list(captures(tmp_path)), side=SIDE)
    assert grid_of(group) == GRID
    found = chip_on(group[1], GRID)
    assert found.valid.all()
    x, y = np.meshgrid(*(np.asarray(GRID.coords[k].values) for k in ("x", "y")))
    to = Transformer.from_crs("EPSG:32631", "EPSG:32632", always_xy=True)
    there_x, there_y = to.transform(x, y)
    truth = (there_x - box.left) / 100 + (there_y - box.bottom) / 50
    assert np.abs(found.values[0] - truth).max() < 0.05


def test_degrees_become_metres_and_ground_size_is_true(tmp_path):
    grid = GeoBox.from_bbox((3.0, 50.5, 3.05, 50.53), "EPSG:4326", resolution=0.0005)
    write_cog(tmp_path / "dsm.tif", np.ones((1, *grid.shape), np.float32), grid)
    (group,) = pair(list(captures(tmp_path)), side=SIDE)
    metres = grid_of(group)
    assert metres.crs.projected
    # an arc of 0.0005 degrees: 55.6 m north, 35.4 m east at this latitude
    assert gsd_m(grid) == pytest.approx(np.sqrt(55.62 * 35.46), rel=0.003)
    assert gsd_m(metres) == pytest.approx(gsd_m(grid), rel=0.002)
    assert gsd_m(GRID) == pytest.approx(10, rel=0.002)
    mercator = GRID.to_crs("EPSG:3857").zoom_to(resolution=10)
    assert gsd_m(mercator) == pytest.approx(10 * np.cos(np.radians(50.55)), rel=0.005)


def test_windows_keep_the_sensors_that_cover_them_and_count_the_empty(tmp_path):
    dated(tmp_path, "s2", "20200501", hole=True)
    half = GRID[:, : GRID.shape[1] // 2]
    dated(tmp_path, "sar", "20200502", grid=half)
    summary = pack([tmp_path], tmp_path.parent / f"{tmp_path.name}-out", side=SIDE)
    # 4 x 4 windows: the upper 2 rows lack s2, the right 2 columns lack sar
    assert summary.windows == {("s2", "sar"): 4, ("s2",): 4, ("sar",): 4}
    assert summary.dropped == 4
    assert not summary.too_small
    pool = Pool(summary.paths)
    assert pool.groups == summary.windows
    drawn = pool.draw(("s2", "sar"), 2, np.random.default_rng(0))
    assert drawn["day"]["s2"].tolist() == [122, 122]
    assert drawn["day"]["sar"].tolist() == [123, 123]


def test_packing_keeps_values_and_is_repeatable(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    numbers = optical(data / "s2_20200501.tif")
    first = pack([data], tmp_path / "a", side=SIDE)
    second = pack([data], tmp_path / "b", side=SIDE)
    assert [p.read_bytes() for p in first.paths] == [p.read_bytes() for p in second.paths]
    arrays = read_shard(first.paths[0]).batch(range(16))["arrays"]["s2"]
    kept = [i for i in range(13) if i != 10]
    assert np.isnan(arrays[:, 10]).all()
    rows = arrays[:, kept].reshape(4, 4, 12, SIDE, SIDE).transpose(2, 0, 3, 1, 4)
    assert np.allclose(rows.reshape(12, 64, 64), numbers * 1e-4, atol=1e-6)


def test_shards_are_repacked_and_opened_as_they_are(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    optical(data / "s2_20200501.tif")
    settings(data, 'origin = "mine"\nlicence = "MIT"\n')
    summary = pack([data], tmp_path / "a", side=SIDE)
    again = pack([tmp_path / "a"], tmp_path / "b", side=SIDE)
    assert [p.read_bytes() for p in summary.paths] == [p.read_bytes() for p in again.paths]
    assert again.licences == {"mine": "MIT"}
    direct = open_pool([tmp_path / "a"], tmp_path / "unused")
    packed = open_pool([data], tmp_path / "cache", side=SIDE)
    assert not (tmp_path / "unused").exists()
    assert direct.groups == packed.groups == {("s2",): 16}
    with pytest.raises(BadSourceError, match="side than 32"):
        pack([tmp_path / "a"], tmp_path / "c", side=32)


def test_packing_refuses_a_full_folder_empty_data_and_two_licences(tmp_path):
    data, small = tmp_path / "data", tmp_path / "small"
    data.mkdir()
    small.mkdir()
    optical(data / "s2_20200501.tif")
    optical(small / "s2.tif", GRID[:8, :8])
    with pytest.raises(RunError, match="not empty"):
        pack([data], data)
    with pytest.raises(BadSourceError, match="1 captures were too small"):
        pack([small], tmp_path / "x", side=SIDE)
    assert not (tmp_path / "x").exists()
    settings(data, 'origin = "o"\nlicence = "MIT"\n')
    other = tmp_path / "other"
    other.mkdir()
    optical(other / "s2_20200501.tif")
    settings(other, 'origin = "o"\nlicence = "ODbL-1.0"\n')
    with pytest.raises(BadSourceError, match="ODbL"):
        pack([data, other], tmp_path / "y", side=SIDE)


def test_windows_are_read_tile_by_tile(tmp_path, monkeypatch):
    optical(tmp_path / "s2.tif")
    monkeypatch.setattr("glocal.train.data.folders.TILE", 2)
    seen = []
    real = chip_on

    def watched(capture, grid):
        seen.append(tuple(grid.shape))
        return real(capture, grid)

    monkeypatch.setattr("glocal.train.data.folders.chip_on", watched)
    (group,) = pair(list(captures(tmp_path)), side=SIDE)
    stream = windows(group, side=SIDE)
    next(stream)
    assert seen == [(32, 32)]
    assert len(list(stream)) == 15
    assert seen == [(32, 32)] * 4


def test_without_zarr_a_store_is_refused_with_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "cube.zarr").mkdir()
    (tmp_path / "cube.zarr" / "zarr.json").write_text("{}")
    monkeypatch.setattr(finding_zarr, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"zarr.*pip install -e '\.\[zarr\]'"):
        list(captures(tmp_path))
