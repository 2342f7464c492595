"""``glocal.run``, ``open`` and ``simulate``: the loop on files, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml

import glocal
from glocal.errors import ConfigError, RunError
from glocal.loop.score.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """Return a small simulated area and its run."""
    folder = tmp_path_factory.mktemp("world")
    earth = glocal.simulate(folder / "area", size=96, seed=1)
    said = []
    run = glocal.run(
        folder / "area" / "area.yaml",
        folder / "out",
        rounds=1,
        progress=lambda what, share: said.append(share),
    )
    assert said[-1] == 1
    return earth, run


def test_a_run_is_opened_with_its_layers(done):
    earth, run = done
    layers = run.layers
    assert set(layers) == {
        "estimate", "probability", "entropy", "disagreement", "probabilities"
    }  # fmt: skip
    np.testing.assert_allclose(layers["x"], earth.truth["x"])
    np.testing.assert_allclose(layers["probabilities"].sum("class"), 1, atol=1e-3)
    best = layers["probabilities"]["class"].values[layers["probabilities"].argmax("class")]
    names = dict(zip(run.legend.values, run.legend.names, strict=True))
    said = np.vectorize(names.get)(layers["estimate"].values)
    assert (said == best).mean() > 0.999
    truth = np.array(earth.classes)[earth.truth.values]
    assert (said == truth).mean() > 0.8


def test_a_run_tells_its_corrections_and_numbers(done):
    _, run = done
    assert set(run.corrections) <= set(run.sources.index)
    osm = run.corrections["osm"]
    assert osm.crs.to_epsg() == 32633
    assert set(osm["fate"]) <= {"modify", "create", "survey", "missing", "flag", "later"}
    assert len(osm) == sum(run.metrics.corrections["osm"].count.values())
    assert run.report.exists()
    assert "accuracy" in repr(run)
    assert "<img" in run._repr_html_()


def test_the_schema_of_the_numbers_is_that_of_the_documents(done):
    _, run = done
    schema = json.loads((ROOT / "docs" / "metrics.schema.json").read_text("utf-8"))
    assert schema == Metrics.model_json_schema(), "run: python scripts/schema.py"
    jsonschema.validate(json.loads((run.folder / "metrics.json").read_text("utf-8")), schema)


def test_what_is_finished_is_opened_again(done, monkeypatch):
    _, run = done
    monkeypatch.chdir(run.folder)  # where the paths of a mapping start
    content = yaml.safe_load((run.folder / "area.yaml").read_text("utf-8"))
    again = glocal.run(content, run.folder)
    assert again.metrics.round_kept == run.metrics.round_kept
    with pytest.raises(RunError, match="another configuration"):
        glocal.run(content, run.folder, seed=9)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="no finished run"):
        glocal.open(tmp_path)
    with pytest.raises(ConfigError, match="grid"):
        glocal.run({"name": "a"}, tmp_path / "out")


def test_the_front_door_lists_what_it_has():
    assert {"fuse", "run", "open", "simulate", "__version__"} <= set(dir(glocal))
    with pytest.raises(AttributeError, match="melt"):
        glocal.melt  # noqa: B018
