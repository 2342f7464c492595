"""Existing maps: cells where they are fine, mixtures where they are coarse."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
import shapely
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legends import legend
from glocal.errors import (
    BadSourceError,
    GridMismatchError,
    LegendMismatchError,
    SourceUnavailableError,
)
from glocal.io.raster import native_grid
from glocal.sources.maps.observe import observe_landcover

TARGET = legend("worldcover").subset(["tree", "grass", "crop", "built", "water"])
AREA = GeoBox.from_bbox((330000, 5820000, 331000, 5820800), "EPSG:32633", resolution=10)
YEAR = Interval.parse("2019")


def save(path, array, box, *, crs="same", nodata=None):
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=array.shape[0], width=array.shape[1],
        dtype=array.dtype.name, transform=box.transform, nodata=nodata,
        crs=str(box.crs) if crs == "same" else crs,
    ) as dataset:  # fmt: skip
        dataset.write(array, 1)
    return path


def observe(path, **changes):
    fields = {"source": "map", "legend_name": "worldcover", "interval": YEAR} | changes
    return observe_landcover(path, AREA, TARGET, **fields)


def box_of(resolution, margin=200):
    left, bottom, right, top = AREA.extent.boundingbox.bbox
    around = (left - margin, bottom - margin, right + margin, top + margin)
    return GeoBox.from_bbox(around, "EPSG:32633", resolution=resolution)


@pytest.mark.parametrize("resolution", [5, 10, 20])
def test_fine_maps_are_read_cell_by_cell(tmp_path, resolution):
    box = box_of(resolution)
    array = np.full(box.shape, 10, np.uint8)
    array[:, box.shape[1] // 2 :] = 80
    array[: box.shape[0] // 2, :4] = 0
    observed = observe(save(tmp_path / "a.tif", array, box, nodata=0))
    assert observed.support == "cells"
    assert (observed.symbols[:, :49] == 1).all()  # tree
    assert (observed.symbols[:, 51:] == 8).all()  # water
    assert observed.crosswalk.symbols == legend("worldcover").names
    assert observed.provenance.licences == {"CC-BY-4.0"}
    assert "ESA WorldCover" in observed.provenance.attribution[0]


def test_finer_map_gives_the_mode(tmp_path):
    box = box_of(2)
    array = np.full(box.shape, 10, np.uint8)
    array[:, ::3] = 80
    assert (observe(save(tmp_path / "a.tif", array, box)).symbols == 1).all()


def test_coarse_map_gives_one_record_per_native_cell(tmp_path):
    box = box_of(100, margin=200)
    array = np.full(box.shape, 40, np.uint8)
    array[5, 6] = 0
    array[4, 4] = 50
    observed = observe(save(tmp_path / "a.tif", array, box, nodata=0))
    assert observed.support == "mixtures"
    assert len(observed) == 10 * 8 - 1  # the silent cell makes no statement
    at = observed.record.tolist().index("r4c4")
    assert observed.crosswalk.symbols[observed.symbols[at] - 1] == "built"
    left, _, _, top = box.extent.boundingbox.bbox
    expected = shapely.box(left + 400, top - 500, left + 500, top - 400)
    assert observed.geometry[at].symmetric_difference(expected).area < 1e-3


def test_coarse_cells_in_degrees_keep_their_true_outline(tmp_path):
    world = GeoBox.from_bbox((-180, -90, 180, 90), "EPSG:4326", resolution=5)
    array = np.full(world.shape, 12, np.uint8)
    observed = observe(save(tmp_path / "w.tif", array, world, nodata=255), legend_name="igbp")
    assert observed.support == "mixtures"
    assert len(observed) == 1
    area = shapely.box(*AREA.extent.boundingbox.bbox)
    assert observed.geometry[0].contains(area)
    assert observed.geometry[0].is_valid
    assert observed.provenance.roots == {"MODIS 2019"}
    assert observed.provenance.licences == {"public-domain"}


@pytest.mark.parametrize(("code", "symbol"), [(0, 1), (17, 1), (16, 17)])
def test_codes_with_zero_and_with_aliases(tmp_path, code, symbol):
    box = box_of(500, margin=1000)
    path = save(tmp_path / "a.tif", np.full(box.shape, code, np.uint8), box, nodata=255)
    assert (observe(path, legend_name="igbp").symbols == symbol).all()


def test_unknown_codes_are_named_with_their_count_inside_the_area_only(tmp_path):
    box = box_of(10)
    array = np.full(box.shape, 10, np.uint8)
    array[0, 0] = 99  # outside the area
    path = save(tmp_path / "a.tif", array, box)
    assert observe(path).symbols.all()
    array[40, 40:43], array[50, 50] = 33, 77
    save(path, array, box)
    with pytest.raises(LegendMismatchError, match=r"33 \(3 cells\), 77 \(1 cells\)"):
        observe(path)


def test_two_editions_share_a_root(tmp_path):
    path = save(tmp_path / "a.tif", np.full(AREA.shape, 10, np.uint8), AREA)
    one, two = (observe(path, interval=Interval.parse(year)) for year in ("2020", "2021"))
    assert one.provenance.shares_root(two.provenance)


def test_own_legend(tmp_path):
    (tmp_path / "own.csv").write_text(
        "value,name,title,color,tree,grass\n3,park,Park,00ff00,0.4,0.6\n5,lake,Lake,0000ff,,\n"
    )
    array = np.full(AREA.shape, 3, np.uint8)
    array[:, :10] = 5
    path = save(tmp_path / "a.tif", array, AREA)
    observed = observe(
        path, legend_name="parks", legend_csv=tmp_path / "own.csv", licence="CC0-1.0"
    )
    assert observed.crosswalk.symbols == ("park", "lake")
    assert observed.crosswalk.matrix[0].round(2).tolist() == [0.4, 0.6, 0, 0, 0]
    assert observed.crosswalk.confidence.tolist() == [0.5, 0]
    assert observed.provenance.roots == {"map:map"}
    assert observed.provenance.licences == {"CC0-1.0"}


def test_bad_maps(tmp_path):
    ten = np.full(AREA.shape, 10, np.uint8)
    with pytest.raises(GridMismatchError, match="set crs:"):
        observe(save(tmp_path / "a.tif", ten, AREA, crs=None))
    assert observe(tmp_path / "a.tif", crs="EPSG:32633").symbols.all()
    far = GeoBox.from_bbox((630000, 5820000, 631000, 5820800), "EPSG:32633", resolution=10)
    with pytest.raises(GridMismatchError, match="map does not overlap"):
        observe(save(tmp_path / "b.tif", ten, far))
    with pytest.raises(BadSourceError, match="says nothing inside the area"):
        observe(save(tmp_path / "c.tif", ten * 0, AREA))
    with pytest.raises(BadSourceError, match="fractions"):
        observe(save(tmp_path / "d.tif", ten.astype(np.float32) + 0.5, AREA))
    with pytest.raises(SourceUnavailableError, match="gone"):
        observe(tmp_path / "gone.tif")
    with pytest.raises(LegendMismatchError, match="no legend 'corin'"):
        observe(tmp_path / "a.tif", crs="EPSG:32633", legend_name="corin")


def test_corine_of_flanders(shared):
    path = shared / "belgium" / "CLC2018_V2020_20u1_flanders.tif"
    box = native_grid(shared / "belgium" / "kempen_S2_B02.tif")
    observed = observe_landcover(
        path, box, TARGET, source="clc", legend_name="corine", interval=Interval.parse("2018")
    )
    assert observed.support == "mixtures"
    assert 5000 < len(observed) < 5600
    assert observed.provenance.licences == {"Copernicus-Land"}
    outline = shapely.union_all(observed.geometry)
    assert outline.buffer(1).contains(shapely.box(*box.extent.boundingbox.bbox))
