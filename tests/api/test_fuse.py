"""``glocal.fuse``: what goes in, what comes out, and what it is worth."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import shapely
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import glocal
from glocal.api.given import read
from glocal.errors import BadSourceError, ConfigError, GridMismatchError, LegendMismatchError

CLASSES = ["tree", "grass", "water"]
ONES = np.eye(3, dtype=int)
ROOT = Path(__file__).resolve().parents[2]


def made_up(seed=0, side=96):
    """Return a truth of square fields, and a way to be told it with errors."""
    rng = np.random.default_rng(seed)
    truth = np.kron(rng.integers(0, 3, (side // 8, side // 8)), np.ones((8, 8), int))

    def told(right):
        return np.where(rng.random(truth.shape) < right, truth, rng.integers(0, 3, truth.shape))

    return truth, told, rng


def crowd_table(seed, workers=40, items=600, classes=4, answers=5):
    """Return answers (task, worker, label) of people who differ, and the truth by task."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, items)
    right = rng.uniform(0.4, 0.95, workers)
    rows = [
        (f"t{i}", f"w{w}", f"c{truth[i] if rng.random() < right[w] else rng.integers(0, classes)}")
        for i in range(items)
        for w in rng.choice(workers, answers, replace=False)
    ]
    names = pd.Series([f"c{k}" for k in truth], index=[f"t{i}" for i in range(items)])
    return pd.DataFrame(rows, columns=["task", "worker", "label"]), names


class TestReadme:
    """The lines that a newcomer reads first."""

    def test_the_example_beats_its_best_single_source(self):
        text = (ROOT / "README.md").read_text("utf-8")
        (block,) = [one for one in re.findall(r"```python\n(.*?)```", text, re.S) if "fuse" in one]
        names: dict[str, object] = {}
        exec(compile(block, "README.md", "exec"), names)
        truth, result = names["truth"], names["result"]
        right = [
            (one == truth)[one >= 0].mean()
            for one in names["sources"].values()
            if isinstance(one, np.ndarray)
        ]
        assert (result.classes.values == truth).mean() > max(right) + 0.02
        fixes = result.corrections("osm")
        proposed = np.array(CLASSES)[truth[fixes["y"], fixes["x"]]] == fixes["proposed"]
        assert proposed.mean() > 0.75


