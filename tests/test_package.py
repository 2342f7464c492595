"""Promises of the package as a whole: light import, true names, documents that run."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pkgutil
import re
import shlex
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import typer
import typer.core
import yaml

import glocal
import msgfm
from glocal.cli.lazy import load
from glocal.cli.main import COMMANDS
from glocal.loop.area.config import validate

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted(
    one
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "packages/**/*.md")
    for one in ROOT.glob(pattern)
)
OPTIONAL = {
    "msgfm.export": "openvino",
    "glocal.sources.images.clouds_s2cloudless": "s2cloudless",
}
MODULES = [
    info.name
    for package in (glocal, msgfm)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if info.name != "glocal.__main__"
    and (info.name not in OPTIONAL or importlib.util.find_spec(OPTIONAL[info.name]))
]


def blocks(language):
    """Return (document:number, text) of every fenced block in one language."""
    found = []
    for path in DOCUMENTS:
        texts = [text for name, text in FENCE.findall(path.read_text("utf-8")) if name == language]
        found += [
            pytest.param(text, id=f"{path.relative_to(ROOT)}:{i}") for i, text in enumerate(texts)
        ]
    return found


@pytest.mark.parametrize("name", ["glocal", "glocal.core.sensor", "glocal.errors"])
def test_import_is_light(name):
    heavy = ("torch", "msgfm", "einops", "safetensors", "lightning_fabric", "transformers")
    heavy += ("dask", "rasterio", "sklearn") if name == "glocal" else ()
    code = f"import sys, {name}; print([m for m in {heavy!r} if m in sys.modules])"
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("name", MODULES)
def test_every_public_name_exists(name):
    module = importlib.import_module(name)
    public = getattr(module, "__all__", ())
    assert len(set(public)) == len(public)
    assert [one for one in public if not hasattr(module, one)] == []


@pytest.mark.parametrize(
    "path", ["py.typed", "core/sensors.toml", "core/tables/maps.json", "loop/havel_points.csv"]
)
def test_data_files_come_with_the_package(path):
    assert resources.files("glocal").joinpath(path).is_file()


@pytest.mark.parametrize("text", blocks("python"))
def test_python_in_documents_runs(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(text, "document", "exec"), {"__name__": "document"})


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_in_documents_is_a_valid_area(text, tmp_path):
    validate(yaml.safe_load(text), folder=tmp_path, label="document")


@pytest.mark.parametrize("text", blocks("sh"))
def test_commands_in_documents_exist(text):
    for line in text.splitlines():
        words = shlex.split(line, comments=True)
        if words and words[0] == "make":
            makefile = (ROOT / "Makefile").read_text("utf-8")
            assert all(f"\n{target}:" in makefile for target in words[1:])
        if words and words[0].endswith("glocal"):
            check_command(words[1:])


def check_command(words):
    """Check that a command exists and knows the options given to it."""
    if words[0].startswith("-"):
        assert words[0] in ("--help", "--version")
        return
    assert words[0] in COMMANDS
    command = load(words[0])
    while isinstance(command, typer.core.TyperGroup):
        words = words[1:]
        command = command.get_command(None, words[0])
    known = {one for param in command.params for one in param.opts} | {"--help"}
    assert {one for one in words if one.startswith("--")} <= known


def test_documents_link_to_files_that_exist():
    missing = [
        f"{path.relative_to(ROOT)} -> {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text("utf-8"))
        if not (path.parent / target).exists()
    ]
    assert missing == []
