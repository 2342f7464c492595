"""Any raster onto the grid; cloud-optimised output."""

from __future__ import annotations

from zipfile import ZipFile

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from rio_cogeo.cogeo import cog_validate

from glocal.core.grid import require_overlap
from glocal.core.legends import legend
from glocal.errors import GridMismatchError, SourceUnavailableError
from glocal.io.raster import cell_size_on, info, native_grid, read_on, write_cog, write_qml


def grid(height=60, width=80, resolution=10, crs="EPSG:32633", left=330000.0, top=5822040.0):
    box = (left, top - height * resolution, left + width * resolution, top)
    return GeoBox.from_bbox(box, crs, resolution=resolution)


def save(path, array, box, *, nodata=None, crs="same"):
    layers = array[None] if array.ndim == 2 else array
    profile = {
        "driver": "GTiff", "count": len(layers), "height": layers.shape[1],
        "width": layers.shape[2], "dtype": layers.dtype.name, "transform": box.transform,
        "crs": str(box.crs) if crs == "same" else crs, "nodata": nodata,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(layers)
    return path


@pytest.mark.parametrize("resampling", ["nearest", "mode", "bilinear"])
def test_same_grid_is_read_unchanged(tmp_path, resampling):
    box = grid()
    array = np.random.default_rng(0).integers(1, 9, box.shape).astype(np.uint8)
    values, valid = read_on(save(tmp_path / "a.tif", array, box), box, resampling=resampling)
    assert valid.all()
    np.testing.assert_array_equal(values, array)
    assert values.dtype == (np.float32 if resampling == "bilinear" else np.uint8)


@settings(max_examples=15, deadline=None)
@given(top=st.integers(0, 30), left=st.integers(0, 40), seed=st.integers(0, 99))
def test_reading_a_part_equals_the_part_of_the_whole(tmp_path_factory, top, left, seed):
    box = grid()
    array = np.random.default_rng(seed).integers(0, 255, box.shape).astype(np.uint8)
    path = save(tmp_path_factory.mktemp("part") / "a.tif", array, box, nodata=0)
    rows, columns = slice(top, top + 25), slice(left, left + 30)
    values, valid = read_on(path, box[rows, columns])
    np.testing.assert_array_equal(values, array[rows, columns])
    np.testing.assert_array_equal(valid, array[rows, columns] != 0)


def test_nodata_and_nan_never_leak_into_neighbours(tmp_path):
    coarse, fine = grid(6, 8, 60), grid(36, 48, 10)
    array = np.full(coarse.shape, 0.5, np.float32)
    array[2, 2], array[3, 5], array[0, 0] = np.nan, np.inf, -9999
    path = save(tmp_path / "a.tif", array, coarse, nodata=-9999)
    values, valid = read_on(path, fine, resampling="bilinear")
    assert not valid[15, 15]
    assert not valid[20, 33]
    assert not valid[2, 2]
    assert valid.mean() > 0.8
    np.testing.assert_allclose(values[valid], 0.5)


def test_outside_is_invalid(tmp_path):
    box = grid()
    path = save(tmp_path / "a.tif", np.ones(box.shape, np.uint8), box)
    _, valid = read_on(path, grid(left=330400.0))
    assert valid[:, :40].all()
    assert not valid[:, 40:].any()
    _, nothing = read_on(path, grid(left=400000.0))
    assert not nothing.any()


def test_coarser_grid_takes_the_mode(tmp_path):
    array = np.ones((60, 80), np.uint8)
    array[:, ::3] = 7
    values, _ = read_on(save(tmp_path / "a.tif", array, grid()), grid(6, 8, 100), resampling="mode")
    assert (values == 1).all()


def test_other_crs(tmp_path):
    degrees = GeoBox.from_bbox((12.3, 52.3, 12.7, 52.7), "EPSG:4326", resolution=0.001)
    columns = np.arange(degrees.shape[1]) // 10 % 2
    path = save(
        tmp_path / "a.tif", np.tile(columns, (degrees.shape[0], 1)).astype(np.uint8), degrees
    )
    values, valid = read_on(path, grid())
    assert valid.all()
    assert set(np.unique(values)) <= {0, 1}
    assert cell_size_on(degrees, grid()) == pytest.approx(8.7, abs=0.5)


def test_very_fine_source_is_averaged(tmp_path):
    fine = grid(600, 800, 0.5)
    array = np.indices(fine.shape).sum(axis=0) % 2
    values, valid = read_on(
        save(tmp_path / "a.tif", array.astype(np.float32), fine),
        grid(30, 40, 10),
        resampling="bilinear",
    )
    assert valid.all()
    np.testing.assert_allclose(values, 0.5, atol=0.05)


def test_missing_crs_says_what_to_set_and_can_be_overridden(tmp_path):
    box = grid()
    path = save(tmp_path / "a.tif", np.ones(box.shape, np.uint8), box, crs=None)
    with pytest.raises(GridMismatchError, match=r"a\.tif has no CRS.*set crs:"):
        read_on(path, box)
    values, valid = read_on(path, box, crs="EPSG:32633")
    assert valid.all()
    assert (values == 1).all()


def test_unnamed_datum_means_plain_degrees(tmp_path):
    wkt = (
        'GEOGCS["unknown",DATUM["Unknown based on Clarke 1866 ellipsoid",SPHEROID["Clarke 1866",'
        '6378206.4,294.978698213898]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]]'
    )
    world = GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", resolution=1)
    array = np.tile(np.arange(180, dtype=np.uint8)[:, None], (1, 360))
    path = save(tmp_path / "world.tif", array, world, crs=wkt)
    require_overlap("world", native_grid(path).extent, grid())
    values, valid = read_on(path, grid())
    assert valid.all()
    assert set(np.unique(values)) == {90 - 53}  # the row of 52..53 degrees north


def test_missing_truncated_and_foreign_files_are_named(tmp_path):
    box = grid(600, 800)
    with pytest.raises(SourceUnavailableError, match=r"gone\.tif does not exist"):
        read_on(tmp_path / "gone.tif", box)
    array = np.random.default_rng(0).integers(0, 255, box.shape).astype(np.uint8)
    path = save(tmp_path / "cut.tif", array, box)
    path.write_bytes(path.read_bytes()[:200_000])
    with pytest.raises(SourceUnavailableError, match=r"cut\.tif"):
        read_on(path, box)
    (tmp_path / "text.tif").write_text("not a raster")
    with pytest.raises(SourceUnavailableError, match=r"text\.tif"):
        info(tmp_path / "text.tif")


def test_truncated_jp2_is_refused(tmp_path):
    box = grid(300, 300)
    array = np.random.default_rng(0).integers(0, 9999, box.shape).astype(np.uint16)
    path = tmp_path / "T33UUU_20170216T102101_B02.jp2"
    profile = {"count": 1, "height": 300, "width": 300, "dtype": "uint16", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", driver="JP2OpenJPEG", transform=box.transform, **profile) as out:
        out.write(array, 1)
    assert read_on(path, box)[1].all()
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(SourceUnavailableError, match=r"B02\.jp2 is truncated"):
        read_on(path, box)


@pytest.mark.parametrize("shape", [(1, 1), (40, 90), (513, 700), (1100, 1300)])
def test_class_map_is_a_strict_cog_and_the_same_twice(tmp_path, shape):
    box = grid(*shape)
    array = np.random.default_rng(0).choice([0, 10, 40, 80], box.shape).astype(np.uint8)
    paths = [tmp_path / name / "lc.tif" for name in ("one", "two")]
    for path in paths:
        write_cog(
            path, array, box, nodata=0, band_names=["land cover"], colors=legend("worldcover"),
            copyright="© OpenStreetMap contributors", description="estimate",
        )  # fmt: skip
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert cog_validate(paths[0], strict=True) == (True, [], [])
    assert [one.name for one in paths[0].parent.iterdir()] == ["lc.tif"]
    with rasterio.open(paths[0]) as dataset:
        np.testing.assert_array_equal(dataset.read(1), array)
        assert dataset.colormap(1)[10] == (0, 100, 0, 255)
        assert dataset.descriptions == ("land cover",)
        assert dataset.tags()["TIFFTAG_COPYRIGHT"] == "© OpenStreetMap contributors"
        assert dataset.nodata == 0
        assert bool(dataset.overviews(1)) == (max(shape) > 512)


def test_overviews_of_classes_invent_no_class(tmp_path):
    box = grid(1024, 1024)
    array = np.random.default_rng(0).choice([10, 80], box.shape).astype(np.uint8)
    write_cog(tmp_path / "lc.tif", array, box, nodata=0)
    with rasterio.open(tmp_path / "lc.tif", overview_level=0) as dataset:
        assert set(np.unique(dataset.read(1))) == {10, 80}


def test_continuous_layers_keep_nan_and_band_names(tmp_path):
    box = grid(600, 600)
    array = np.random.default_rng(0).random((3, *box.shape)).astype(np.float32)
    array[:, :5] = np.nan
    path = tmp_path / "p.tif"
    write_cog(path, array, box, nodata=np.nan, band_names=["a", "b", "c"], categorical=False)
    assert cog_validate(path, strict=True)[0]
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), array)
        assert dataset.descriptions == ("a", "b", "c")