class TestGrid:
    """Arrays, xarray and frames of places."""

    def test_arrays_and_xarray_say_the_same(self):
        truth, told, _ = made_up()
        a, b = told(0.8), told(0.7)
        b[:20] = -1
        plain = glocal.fuse({"a": a, "b": b}, classes=CLASSES)
        masked = glocal.fuse({"a": a, "b": np.ma.masked_less(b, 0)}, classes=CLASSES)
        floats = glocal.fuse({"a": a, "b": np.where(b < 0, np.nan, b)}, classes=CLASSES)
        names = np.array([*CLASSES, ""], object)
        named = glocal.fuse({"a": names[a], "b": names[b]}, classes=CLASSES)
        dims = ("northing", "easting")
        cubes = glocal.fuse(
            xr.Dataset({"a": (dims, a), "b": xr.DataArray(b, dims=dims)}), classes=CLASSES
        )
        for other in (masked, floats, named, cubes):
            np.testing.assert_array_equal(plain.probability.values, other.probability.values)
        assert plain.classes.dtype.kind == "i"
        assert set(np.unique(named.classes.values)) <= set(CLASSES)
        assert cubes.classes.dims == dims
        assert plain.probability.dims == ("class", "y", "x")
        assert list(plain.probability["class"].values) == CLASSES
        assert plain.entropy.values.min() >= 0
        assert plain.entropy.values.max() <= 1 + 1e-6
        assert plain.disagreement.shape == truth.shape

    def test_layers_keep_crs_and_coordinates(self):
        pytest.importorskip("rioxarray")
        earth = glocal.simulate(size=96, seed=3)
        result = glocal.fuse(
            earth.sources, classes=earth.classes, anchors=earth.anchors, roots=earth.roots
        )
        osm = earth.sources["osm"]
        for layer in (result.classes, result.probability, result.entropy):
            assert layer.rio.crs == osm.rio.crs
            assert layer.rio.transform() == osm.rio.transform()
            xr.testing.assert_equal(layer["x"], osm["x"])
        right = (result.classes == earth.truth).mean()
        layers = [one for one in earth.sources.values() if isinstance(one, xr.DataArray)]
        assert right > max(float((one == earth.truth).where(one >= 0).mean()) for one in layers)
        fixes = result.corrections("osm")
        assert isinstance(fixes, gpd.GeoDataFrame)
        assert fixes.crs == osm.rio.crs
        assert fixes["probability"].is_monotonic_decreasing

    def test_places_in_every_form_are_one(self):
        truth, told, rng = made_up()
        crs = "EPSG:32633"
        x, y = np.arange(96) * 10.0 + 400_005, 5_800_955 - np.arange(96) * 10.0
        layer = xr.DataArray(
            told(0.7), dims=("y", "x"), coords={"y": y, "x": x}, attrs={"crs": crs}
        )
        row, column = rng.integers(0, 96, (2, 80))
        label = told(0.9)[row, column]
        by_cell = pd.DataFrame({"row": row, "column": column, "label": label})
        by_place = pd.DataFrame({"x": x[column], "y": y[row], "class": label})
        points = gpd.GeoDataFrame(
            {"label": label}, geometry=shapely.points(x[column], y[row]), crs=crs
        )
        anchors = np.full(truth.shape, -1)
        at = rng.permutation(truth.size)[:60]
        anchors.ravel()[at] = truth.ravel()[at]
        results = [
            glocal.fuse({"map": layer, "people": one}, classes=CLASSES, anchors=anchors)
            for one in (by_cell, by_place, points, points.to_crs(4326))
        ]
        for one in results[1:]:
            np.testing.assert_allclose(
                one.probability.values, results[0].probability.values, atol=1e-6
            )
        assert results[0].fused.anchors == 60

    def test_polygons_workers_and_probabilities_are_sources(self):
        truth, told, rng = made_up()
        fields = [(r, c) for r in range(12) for c in range(12)]
        polygons = gpd.GeoDataFrame(
            {"label": [CLASSES[truth[r * 8, c * 8]] for r, c in fields]},
            geometry=[shapely.box(c * 8, r * 8, c * 8 + 8, r * 8 + 8) for r, c in fields],
        )
        row, column = rng.integers(0, 96, (2, 200))
        people = pd.DataFrame({
            "row": row, "column": column, "label": np.array(CLASSES)[told(0.8)[row, column]],
            "worker": rng.choice(["anna", "ben"], 200),
        })  # fmt: skip
        p = np.full((96, 96, 3), 0.2)
        np.put_along_axis(p, told(0.7)[..., None], 0.6, axis=2)
        p[:10] = np.nan
        result = glocal.fuse(
            {"map": told(0.6), "parcels": polygons, "people": people, "net": p}, classes=CLASSES
        )
        assert (result.classes.values == truth).mean() > 0.95
        assert list(result.reliability["people"].index.names) == ["worker", "class"]
        assert list(result.reliability["parcels"].columns) == CLASSES
        np.testing.assert_allclose(result.reliability["people"].sum(axis=1), 1)
        cube = xr.DataArray(p, dims=("y", "x", "class"), coords={"class": CLASSES})
        again = glocal.fuse({"net": cube.transpose("class", "y", "x"), "map": told(0.6)})
        assert again.legend.names == tuple(CLASSES)

    def test_words_of_its_own_mean_what_is_said(self):
        _, told, _ = made_up()
        a, b = told(0.8), told(0.7)
        codes = np.array([10, 30, 80])[b]
        meaning = {"map": {10: "tree", 30: {"grass": 0.9, "tree": 0.1}, 80: "water", 95: None}}
        result = glocal.fuse({"osm": a, "map": codes}, classes=CLASSES, meaning=meaning)
        assert list(result.reliability["map"].columns) == ["10", "30", "80", "95"]
        straight = glocal.fuse({"osm": a, "map": b}, classes=CLASSES)
        assert (result.classes == straight.classes).mean() > 0.97

    def test_a_shared_root_is_no_second_opinion(self):
        _, told, _ = made_up()
        a, b = told(0.7), told(0.8)
        twice = {"a": a, "again": a, "b": b}
        alone = glocal.fuse({"a": a, "b": b}, classes=CLASSES)
        kin = glocal.fuse(twice, classes=CLASSES, roots={"a": "x", "again": ["x"]})
        np.testing.assert_allclose(kin.probability.values, alone.probability.values, atol=1e-6)


