"""The page: complete, honest, safe, repeatable, and small."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pandas
import pytest
import rasterio
import shapely
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import RunError
from glocal.loop.report.page import FILES, headline, verdict, write_report

CRS = "EPSG:32633"
LEFT, TOP, CELL = 340_000.0, 5_830_000.0, 10.0
LEGEND = [
    (10, "tree_cover", "Tree cover", "006400"),
    (30, "grassland", "Grassland", "FFFF4C"),
    (40, "cropland", "Cropland", "F096FF"),
    (50, "built_up", "Built-up", "FA0000"),
    (80, "water", "Permanent water", "0064C8"),
]
NAMES = [name for _, name, _, _ in LEGEND]


def write_raster(path: Path, values: Any, *, nodata: float | None, colours: Any = None) -> None:
    values = values[None] if values.ndim == 2 else values
    profile = {
        "driver": "GTiff",
        "count": values.shape[0],
        "height": values.shape[1],
        "width": values.shape[2],
        "dtype": values.dtype,
        "crs": CRS,
        "transform": Affine(CELL, 0, LEFT, 0, -CELL, TOP),
        "nodata": nodata,
    }
    with rasterio.open(path, "w", **profile) as target:
        target.write(values)
        if colours:
            target.write_colormap(1, colours)


def smooth(rng: np.random.Generator, shape: tuple[int, int], scale: int = 24) -> Any:
    coarse = rng.normal(size=(shape[0] // scale + 2, shape[1] // scale + 2))
    y, x = (
        np.linspace(0, coarse.shape[0] - 1.01, shape[0]),
        np.linspace(0, coarse.shape[1] - 1.01, shape[1]),
    )
    rows, columns = y.astype(int), x.astype(int)
    fy, fx = (y - rows)[:, None], (x - columns)[None]
    top = coarse[rows][:, columns] * (1 - fx) + coarse[rows][:, columns + 1] * fx
    bottom = coarse[rows + 1][:, columns] * (1 - fx) + coarse[rows + 1][:, columns + 1] * fx
    return top * (1 - fy) + bottom * fy


def metrics() -> dict[str, Any]:
    def measured(
        kind: str, metric: str, before: float, after: float, low: float, high: float
    ) -> Any:
        gain = after - before
        return {
            "kind": kind,
            "metric": metric,
            "before": before,
            "after": after,
            "gain": gain,
            "low": low,
            "high": high,
            "n": 57,
            "why": "",
        }

    return {
        "software": "glocal 0.1.0",
        "area": "havel",
        "seed": 0,
        "rounds": [
            {"round": 0, "anchor_log_loss": 0.71, "kept": True, "change": 1.0, "note": ""},
            {"round": 1, "anchor_log_loss": 0.64, "kept": True, "change": 0.12, "note": ""},
            {
                "round": 2,
                "anchor_log_loss": 0.66,
                "kept": False,
                "change": 0.03,
                "note": "echo: stopped",
            },
        ],
        "round_kept": 1,
        "legend": [
            dict(zip(("value", "name", "title", "color"), row, strict=True)) for row in LEGEND
        ],
        "reference": {
            "n": 180,
            "answered": 169,
            "nonresponse": 11,
            "folds": 5,
            "design": "simple random",
        },
        "estimate": {
            "accuracy": 0.8,
            "low": 0.74,
            "high": 0.86,
            "macro_f1": 0.6,
            "log_loss": 0.6,
            "ece": 0.05,
            "n": 169,
        },
        "sources": {
            "osm": measured("osm", "tag correctness where mapped", 0.6, 0.7, 0.01, 0.2),
            "insitu": measured("insitu", "share of right codes", 0.82, 0.84, -0.03, 0.07),
            "worldcover": measured("landcover", "overall accuracy", 0.74, 0.7, -0.07, -0.01),
            "modis": {
                "kind": "landcover",
                "metric": "",
                "before": None,
                "after": None,
                "gain": None,
                "low": None,
                "high": None,
                "n": 0,
                "why": "ten 5 km cells, no independent share",
            },
        },
        "baselines": {
            "majority class": {
                "accuracy": 0.4,
                "n": 169,
                "difference": 0.4,
                "low": 0.3,
                "high": 0.5,
            },
            "osm where mapped": {
                "accuracy": 0.72,
                "n": 101,
                "difference": 0.06,
                "low": -0.01,
                "high": 0.13,
            },
            "supervised on anchors": None,
        },
        "calibration": [
            {"low": 0.3, "high": 0.5, "n": 9, "confidence": 0.42, "accuracy": 0.44},
            {"low": 0.5, "high": 0.6, "n": 12, "confidence": 0.55, "accuracy": 0.58},
            {"low": 0.6, "high": 0.8, "n": 44, "confidence": 0.71, "accuracy": 0.68},
            {"low": 0.8, "high": 1.0, "n": 104, "confidence": 0.93, "accuracy": 0.9},
        ],
        "corrections": {
            "osm": {
                "count": {"modify": 12, "flag": 8},
                "files": ["corrections/osm/maproulette.geojsonl"],
                "expected_precision": 0.91,
                "threshold": 0.87,
                "note": "This layer carries no versions, so no OsmChange is written.",
            },
            "modis": {
                "count": {},
                "files": [],
                "expected_precision": None,
                "threshold": None,
                "note": "Cells too coarse.",
            },
        },
        "weights": {"osm": 0.7, "insitu": 1.0},
        "families": [["image", "model", "rules"]],
        "displacement": {
            "osm": {"dx": 3.1, "dy": -1.0, "sd": 1.2, "gauge": "relative to the other sources"}
        },
        "attribution": [
            "© OpenStreetMap contributors",
            "Contains modified Copernicus Sentinel data 2017",
        ],
        "licence": "ODbL-1.0",
        "notes": ["The image holds some cloud."],
        "class_area": [
            {"value": 10, "area_ha": 1200.0, "low": 1100.0, "high": 1310.0},
            {"value": 80, "area_ha": 800.0, "low": None, "high": None},
        ],
    }


def reliability(rng: np.random.Generator) -> pandas.DataFrame:
    rows = []
    for source, symbols, contexts in (
        ("osm", [f"landuse={i}" for i in range(15)], 2),
        ("rules", NAMES, 1),
    ):
        for context in range(contexts):
            for k, name in enumerate(NAMES):
                p = rng.dirichlet(np.where(np.arange(len(symbols)) % len(NAMES) == k, 6.0, 0.3))
                count = p * rng.integers(5, 900)
                rows += [
                    {
                        "source": source,
                        "context": context,
                        "class": name,
                        "symbol": symbol,
                        "probability": q,
                        "count": n,
                        "exponent": 0.7,
                        "family": "image" if source == "rules" else "osm",
                    }
                    for symbol, q, n in zip(symbols, p, count, strict=True)
                ]
    return pandas.DataFrame(rows)


def corrections(rng: np.random.Generator, shape: tuple[int, int]) -> geopandas.GeoDataFrame:
    width, height = shape[1] * CELL, shape[0] * CELL
    x, y = LEFT + rng.uniform(0, width, 20), TOP - rng.uniform(0, height, 20)
    sizes = rng.uniform(40, 260, 20)
    geometry = [
        shapely.Point(a, b).buffer(s, quad_segs=2) for a, b, s in zip(x, y, sizes, strict=True)
    ]
    geometry[3] = shapely.Point(LEFT + width / 2, TOP - height / 2)
    geometry[4] = shapely.Point(LEFT - 1e5, TOP)
    geometry[5] = shapely.MultiPolygon(
        [
            shapely.box(x[5], y[5], x[5] + 90, y[5] + 60),
            shapely.box(x[5] + 150, y[5], x[5] + 190, y[5] + 60),
        ]
    )
    geometry[6] = shapely.LineString([(x[6], y[6]), (x[6] + 200, y[6] + 90)])
    geometry[7] = None
    return geopandas.GeoDataFrame(
        {
            "source": ["osm"] * 15 + ["insitu"] * 5,
            "record": [f"way/{1000 + i}@3" for i in range(20)],
            "action": ["modify", "flag"] * 10,
            "current": rng.choice(["landuse=forest", "landuse=meadow", ""], 20),
            "proposed": rng.choice(NAMES, 20),
            "probability": rng.uniform(0.8, 1.0, 20),
        },
        geometry=geometry,
        crs=CRS,
    )


def make_run(out: Path, shape: tuple[int, int] = (120, 200), scale: int = 24) -> Path:
    """Write a synthetic run folder: smooth noise, everything that the report may read."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    fields = np.stack([smooth(rng, shape, scale) for _ in LEGEND])
    p = np.exp(3 * fields)
    p /= p.sum(axis=0)
    codes = np.array([row[0] for row in LEGEND], np.uint8)[p.argmax(axis=0)]
    codes[:9, :14] = 0
    colours = {value: tuple(bytes.fromhex(colour)) for value, _, _, colour in LEGEND}
    write_raster(out / "estimate.tif", codes, nodata=0, colours=colours)
    percent = np.where(codes == 0, 255, (p.max(axis=0) * 100).astype(np.uint8)).astype(np.uint8)
    write_raster(out / "probability.tif", percent, nodata=255)
    entropy = (-(p * np.log(p)).sum(axis=0) / np.log(len(p))).astype(np.float32)
    entropy[codes == 0] = np.nan
    write_raster(out / "entropy.tif", entropy, nodata=float("nan"))
    write_raster(
        out / "disagreement.tif", (entropy**2 * 0.4).astype(np.float32), nodata=float("nan")
    )
    base = np.stack([fields[0] * 20 + 70, fields[1] * 20 + 80, fields[2] * 15 + 60])
    image = np.clip(base + rng.normal(0, 6, base.shape), 1, 255).astype(np.uint8)
    write_raster(out / "image.tif", image, nodata=0)
    reliability(rng).to_parquet(out / "reliability.parquet")
    corrections(rng, shape).to_parquet(out / "corrections.parquet")
    (out / "metrics.json").write_text(json.dumps(metrics()), encoding="utf-8")
    return out


