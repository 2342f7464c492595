"""Images in all layouts, and all the ways in which their units can be wrong."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.errors import (
    BadSourceError,
    ConfigError,
    GridMismatchError,
    SourceUnavailableError,
    UnitError,
)
from glocal.io.raster import native_grid
from glocal.sources.chips.read import read_image, read_scl
from glocal.sources.chips.sentinel2 import open_product

DAY = Interval.parse("2019-07-01")


def grid(height=60, width=80, resolution=10, left=330000.0, top=5822040.0):
    box = (left, top - height * resolution, left + width * resolution, top)
    return GeoBox.from_bbox(box, "EPSG:32633", resolution=resolution)


AREA = grid()


def save(path, layers, box=AREA, *, crs="EPSG:32633", names=(), nodata=None):
    layers = np.asarray(layers)
    layers = layers[None] if layers.ndim == 2 else layers
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(layers), height=layers.shape[1], crs=crs,
        width=layers.shape[2], dtype=layers.dtype.name, transform=box.transform, nodata=nodata,
    ) as dataset:  # fmt: skip
        dataset.write(layers)
        for i, name in enumerate(names, 1):
            dataset.set_band_description(i, name)
    return path


def reflectance(shape=AREA.shape, low=0.02, high=0.4, seed=0):
    return np.random.default_rng(seed).uniform(low, high, shape)


def folder(tmp_path, *, lift=0, scale=10000, name="T33UUU_20170216T102101", dtype=np.uint16):
    """Return a folder of band files; B11 at 20 m, B10 makes it Level-1C."""
    for i, band in enumerate(("B02", "B03", "B04", "B08")):
        stored = (reflectance(seed=i) * scale + lift).astype(dtype)
        save(tmp_path / f"{name}_{band}.tif", stored)
    coarse = grid(30, 40, 20)
    save(tmp_path / f"{name}_B11.tif", (reflectance((30, 40)) * scale + lift).astype(dtype), coarse)
    return tmp_path


def test_folder_of_bands(tmp_path):
    chip = read_image(folder(tmp_path), "sentinel2", AREA)
    assert chip.band_names == ("B02", "B03", "B04", "B08", "B11")
    assert chip.provenance.roots == {"S2:T33UUU_20170216T102101"}
    assert chip.provenance.licences == {"Copernicus"}
    assert chip.provenance.attribution == ("Contains modified Copernicus Sentinel data 2017",)
    assert chip.interval == Interval.parse("2017-02-16")
    expected = np.floor(reflectance(seed=1) * 10000) / 10000
    np.testing.assert_allclose(chip.band("green"), expected, atol=1e-6)
    assert open_product(tmp_path).level == "L2A"
    save(tmp_path / "T33UUU_20170216T102101_B10.tif", np.full(AREA.shape, 15, np.uint16))
    assert open_product(tmp_path).level == "L1C"


def metadata(offsets):
    rows = "".join(
        f'<BOA_ADD_OFFSET band_id="{i}">{n}</BOA_ADD_OFFSET>' for i, n in offsets.items()
    )
    return (
        '<n1:Level-2A_User_Product xmlns:n1="urn:x"><PRODUCT_START_TIME>2018-05-06T10:20:21.024Z'
        "</PRODUCT_START_TIME><PRODUCT_URI>S2A_MSIL2A_20180506T102021_N0500_R065_T33UUU_20230101T0"
        "00000.SAFE</PRODUCT_URI><PROCESSING_BASELINE>05.00</PROCESSING_BASELINE>"
        "<BOA_QUANTIFICATION_VALUE unit='none'>10000</BOA_QUANTIFICATION_VALUE>"
        f"{rows}</n1:Level-2A_User_Product>"
    )


def safe(tmp_path, *, lift):
    image = tmp_path / "S2A.SAFE" / "GRANULE" / "L2A" / "IMG_DATA"
    for metres, bands in ((10, ("B02", "B03", "B04", "B08")), (20, ("B02", "B8A"))):
        size = {10: AREA, 20: grid(30, 40, 20)}[metres]
        for band in bands:
            stored = (reflectance(size.shape) * 10000 + lift).astype(np.uint16)
            save(
                image / f"R{metres}m" / f"T33UUU_20180506T102021_{band}_{metres}m.tif", stored, size
            )
    scl = np.full((30, 40), 4, np.uint8)
    scl[:10] = 6
    save(image / "R20m" / "T33UUU_20180506T102021_SCL_20m.tif", scl, grid(30, 40, 20))
    return tmp_path / "S2A.SAFE"


def test_safe_takes_the_offset_from_the_metadata(tmp_path):
    product = safe(tmp_path, lift=1000)
    (product / "MTD_MSIL2A.xml").write_text(metadata(dict.fromkeys(range(13), -1000)))
    chip = read_image(product, "sentinel2", AREA)
    assert chip.band_names == ("B02", "B03", "B04", "B08", "B8A")
    assert chip.interval == Interval.parse("2018-05-06")  # an old date with a new baseline
    assert chip.provenance.roots == {"S2:T33UUU_20180506T102021"}
    assert "offset -1000 from metadata" in chip.provenance.activity
    np.testing.assert_allclose(chip.band("red"), reflectance(), atol=2e-4)  # the 10 m file
    scl = read_scl(product, AREA)
    assert scl.shape == tuple(AREA.shape)
    assert (scl[:20] == 6).all()
    assert read_scl(folder(tmp_path / "l1c"), AREA) is None


def test_offset_forgotten_or_applied_twice_is_refused(tmp_path):
    product = safe(tmp_path, lift=1000)
    (product / "MTD_MSIL2A.xml").write_text(metadata({}))
    with pytest.raises(UnitError, match=r"metadata without offset.*forgotten: set offset: -1000"):
        read_image(product, "sentinel2", AREA)
    (product / "MTD_MSIL2A.xml").write_text(metadata(dict.fromkeys(range(13), -2000)))
    with pytest.raises(UnitError, match=r"offset -2000 from metadata.*taken off twice"):
        read_image(product, "sentinel2", AREA)


def test_folder_without_metadata_is_checked_too(tmp_path):
    lifted = folder(tmp_path, lift=1000)
    with pytest.raises(UnitError, match=r"no offset applied.*set offset: -1000"):
        read_image(lifted, "sentinel2", AREA)
    chip = read_image(lifted, "sentinel2", AREA, offset=-1000)
    np.testing.assert_allclose(chip.band("blue"), reflectance(), atol=2e-4)
    with pytest.raises(UnitError, match="taken off twice"):
        read_image(lifted, "sentinel2", AREA, offset=-2000)


def test_wrong_unit_is_refused_both_ways(tmp_path):
    numbers = folder(tmp_path / "dn")
    with pytest.raises(UnitError, match="set unit: DN"):
        read_image(numbers, "sentinel2", AREA, unit="1")
    floats = folder(tmp_path / "float", scale=1, dtype=np.float32)
    with pytest.raises(UnitError, match="set unit: 1"):
        read_image(floats, "sentinel2", AREA, unit="DN")
    chip = read_image(floats, "sentinel2", AREA)
    np.testing.assert_allclose(chip.band("nir"), reflectance(seed=3), atol=1e-6)
    percent = folder(tmp_path / "percent", scale=100, dtype=np.float32)
    with pytest.raises(UnitError):
        read_image(percent, "sentinel2", AREA)


def test_stack_needs_band_names(tmp_path):
    layers = np.stack([reflectance(seed=i) * 10000 for i in range(4)]).astype(np.uint16)
    bare = save(tmp_path / "scene_2019-07-01.tif", layers)
    with pytest.raises(BadSourceError, match=r"which band is which.*set bands:"):
        read_image(bare, "sentinel2", AREA)
    chip = read_image(bare, "sentinel2", AREA, bands=["B04", "B03", "B02", "B08"])
    assert chip.band_names == ("B02", "B03", "B04", "B08")
    np.testing.assert_allclose(chip.band("red"), reflectance(seed=0), atol=2e-4)
    named = save(tmp_path / "b_2019-07-01.tif", layers, names=["B4", "green", "B02", "B8A"])
    assert read_image(named, "sentinel2", AREA).band_names == ("B02", "B03", "B04", "B8A")
    with pytest.raises(BadSourceError, match="has 4 bands, but bands: names 2"):
        read_image(bare, "sentinel2", AREA, bands=["B04", "B03"])


def test_dates(tmp_path):
    undated = folder(tmp_path / "a", name="kempen")
    with pytest.raises(BadSourceError, match="set interval:"):
        read_image(undated, "sentinel2", AREA)
    assert read_image(undated, "sentinel2", AREA, interval=DAY).interval == DAY
    with pytest.raises(BadSourceError, match="contradicts"):
        read_image(folder(tmp_path / "b"), "sentinel2", AREA, interval=DAY)


def test_two_dates_in_one_folder_are_refused(tmp_path):
    folder(tmp_path)
    folder(tmp_path, name="T33UUU_20180216T102101")
    with pytest.raises(BadSourceError, match="two files for band B02"):
        read_image(tmp_path, "sentinel2", AREA)


def test_bad_places(tmp_path):
    scene = folder(tmp_path / "a")
    with pytest.raises(GridMismatchError, match="does not overlap the area"):
        read_image(scene, "sentinel2", grid(left=500000.0))
    with pytest.raises(SourceUnavailableError, match="does not exist"):
        read_image(tmp_path / "gone", "sentinel2", AREA)
    stored = (reflectance() * 10000).astype(np.uint16)
    placeless = save(tmp_path / "b" / "x_20190701_B02.tif", stored, crs=None).parent
    with pytest.raises(GridMismatchError, match="has no CRS"):
        read_image(placeless, "sentinel2", AREA)
    assert read_image(placeless, "sentinel2", AREA, crs="EPSG:32633").valid.all()
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadSourceError, match="holds no Sentinel-2 band"):
        read_image(tmp_path / "empty", "sentinel2", AREA)
    with pytest.raises(ConfigError, match="kind must be one of"):
        read_image(scene, "landsat", AREA)


def test_truncated_band_is_named(tmp_path):
    box = grid(300, 300)
    stored = (reflectance(box.shape) * 10000).astype(np.uint16)
    path = save(tmp_path / "T33UUU_20170216T102101_B02.tif", stored, box)
    path.write_bytes(path.read_bytes()[:60_000])
    with pytest.raises(SourceUnavailableError, match=r"T33UUU_20170216T102101_B02\.tif"):
        read_image(tmp_path, "sentinel2", box)


def test_invalid_cells(tmp_path):
    stored = reflectance().astype(np.float32)
    stored[0, 0], stored[1, 1] = np.nan, np.inf
    chip = read_image(save(tmp_path / "s_20190701_B04.tif", stored), "sentinel2", AREA)
    assert np.argwhere(~chip.valid[0]).tolist() == [[0, 0], [1, 1]]
    numbers = np.zeros(AREA.shape, np.uint16)
    with pytest.raises(BadSourceError, match="no valid cell"):
        read_image(save(tmp_path / "z_20190701_B04.tif", numbers), "sentinel2", AREA)
    numbers[5:] = 900
    numbers[7, 7] = 65535
    chip = read_image(save(tmp_path / "y_20190701_B04.tif", numbers), "sentinel2", AREA)
    assert not chip.valid[0, :5].any()
    assert chip.valid[0].sum() == 55 * 80 - 1


def radar(seed=0):
    return np.random.default_rng(seed).normal(-12, 3, AREA.shape).astype(np.float32)


@pytest.mark.parametrize("unit", [None, "given"])
def test_radar_in_both_units_gives_decibels(tmp_path, unit):
    for name, change in (("dB", lambda v: v), ("linear", lambda v: 10 ** (v / 10))):
        path = tmp_path / name
        save(path / "s1_20190701_VV.tif", change(radar()))
        save(path / "s1_20190701_VH.tif", change(radar(1) - 6))
        chip = read_image(path, "sentinel1", AREA, unit=name if unit else None)
        assert chip.band_names == ("VV", "VH")
        assert chip.provenance.roots == {"S1:s1_20190701"}
        np.testing.assert_allclose(chip.band("VV"), radar(), atol=1e-4)


def test_radar_in_the_wrong_unit_is_refused(tmp_path):
    decibels = save(tmp_path / "a_20190701_VV.tif", radar())
    with pytest.raises(UnitError, match="set unit: dB"):
        read_image(decibels, "sentinel1", AREA, unit="linear")
    power = save(tmp_path / "b_20190701_VV.tif", 10 ** (radar() / 10))
    with pytest.raises(UnitError, match="set unit: linear"):
        read_image(power, "sentinel1", AREA, unit="dB")
    amplitude = save(tmp_path / "c_20190701_VV.tif", (300 * 10 ** (radar() / 20)).astype(np.uint16))
    with pytest.raises(UnitError, match="calibrate"):
        read_image(amplitude, "sentinel1", AREA)
    stack = save(tmp_path / "d_20190701.tif", np.stack([radar(), radar(1)]))
    with pytest.raises(BadSourceError, match=r"set bands: as \[VV, VH\]"):
        read_image(stack, "sentinel1", AREA)
    chip = read_image(stack, "sentinel1", AREA, bands=["VV", "VH"])
    assert chip.band_names == ("VV", "VH")


def test_radar_is_resampled_as_power(tmp_path):
    checker = np.where(np.indices((120, 160)).sum(axis=0) % 2, 0.0, -20.0).astype(np.float32)
    fine = grid(120, 160, 5)
    path = save(tmp_path / "f_20190701_VV.tif", checker - 5, fine)
    chip = read_image(path, "sentinel1", AREA)
    inner = chip.band("VV")[5:-5, 5:-5]
    np.testing.assert_allclose(inner, 10 * np.log10(0.505) - 5, atol=0.2)  # not -15 dB


def test_heights(tmp_path):
    heights = np.linspace(-3, 900, AREA.shape[0] * AREA.shape[1]).reshape(AREA.shape)
    path = save(tmp_path / "dsm.tif", heights.astype(np.float32), nodata=-9999)
    chip = read_image(path, "dsm", AREA, interval=DAY, licence="")
    np.testing.assert_allclose(chip.band("elevation"), heights, rtol=1e-5)
    assert chip.provenance.licences == frozenset()
    with pytest.raises(UnitError, match="must be in m"):
        read_image(path, "dsm", AREA, interval=DAY, unit="ft")
    wrong = save(tmp_path / "cm.tif", (heights * 100).astype(np.float32))
    with pytest.raises(UnitError, match=r"outside -500\.\.9000 m"):
        read_image(wrong, "dsm", AREA, interval=DAY)


def test_colour(tmp_path):
    bytes_ = np.random.default_rng(0).integers(0, 256, (3, *AREA.shape)).astype(np.uint8)
    chip = read_image(save(tmp_path / "a.tif", bytes_), "rgb", AREA, interval=DAY)
    np.testing.assert_allclose(chip.values, bytes_ / 255, atol=1e-6)
    floats = save(tmp_path / "b.tif", (bytes_ / 255).astype(np.float32))
    np.testing.assert_allclose(
        read_image(floats, "rgb", AREA, interval=DAY).values, bytes_ / 255, atol=1e-6
    )
    unscaled = save(tmp_path / "c.tif", bytes_.astype(np.float32))
    with pytest.raises(UnitError, match="set unit:"):
        read_image(unscaled, "rgb", AREA, interval=DAY)
    assert read_image(unscaled, "rgb", AREA, interval=DAY, unit="DN").values.max() <= 1
    with pytest.raises(BadSourceError, match="needs 3"):
        read_image(save(tmp_path / "d.tif", bytes_[0]), "rgb", AREA, interval=DAY)


def test_real_patches(shared):
    patch = shared / "bigearthnet-15" / "BigEarthNet-S2-Example" / "S2A_MSIL2A_20170617T113321_4_55"
    box = native_grid(patch / f"{patch.name}_B02.tif")
    chip = read_image(patch, "sentinel2", box)
    assert len(chip.bands) == 12
    assert chip.interval == Interval.parse("2017-06-17")
    radar_box = native_grid(shared / "sar-misc" / "trnava_s1_VV.tif")
    radar_chip = read_image(
        shared / "sar-misc" / "trnava_s1_VV.tif", "sentinel1", radar_box, interval=DAY
    )
    assert -12 < np.median(radar_chip.band("VV")) < -6