class TestTable:
    """Items without a place."""

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")  # crowd-kit under pandas 3
    @pytest.mark.parametrize("seed", range(3))
    def test_without_dependence_and_back_off_it_is_dawid_skene(self, seed):
        crowdkit = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed")
        frame, _ = crowd_table(seed)
        theirs = crowdkit.DawidSkene(n_iter=100).fit_predict(frame)
        ours = glocal.fuse(frame, setting=glocal.DAWID_SKENE).classes
        assert (theirs.reindex(ours.index) == ours).mean() >= 0.995

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    @pytest.mark.parametrize("name", ["BarzanMozafari", "AdultContent2"])
    def test_so_it_is_on_real_crowds(self, name, shared):
        crowdkit = pytest.importorskip("crowdkit.aggregation", reason="crowd-kit is not installed")
        frame = pd.read_csv(shared / "crowds" / name / "labels.csv")
        frame = frame.drop_duplicates(["task", "worker"], keep="last")
        theirs = crowdkit.DawidSkene(n_iter=100).fit_predict(frame)
        ours = glocal.fuse(frame, setting=glocal.DAWID_SKENE).classes
        assert (theirs.reindex(ours.index) == ours).mean() >= 0.995

    def test_long_wide_and_columns_are_one(self):
        frame, truth = crowd_table(5, workers=8, answers=6)
        wide = frame.pivot(index="task", columns="worker", values="label")
        long = glocal.fuse(frame)
        for other in (
            glocal.fuse(wide),
            glocal.fuse({name: wide[name] for name in wide}),
            glocal.fuse({name: wide[name].astype("category") for name in wide}),
        ):
            pd.testing.assert_frame_equal(long.probability, other.probability)
        assert long.classes.index.equals(wide.index)
        assert (long.classes == truth.reindex(long.classes.index)).mean() > 0.85
        assert isinstance(long.entropy, pd.Series)
        people = glocal.fuse({"people": frame})
        assert next(iter(people.reliability)) == "people/w0"

    def test_gold_calibrates(self):
        frame, truth = crowd_table(6, workers=10)
        gold = truth.iloc[:100]
        for anchors in (gold, gold.to_dict(), gold.rename_axis("task").reset_index(name="label")):
            result = glocal.fuse(frame, anchors=anchors)
            assert result.fused.anchors == 100
        rest = truth.index[100:]
        assert (result.classes[rest] == truth[rest]).mean() > 0.85

    def test_corrections_stand_beside_their_items(self):
        truth = pd.Series(np.tile(CLASSES, 60), index=[f"plot {i}" for i in range(180)])
        wrong = truth.copy()
        wrong.iloc[[3, 50]] = ["water", "tree"]
        result = glocal.fuse({"a": wrong, "b": truth, "c": truth.copy()})
        fixes = result.corrections("a")
        assert sorted(fixes.index) == ["plot 3", "plot 50"]
        assert fixes.loc["plot 3", "proposed"] == "tree"

    def test_a_setting_changes_what_is_assumed(self):
        frame, _ = crowd_table(7, workers=6, items=100)
        one = replace(glocal.ENGINE, alone=0.4)
        assert glocal.fuse(frame, setting=one).weights.max() < glocal.fuse(frame).weights.max()