class Page(HTMLParser):
    """Counts what a reader or a screen reader meets."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[dict[str, str | None]] = []
        self.tags: set[str] = set()
        self.words = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def text(run_folder: Path) -> str:
    return write_report(run_folder).read_text("utf-8")


def test_page_is_well_formed_and_needs_nothing_else(text: str) -> None:
    page = Page(text)
    assert page.open == []
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(str(one["src"]).startswith("data:image/") for one in page.images)
    assert not re.search(r"(src|href)=\"(?!data:|#)", text)
    assert "url(" not in text


def test_every_picture_has_words(text: str) -> None:
    images = Page(text).images
    # image, estimate, 3 maps of doubt, 3 charts, 12 + 5 corrections less two without a place
    assert len(images) >= 20
    assert all(one["alt"] for one in images)


def test_page_tells_gain_loss_and_silence(text: str) -> None:
    words = Page(text).words
    assert "1 of 4 sources is measurably better after its corrections: osm" in words
    assert "Worse: worldcover" in words
    assert "Not measurable here: ten 5 km cells, no independent share" in words
    assert "Not in this run folder" not in words
    for each in (
        "ODbL-1.0",
        "© OpenStreetMap contributors",
        "echo: stopped",
        "3 others",
        "no picture",
    ):
        assert each in words


def test_same_folder_gives_same_bytes(run_folder: Path, text: str) -> None:
    assert write_report(run_folder).read_text("utf-8") == text


def test_no_trace_of_the_machine(run_folder: Path, text: str) -> None:
    assert str(run_folder) not in text


@pytest.mark.parametrize("name", sorted(FILES))
def test_absent_file_is_named(tmp_path: Path, name: str) -> None:
    out = make_run(tmp_path, (40, 60))
    (out / name).unlink()
    words = Page(write_report(out).read_text("utf-8")).words
    assert re.search(rf"Not in this run folder.*\n?{re.escape(name)}", words)


def test_empty_folder_gives_a_page(tmp_path: Path) -> None:
    words = Page(write_report(tmp_path).read_text("utf-8")).words
    assert "nothing can be said about gains" in words
    assert all(name in words for name in FILES)


@pytest.mark.parametrize(
    ("stored", "nodata", "scale"),
    [
        (np.array([[50, 100], [60, 255]], np.uint8), 255, None),
        (np.array([[100, 200], [120, 255]], np.uint8), 255, 0.005),
        (np.array([[0.5, 1.0], [0.6, np.nan]], np.float32), float("nan"), None),
    ],
)
def test_probability_in_any_encoding(
    tmp_path: Path, stored: Any, nodata: float, scale: float | None
) -> None:
    path = tmp_path / "probability.tif"
    write_raster(path, stored, nodata=nodata)
    if scale:
        with rasterio.open(path, "r+") as target:
            target.scales = [scale]
    words = Page(write_report(tmp_path).read_text("utf-8")).words
    assert "of the class shown, mean 0.70" in words


def test_area_in_degrees_has_no_scale_bar(tmp_path: Path) -> None:
    path = tmp_path / "estimate.tif"
    write_raster(path, np.full((5, 9), 10, np.uint8), nodata=0)
    with rasterio.open(path, "r+") as target:
        target.crs = "EPSG:4326"
    text = write_report(tmp_path).read_text("utf-8")
    assert 'class="bar"' not in text
    assert "class 10 100 %" in text


def test_no_reference_points(tmp_path: Path) -> None:
    bare = {
        "area": "x",
        "estimate": None,
        "reference": None,
        "baselines": {"a": None},
        "calibration": [],
        "sources": {"osm": {"before": None, "why": "no reference points"}},
    }
    (tmp_path / "metrics.json").write_text(json.dumps(bare), encoding="utf-8")
    words = Page(write_report(tmp_path).read_text("utf-8")).words
    assert "the accuracy of the estimate is not measured" in words
    assert "None of 1 sources is measurably better" in words


def test_text_from_data_stays_text(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>$x_{'
    content = metrics()
    content["area"] = content["notes"][0] = content["licence"] = evil
    content["legend"][0] |= {"title": evil, "color": "0;background:url(x)"}
    content["sources"][evil] = content["sources"]["osm"]
    content["baselines"][evil] = content["baselines"]["majority class"]
    (tmp_path / "metrics.json").write_text(json.dumps(content), encoding="utf-8")
    text = write_report(tmp_path).read_text("utf-8")
    assert "<script" not in text
    assert "url(" not in text
    assert Page(text).open == []


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b"{"),
        ("metrics.json", b"[]"),
        ("estimate.tif", b"II*"),
        ("reliability.parquet", b"PAR1"),
        ("corrections.parquet", b"no"),
        ("image.tif", b""),
    ],
)
def test_damaged_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RunError, match=name):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not a folder"):
        write_report(tmp_path / "nowhere")


def test_big_noisy_area_stays_small(tmp_path: Path) -> None:
    out = make_run(tmp_path, (1500, 2100), scale=3)
    assert write_report(out).stat().st_size < 6e6


numbers = st.floats(-1, 1) | st.none() | st.just(float("nan"))


@given(gain=numbers, low=numbers, high=numbers)
def test_a_gain_needs_its_whole_interval(gain: Any, low: Any, high: Any) -> None:
    row = {"gain": gain, "low": low, "high": high}
    said = headline({"osm": row})
    assert (verdict(row) == "better") == said.startswith("1 of 1")
    if verdict(row) == "better":
        assert low > 0
    if None in (gain, low, high):
        assert "Not measurable here: osm" in said
