"""Files for map makers, imagery people and the model: right, complete, repeatable."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import geopandas as gpd
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import rasterio
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from odc.geo.geobox import GeoBox
from rasterio.transform import Affine
from rio_cogeo.cogeo import cog_validate
from scipy import ndimage
from sklearn.metrics import cohen_kappa_score

from glocal.core.accuracy import olofsson
from glocal.core.chip import Chip
from glocal.core.findings import Voices
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Legend
from glocal.core.placement import ControlPoint, Registration
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement
from glocal.core.sensor import sensor
from glocal.sources.images.registration import (
    SceneFile,
    corrected_transform,
    write_registration,
)
from glocal.sources.images.write import encode_image
from glocal.sources.maps.patches import Base, MapChange, patch_table
from glocal.sources.maps.quality import quality_xml
from glocal.sources.maps.write import encode_map, encode_shares
from glocal.sources.models.write import SCALE, UNKNOWN, encode_model
from glocal.sources.patches import patch_labels
from tests.catalogue import stac_errors

NOTES = {"licence": "ODbL-1.0", "attribution": "© OpenStreetMap contributors"}
LEGEND = Legend(
    name="small",
    classes=(
        ClassDef(value=10, name="tree", title="Tree", color="00aa00"),
        ClassDef(value=20, name="crop", title="Crop", color="aaaa00"),
    ),
)


@pytest.fixture
def grid() -> GeoBox:
    return area_geobox((330_000, 5_814_360, 330_080, 5_814_420), "EPSG:32633", 10)


def _base(name: str, then: str, now: str) -> Base:
    return Base(
        name=name, version="v1", interval=Interval.parse(then), now=Interval.parse(now),
        names=LEGEND.names,
    )  # fmt: skip


def _map(folder: Path, grid: GeoBox, **more: object) -> list[Path]:
    tree, crop = 0, 1
    original = np.full(grid.shape, tree)
    original[:, 7] = -1
    corrected = original.copy()
    corrected[1:3, 1:4] = crop
    corrected[5, 5] = crop
    likely = (corrected == crop)[..., None] == (np.arange(2) == crop)
    given = {"accuracy": None, "why_no_accuracy": "no points", "smallest": 4, **NOTES}
    prefers = {"osm": [0.0, 0.5], "image": [-2.0, 0.0], "other": [1.0, 0.0]}
    cells = corrected.size
    change = MapChange(
        corrected=corrected,
        original=original,
        others=np.where(likely, 0.9, 0.1),
        geobox=grid,
        legend=LEGEND,
        base=_base("map", "2020", "2023"),
        voices=Voices(
            unit=np.arange(cells),
            message={name: np.tile(row, (cells, 1)) for name, row in prefers.items()},
        ),
    )
    return encode_map(folder, change, **{**given, **more})


def _image(folder: Path, grid: GeoBox, found: Registration | None = None) -> list[Path]:
    kind = np.zeros(grid.shape, np.uint8)
    kind[0] = 3
    return encode_image(
        folder,
        registration=found,
        cloud_kind=kind,
        geobox=grid,
        interval=Interval.parse("2017-02-16"),
        **NOTES,
    )


def _model(folder: Path, grid: GeoBox) -> list[Path]:
    tree = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    probability = np.stack([tree, 1 - tree], axis=-1)
    probability[0, 0] = np.nan
    chip = Chip(
        values=np.ones((2, *grid.shape), np.float32),
        valid=np.ones((2, *grid.shape), bool),
        bands=sensor("sentinel2-l2a").bands[:2],
        geobox=grid,
        interval=Interval.parse("2017-02-16"),
        provenance=Provenance(activity="read", agent="test"),
    )
    weight = np.ones(grid.shape, np.float32)
    weight[4, 4] = 0
    return encode_model(
        folder,
        probability=probability,
        weight=weight,
        interval=Interval.parse("2017-02-16"),
        images={"colour": chip},
        block=3,
        source="../item.json",
        geobox=grid,
        legend=LEGEND,
        **NOTES,
    )


def _shares(folder: Path, grid: GeoBox) -> list[Path]:
    cells = np.array([shapely.box(330_000, 5_814_360, 330_040, 5_814_400)], object)
    return encode_shares(
        folder,
        cells,
        np.array(["=c1"]),
        np.array([[0.7, 0.3]]),
        np.array([[0.1, 0.1]]),
        LEGEND,
        grid,
        **NOTES,
    )


@pytest.mark.parametrize("write", [_map, _image, _model, _shares])
def test_files_are_repeatable_and_carry_their_licence(tmp_path: Path, grid: GeoBox, write) -> None:
    first = write(tmp_path / "a", grid)
    second = write(tmp_path / "b", grid)
    assert sorted(one for one in (tmp_path / "a").rglob("*") if one.is_file()) == sorted(first)
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name
        if one.suffix != ".qml" and one.name != "index.csv":
            assert b"ODbL-1.0" in one.read_bytes(), one.name


def test_rasters_are_cloud_optimised(tmp_path: Path, grid: GeoBox) -> None:
    for path in _map(tmp_path, grid) + _image(tmp_path, grid) + _model(tmp_path, grid):
        if path.suffix == ".tif" and path.parent == tmp_path:
            valid, errors, _ = cog_validate(path)
            assert valid, errors


def test_patches_name_the_change(tmp_path: Path, grid: GeoBox) -> None:
    _map(tmp_path, grid)
    found = gpd.read_parquet(tmp_path / "patches.parquet")
    assert len(found) == 1
    one = found.iloc[0]
    assert (one.class_from, one.class_to, one.status) == ("tree", "crop", "proposed")
    assert one.geometry.area == 600
    assert (one.p_to, one.p_from) == pytest.approx((0.9, 0.1))
    assert (one.because, one.base_map_id) == ("image, osm", "map")
    assert one.date_from.startswith("2020-01-01")
    assert one.date_to.startswith("2023-01-01")
    assert pq.read_schema(tmp_path / "patches.parquet").metadata[b"licence"] == b"ODbL-1.0"
    everything = _map(tmp_path, grid, smallest=1)
    assert len(gpd.read_parquet(everything[3])) == 2
    assert len(gpd.read_file(_map(tmp_path, grid, smallest=99)[4])) == 0


def test_the_same_patch_of_two_maps_has_two_ids(grid: GeoBox) -> None:
    def ids(name: str) -> list[str]:
        original = np.zeros(grid.shape, int)
        change = MapChange(
            corrected=np.ones(grid.shape, int),
            original=original,
            others=np.eye(2)[np.ones(grid.shape, int)],
            geobox=grid,
            legend=LEGEND,
            base=_base(name, "2020", "2020"),
        )
        return patch_table(change, 1)["change_id"].tolist()

    assert len({*ids("one"), *ids("other")}) == 2
    assert ids("one") == ids("one")


def test_accuracy_or_the_reason_why_not(tmp_path: Path, grid: GeoBox) -> None:
    _map(tmp_path, grid)
    report = json.loads((tmp_path / "accuracy.json").read_text())
    assert (report["available"], report["reason"]) == (False, "no points")
    _map(tmp_path, grid, accuracy=olofsson([[8, 1], [2, 9]], [3, 4]), why_no_accuracy="")
    report = json.loads((tmp_path / "accuracy.json").read_text())
    assert report["estimates"]["overall_accuracy"]["ci95"] > 0
    assert [one["measure"] for one in report["iso19157"]] == [60, 61, 62, 63, 64]
    assert not report["original_map"]["available"]
    with pytest.raises(ValueError, match="why_no_accuracy"):
        _map(tmp_path, grid, why_no_accuracy="")


def test_quality_in_the_words_of_the_standard() -> None:
    counts = [[66, 0, 5, 4], [0, 55, 8, 12], [1, 0, 153, 11], [2, 1, 9, 313]]
    report = olofsson(counts, [200_000, 150_000, 3_200_000, 6_450_000])
    found = {one["measure"]: one["value"] for one in report.iso19157()}
    truth, said = np.indices((4, 4)).reshape(2, -1)
    number = np.array(counts).T.ravel()
    assert found[60] == number[truth != said].sum()
    assert found[61] == pytest.approx(1 - 0.947, abs=5e-4)
    np.testing.assert_allclose(np.sum(found[63], axis=1), 1, atol=1e-5)
    expected = cohen_kappa_score(truth, said, sample_weight=report.proportions.T.ravel())
    assert found[64] == pytest.approx(expected, abs=1e-6)
    legend = Legend(
        name="four",
        classes=tuple(
            ClassDef(value=i + 1, name=f"c{i}", title="", color="000000") for i in range(4)
        ),
    )
    text = quality_xml(report, legend, title="a -- map <1>", **NOTES)
    tree = ElementTree.fromstring(text)
    mdq = "{http://standards.iso.org/iso/19157/-2/mdq/1.0}"
    assert tree.tag == f"{mdq}DQ_DataQuality"
    assert len(tree.findall(f"{mdq}report/{mdq}DQ_ThematicClassificationCorrectness")) == 5
    assert "overall accuracy 0.9465 with a 95 % interval of +-0.0185" in text


@settings(max_examples=50, deadline=None)
@given(arrays(np.int64, (6, 7), elements=st.integers(0, 2)), st.integers(1, 4))
def test_patches_agree_with_scipy(code: np.ndarray, smallest: int) -> None:
    labels = patch_labels(code, smallest)
    expected = 0
    for value in (1, 2):
        parts, count = ndimage.label(code == value)
        size = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        expected += int((size >= smallest).sum())
        for part in np.flatnonzero(size >= smallest) + 1:
            found = np.unique(labels[parts == part])
            assert len(found) == 1
            assert (labels == found[0]).sum() == size[part - 1]
    assert labels.max(initial=0) == expected


def test_registration_is_honest(tmp_path: Path, grid: GeoBox) -> None:
    shift = Displacement(dy=10.0, dx=0.0, covariance=((1.0, 0.0), (0.0, 4.0)))
    _image(tmp_path, grid, Registration(shift=shift, points=(), affine=None))
    report = json.loads((tmp_path / "registration.json").read_text())
    assert report["standard_uncertainty_m"] == {"north": 1.0, "east": 2.0}
    assert report["significant"]
    assert report["note"].startswith("prior-driven")
    assert report["quality"]["no_data"] == pytest.approx(1 / 6, abs=1e-6)
    _image(tmp_path, grid)
    assert not json.loads((tmp_path / "registration.json").read_text())["available"]
    with pytest.raises(ValueError, match="cloud_kind"):
        encode_image(
            tmp_path,
            registration=None,
            cloud_kind=np.full(grid.shape, 9, np.uint8),
            geobox=grid,
            interval=Interval.of_year(2017),
            **NOTES,
        )


def test_a_patch_moves_the_scene_and_nothing_else(tmp_path: Path, grid: GeoBox) -> None:
    shift = Displacement(dy=-20.0, dx=10.0, covariance=((1.0, 0.0), (0.0, 1.0)))
    found = Registration(
        shift=shift, points=(ControlPoint(row=3, column=4, shift=shift),), affine=None
    )
    scene = SceneFile(name="scene.tif", grid=grid, size=12, checksum="1220ab")
    files = write_registration(tmp_path, found, grid, scene)
    assert [one.name for one in files] == ["gcps.points", "stac_patch.json"]
    asset = json.loads(files[1].read_text())["assets"]["scene"]
    expected = Affine.translation(10, -20) * grid.transform
    assert asset["proj:transform"] == list(expected)[:6]
    assert asset["file:checksum"] == "1220ab"
    crs, header, row = files[0].read_text().splitlines()
    assert crs.startswith("#CRS: PROJCRS")
    numbers = [float(one) for one in row.split(",")[:4]]
    assert (numbers[0] - numbers[2], numbers[1] - numbers[3]) == (10, -20)
    assert header.startswith("mapX,mapY,sourceX,sourceY,enable")
    still = Displacement(dy=0.1, dx=0.1, covariance=((1.0, 0.0), (0.0, 1.0)))
    unmoved = Registration(shift=still, points=(), affine=None)
    assert write_registration(tmp_path, unmoved, grid, scene) == []


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_a_constant_affine_field_is_a_shift(dx: float, dy: float) -> None:
    grid = area_geobox((330_000, 5_814_360, 330_080, 5_814_420), "EPSG:32633", 10)
    shift = Displacement(dy=dy, dx=dx, covariance=((1.0, 0.0), (0.0, 1.0)))
    plain = Registration(shift=shift, points=(), affine=None)
    field = Registration(shift=shift, points=(), affine=((dx, 0.0, 0.0), (dy, 0.0, 0.0)))
    one, two = (corrected_transform(r, grid, grid.transform) for r in (plain, field))
    np.testing.assert_allclose(tuple(one), tuple(two), atol=1e-6)


def test_soft_labels_come_back(tmp_path: Path, grid: GeoBox) -> None:
    _model(tmp_path, grid)
    with rasterio.open(tmp_path / "soft_labels.tif") as dataset:
        stored = dataset.read()
        assert dataset.descriptions == ("tree", "crop")
    tree = np.random.default_rng(1).random(grid.shape).astype(np.float32)
    assert (stored[:, 0, 0] == UNKNOWN).all()
    assert stored[0, 4, 4] == UNKNOWN  # a label without weight
    tree[4, 4] = UNKNOWN / SCALE
    assert np.abs(stored[0] / SCALE - tree)[1:].max() <= 0.5 / SCALE + 1e-6
    with rasterio.open(tmp_path / "label_weight.tif") as dataset:
        assert dataset.read(1)[0, 0] == 0
    with pytest.raises(ValueError, match="sum to 1"):
        encode_model(
            tmp_path,
            probability=np.ones((*grid.shape, 2), np.float32),
            weight=np.ones(grid.shape, np.float32),
            geobox=grid,
            legend=LEGEND,
            interval=Interval.parse("2017"),
            **NOTES,
        )


def test_chips_are_crops_of_the_whole(tmp_path: Path, grid: GeoBox) -> None:
    _model(tmp_path, grid)
    with rasterio.open(tmp_path / "soft_labels.tif") as dataset:
        whole = dataset.read()
    index = pd.read_csv(tmp_path / "index.csv")
    assert len(index) == 4
    for row in index.itertuples():
        cut = np.s_[row.row : row.row + 3, row.column : row.column + 3]
        with rasterio.open(tmp_path / row.soft) as dataset:
            assert (dataset.read() == whole[:, *cut]).all()
            assert dataset.transform * (0, 0) == grid.transform * (row.column, row.row)
            assert dataset.descriptions == ("tree", "crop")
        with rasterio.open(tmp_path / row.mask) as dataset:
            mask = dataset.read(1)
        with rasterio.open(tmp_path / row.weight) as dataset:
            assert ((dataset.read(1) > 0) == (mask != 255)).all()
        with rasterio.open(tmp_path / row.image_colour) as dataset:
            assert (dataset.count, dataset.crs.to_epsg()) == (2, 32633)
        best = whole[:, *cut].argmax(axis=0)
        assert (mask == best)[mask != 255].all()
    assert (whole[:, 4, 4] == UNKNOWN).all()


def test_labels_are_a_stac_item(tmp_path: Path, grid: GeoBox, shared: Path) -> None:
    _model(tmp_path, grid)
    item = json.loads((tmp_path / "labels.json").read_text())
    assert stac_errors(item, shared / "schemas" / "stac") == []
    for asset in item["assets"].values():
        assert (tmp_path / asset["href"]).is_file()


def test_shares_are_guarded(tmp_path: Path, grid: GeoBox) -> None:
    _shares(tmp_path, grid)
    header, row = (tmp_path / "shares.csv").read_text("utf-8").splitlines()
    assert row.startswith("'=c1,,tree,0.7,0.1,0.3,0.1,")
    assert header.endswith("lon,lat,licence,attribution")
    with pytest.raises(ValueError, match="sum to 1"):
        encode_shares(
            tmp_path,
            np.array([shapely.box(0, 0, 1, 1)], object),
            np.array(["a"]),
            np.array([[0.7, 0.7]]),
            np.array([[0.1, 0.1]]),
            LEGEND,
            grid,
            **NOTES,
        )