class TestShown:
    """What a notebook shows."""

    @pytest.mark.parametrize("grid", [True, False])
    def test_it_describes_itself(self, grid):
        _, told, _ = made_up(side=32)
        layers = {"osm": told(0.9), "map": told(0.7)}
        given = layers if grid else pd.DataFrame({k: v.ravel() for k, v in layers.items()})
        result = glocal.fuse(given, classes=CLASSES)
        assert repr(result).startswith("Fusion of 2 sources")
        page = result._repr_html_()
        assert "<img" in page
        assert all(name in page for name in ("osm", "map", *CLASSES))
        assert list(result.sources.columns) == ["says", "weight", "accuracy"]
        assert result.sources.loc["osm", "accuracy"] > result.sources.loc["map", "accuracy"]


class TestRefusals:
    """Every message names what is wrong and what to do."""

    @pytest.mark.parametrize(
        ("sources", "options", "error", "says"),
        [
            ({"a": ONES, "b": np.zeros((4, 4), int)}, {}, GridMismatchError, "resample"),
            ({"a": np.full((3, 4), 5)}, {"classes": CLASSES}, LegendMismatchError, "meaning="),
            ({"a": np.full((3, 4), 0.5)}, {}, BadSourceError, "positions"),
            ({"a": np.full((3, 4), -7)}, {}, BadSourceError, "-1 for nothing"),
            ({"a": np.array(["x", 1], object)}, {}, BadSourceError, "astype"),
            ({"a": ["x", "y"], "b": [0, 1]}, {}, ConfigError, "classes="),
            ({"a": [0, 1], "b": [0, 1, 1]}, {}, GridMismatchError, "one length"),
            ({"a": [0, 0]}, {}, ConfigError, "2 to 256"),
            ({"a": [0, 1]}, {"roots": {"b": "x"}}, ConfigError, "b"),
            ({"a": [0, 1]}, {"anchors": {7: 1}}, BadSourceError, "none of the anchors"),
            ({"a": ONES, "f": pd.DataFrame({"row": [1]})}, {}, BadSourceError, "label"),
            ({"a": ONES, "f": pd.DataFrame({"label": [1]})}, {}, BadSourceError, "row"),
            (pd.DataFrame({"task": [1, 1], "worker": [2, 2], "label": [0, 1]}), {}, BadSourceError,
             "drop_duplicates"),
            ({"a": ONES, "net": np.ones((3, 3, 2))}, {}, BadSourceError, "sum to 1"),
        ],
    )  # fmt: skip
    def test_it_says_what_to_do(self, sources, options, error, says):
        with pytest.raises(error, match=re.escape(says)):
            glocal.fuse(sources, **options)

    def test_grids_that_differ_are_told_apart(self):
        one = xr.DataArray(np.zeros((3, 4), int), dims=("y", "x"), coords={"x": [5, 15, 25, 35]})
        with pytest.raises(GridMismatchError, match="10 x 1"):
            glocal.fuse({"a": one, "b": one.assign_coords(x=[0, 10, 20, 30])})
        with pytest.raises(GridMismatchError, match="evenly spaced"):
            glocal.fuse({"a": one.assign_coords(x=[0, 1, 5, 9])}, classes=CLASSES)

    def test_places_elsewhere_are_refused(self):
        far = pd.DataFrame({"x": [1e6], "y": [1e6], "label": [1]})
        with pytest.raises(GridMismatchError, match="to_crs"):
            glocal.fuse({"a": np.eye(3, dtype=int), "far": far}, classes=CLASSES)


@settings(max_examples=40)
@given(st.lists(st.sampled_from([*CLASSES, "", None, float("nan")]), min_size=1, max_size=20))
def test_words_are_read_as_they_stand(values):
    said = read(pd.Series(values, dtype=object), "a")
    back = [said.known[i] if i >= 0 else "" for i in said.word]
    assert back == [one if isinstance(one, str) else "" for one in values]
