"""Places of field points, people left out, and the changeset that training tools read."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import geopandas as gpd
import jsonschema
import numpy as np
import pandas as pd
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT7

from glocal.core.correction import Corrections
from glocal.core.grid import area_geobox
from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Legend
from glocal.core.observation import Observations
from glocal.core.placement import Places
from glocal.fusion.place.points import layer_shift, suggest_places
from glocal.io.vector import FORMULA, guard
from glocal.sources.field.write import Verdicts, encode_field
from glocal.sources.points.personal import is_personal, read_field_table
from glocal.sources.points.read import observe_points

GRID = area_geobox((400_000, 5_799_200, 400_800, 5_800_000), "EPSG:32633", 10)
LEGEND = Legend(
    name="two",
    classes=(
        ClassDef(value=10, name="tree", title="Tree", color="00aa00"),
        ClassDef(value=80, name="water", title="Water", color="0000ff"),
    ),
)
RIGHT = np.array([[0.95, 0.05], [0.05, 0.95]])
"""P(symbol | class), rows are classes."""


def _patchwork(seed: int) -> np.ndarray:
    """Return classes of squares of 8 cells, shape (80, 80)."""
    coarse = np.random.default_rng(seed).integers(0, 2, (10, 10))
    return np.kron(coarse, np.ones((8, 8), np.int64))


def _points(tmp_path: Path, x: np.ndarray, y: np.ndarray, names: list[str], sd: float) -> Path:
    path = tmp_path / "points.csv"
    pd.DataFrame({"id": [f"p{i}" for i in range(len(x))], "x": x, "y": y, "class": names}).to_csv(
        path, index=False
    )
    return path


def _seen(path: Path, sd: float) -> Observations:
    return observe_points(
        path,
        GRID,
        LEGEND,
        source="field",
        root="field",
        columns={},
        interval=Interval.parse("2023-06-15"),
        position_sd_m=sd,
        licence="CC0-1.0",
    )


def _said(seen: Observations) -> tuple[np.ndarray, np.ndarray]:
    """Return P(symbol | class) and the classes meant, shape (n, 2)."""
    stated = seen.crosswalk.matrix.argmax(axis=1)[seen.symbols.astype(int) - 1]
    return RIGHT[:, stated].T, np.eye(2, dtype=bool)[stated]


def test_a_layer_that_was_moved_is_told_its_way_back(tmp_path: Path) -> None:
    truth, rng = _patchwork(1), np.random.default_rng(2)
    inner = rng.uniform(40, 760, (600, 2))
    column, row = (inner // 10).astype(int).T
    names = [LEGEND.names[k] for k in truth[row, column]]
    moved = np.array([12.0, -9.0])
    x, y = 400_000 + inner[:, 0] + moved[0], 5_800_000 - inner[:, 1] + moved[1]
    seen = _seen(_points(tmp_path, x, y, names, 5.0), 5.0)
    others = np.eye(2)[truth] * 0.9 + 0.05
    found = layer_shift(seen, _said(seen)[0], others)
    assert found is not None
    assert found.significant
    error = np.array([found.dx + moved[0], found.dy + moved[1]])
    sd = np.sqrt([found.covariance[1][1], found.covariance[0][0]])
    assert (np.abs(error) < 4 * sd + 1.0).all()
    few = _seen(_points(tmp_path, x[:20], y[:20], names[:20], 5.0), 5.0)
    assert layer_shift(few, _said(few)[0], others) is None


def test_noise_of_single_points_is_no_shift_of_the_layer(tmp_path: Path) -> None:
    told = []
    for seed in range(12):
        truth, rng = _patchwork(seed), np.random.default_rng(seed)
        inner = rng.uniform(40, 760, (40, 2))
        column, row = (inner // 10).astype(int).T
        wrong = rng.random(40) < 0.2
        names = [
            LEGEND.names[k] for k in np.where(wrong, 1 - truth[row, column], truth[row, column])
        ]
        x, y = inner.T + rng.normal(0, 12, (2, 40))
        seen = _seen(_points(tmp_path, 400_000 + x, 5_800_000 - y, names, 12.0), 12.0)
        found = layer_shift(seen, _said(seen)[0], np.eye(2)[truth] * 0.9 + 0.05)
        told.append(found is not None and found.significant)
    assert sum(told) <= 1


def test_a_point_across_the_edge_is_told_where_it_fits(tmp_path: Path) -> None:
    others = np.full((80, 80, 2), 0.03)
    others[:, :40, 0] = others[:, 40:, 1] = 0.97
    x = 400_000 + np.array([395.0, 405.0, 412.0, 440.0, 200.0])
    path = _points(tmp_path, x, np.full(5, 5_799_605.0), ["tree"] * 5, 8.0)
    seen = _seen(path, 8.0)
    places = suggest_places(seen, *_said(seen), others)
    assert np.isfinite(places.dx).tolist() == [False, True, True, False, False]
    assert (x[1:3] + places.dx[1:3] < 400_400).all()
    assert np.abs(places.dy[1:3]).max() < 3
    assert (places.sd[1:3] > 2).all()


def test_nobody_moves_where_all_agree(tmp_path: Path) -> None:
    truth, rng = _patchwork(3), np.random.default_rng(4)
    inner = rng.uniform(0, 800, (200, 2))
    column, row = (inner // 10).astype(int).T
    names = [LEGEND.names[k] for k in truth[row, column]]
    path = _points(tmp_path, 400_000 + inner[:, 0], 5_800_000 - inner[:, 1], names, 5.0)
    seen = _seen(path, 5.0)
    places = suggest_places(seen, *_said(seen), np.eye(2)[truth] * 0.9 + 0.05)
    assert np.isnan(places.dx).all()


@pytest.mark.parametrize(
    "name",
    [
        "SubmitterName",
        "meta/enumerator_name",
        "recordedBy",
        "_submitted_by",
        "Observer",
        "grp-phone_number",
        "mr_mapper",
        "User Name",
    ],
)
def test_people_are_known_by_their_columns(name: str) -> None:
    assert is_personal(name)


@pytest.mark.parametrize(
    "name",
    ["POINT_ID", "observed_class", "OBS_TYPE", "name", "use", "mapped", "farmland", "ReviewState"],
)
def test_other_columns_stay(name: str) -> None:
    assert not is_personal(name)


def test_people_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("id,class,observer,flag\n1,tree,Erika,3\n")
    assert list(read_field_table(path).columns) == ["id", "class", "flag"]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_no_formulas(value: float) -> None:
    assert guard(str(value)) == str(value)


@given(st.text(max_size=8))
def test_guarded_text_never_begins_a_formula(text: str) -> None:
    assert not FORMULA.match(guard(text))
    assert guard(guard(text)) == guard(text)
    assert guard(text).removeprefix("'") == text.removeprefix("'")


def _given_back(tmp_path: Path) -> Path:
    x = 400_000 + np.array([105.0, 205.0, 305.0])
    path = tmp_path / "points.csv"
    pd.DataFrame(
        {
            "id": ["a", "b", "c"],
            "x": x,
            "y": np.full(3, 5_799_605.0),
            "class": ["tree", "water", "tree"],
            "ReviewState": ["approved", "", "hasIssues"],
            "note": ["@SUM(A1)", "-3.5", "plain"],
            "enumerator": ["Erika Musterfrau"] * 3,
        }
    ).to_csv(path, index=False)
    seen = _seen(path, 5.0)
    corrections = Corrections(
        source="field",
        record=np.array(["b", "c"]),
        fault=np.array(["retag", "doubt"]),
        action=np.array(["modify", "flag"]),
        fate=np.array(["modify", "flag"]),
        current=np.array(["water", "tree"]),
        proposed=np.array(["tree", "water"]),
        probability=np.array([0.97, 0.93]),
        support=seen.geometry[1:],
        crs="EPSG:32633",
        because=("map",),
        round=2,
        provenance=seen.provenance,
    )
    nowhere = np.full(3, np.nan)
    verdicts = Verdicts(
        p_correct=np.array([0.9, 0.02, 0.07]),
        flags=np.array([1, 4, 4], np.uint8),
        suggested=np.array(["", "tree", "water"]),
        places=Places(dx=nowhere, dy=nowhere, sd=nowhere),
    )
    encode_field(corrections, seen, verdicts, path, {}, tmp_path / "out")
    return tmp_path / "out"


def test_observers_find_their_table_unchanged(tmp_path: Path) -> None:
    folder = _given_back(tmp_path)
    original = pd.read_csv(tmp_path / "points.csv", dtype=str, keep_default_na=False)
    layer = gpd.read_parquet(folder / "points_checked.parquet")
    for name in ("id", "class", "ReviewState", "note"):
        assert layer[name].tolist() == original[name].tolist()
    rows = list(csv.DictReader((folder / "points_checked.csv").read_text().splitlines()))
    assert [row["note"] for row in rows] == ["'@SUM(A1)", "-3.5", "plain"]
    fields = json.loads((folder / "datapackage.json").read_text())["resources"][0]["schema"]
    assert [one["name"] for one in fields["fields"]] == list(rows[0])
    package = gpd.read_file(folder / "points_checked.gpkg")
    assert shapely.get_x(package.geometry.to_numpy()).tolist() == [400_105, 400_205, 400_305]
    for one in folder.iterdir():
        assert b"Musterfrau" not in one.read_bytes(), one.name


def test_changeset_keeps_to_the_schema(tmp_path: Path, shared: Path) -> None:
    changes = json.loads((_given_back(tmp_path) / "td_changeset.json").read_text())
    (edit,), (doubt,) = (one["labels"] for one in changes["modify"])
    assert (edit["class"], edit.get("isNegative")) == ("tree", None)
    assert (doubt["class"], doubt["isNegative"], doubt["confidence"]) == ("tree", True, 0.93)
    stored = [json.loads(p.read_text()) for p in (shared / "schemas" / "tdml").glob("*.json")]
    resources = [
        (s["$id"], Resource.from_contents(s, default_specification=DRAFT7)) for s in stored
    ]
    registry = Registry().with_resources(resources)
    address = next(s["$id"] for s in stored if s.get("title") == "AI_TDChangeset")
    validator = jsonschema.Draft7Validator({"$ref": address}, registry=registry)
    assert [error.message for error in validator.iter_errors(changes)] == []
    broken = {**changes, "modify": [{**changes["modify"][0], "labels": []}]}
    assert list(validator.iter_errors(broken))