def test_wrong_shape_is_refused(tmp_path):
    with pytest.raises(ValueError, match="grid's shape"):
        write_cog(tmp_path / "a.tif", np.zeros((3, 3), np.uint8), grid())


def test_qml_lists_every_class(tmp_path):
    write_qml(tmp_path / "lc.qml", legend("worldcover"))
    text = (tmp_path / "lc.qml").read_text("utf-8")
    assert text.count("<paletteEntry") == 11
    assert 'value="10" color="#006400" label="Tree cover"' in text


def test_a_zip_with_one_raster_is_read(tmp_path):
    box = grid()
    path = save(tmp_path / "dem.tif", np.full(box.shape, 7, np.uint8), box)
    with ZipFile(tmp_path / "dem.zip", "w") as archive:
        archive.write(path, "dem.tif")
    assert (read_on(tmp_path / "dem.zip", box)[0] == 7).all()
    with ZipFile(tmp_path / "two.zip", "w") as archive:
        archive.write(path, "a.tif")
        archive.write(path, "b.tif")
    with pytest.raises(SourceUnavailableError, match="holds 2 files"):
        read_on(tmp_path / "two.zip", box)
    (tmp_path / "bad.zip").write_bytes(b"PK nothing")
    with pytest.raises(SourceUnavailableError, match="bad"):
        read_on(tmp_path / "bad.zip", box)
