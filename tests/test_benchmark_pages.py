"""The benchmarks' pages say what the stored results say, and results are sound."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from benchmarks import stored, tables
from benchmarks.stored import RESULTS, Column, Result, Table, means, pivot, read, span, to_json

TABLE = Table(
    columns=(
        Column(name="method"),
        Column(name="of"),
        Column(name="accuracy ↑", digits=2, best="max"),
        Column(name="gain", digits=1, signed=True),
        Column(name="counted"),
    ),
    rows=(
        ("loop, one round", "a", (0.9, 0.8, 0.95), 1, "cells"),
        ("loop, one round", "b", 0.899, None, None),
        ("other", "a", None, -0.04, "points"),
    ),
)
RESULT = Result(
    command="python -m benchmarks.none",
    version="0.1.0",
    date="2026-11-22",
    machine="one core",
    seeds=(3, 4, 5),
    tables={"first-one": TABLE},
)
MARKDOWN = """\
| method | of | accuracy ↑ | gain | counted |
| --- | --- | ---: | ---: | --- |
| loop, one round | a | **0.90** (0.80 to 0.95) | +1.0 | cells |
| loop, one round | b | **0.90** |  |  |
| other | a |  | -0.0 | points |"""
ABOUT = (
    "<sub>`python -m benchmarks.none`; seeds 3 to 5; version 0.1.0; 2026-11-22; one core; "
    "[all figures](found.json)</sub>"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of results that holds one."""
    path = tmp_path / "results"
    path.mkdir()
    (path / "found.json").write_text(to_json(RESULT), "utf-8")
    monkeypatch.setattr(stored, "RESULTS", path)
    monkeypatch.setattr(tables, "RESULTS", path)
    return path


@pytest.mark.parametrize("path", tables.documents(), ids=lambda one: one.name)
def test_documents_say_what_the_results_say(path):
    text = path.read_text("utf-8")
    assert tables.written(text, path.parent) == text, "run python -m benchmarks.tables"


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda one: one.stem)
def test_every_result_is_sound_and_shown(path):
    read(path.stem)
    text = "".join(one.read_text("utf-8") for one in tables.documents())
    assert f"<!-- table {path.stem}/" in text or f"{path.stem}.json#" in text


@pytest.mark.parametrize("path", tables.documents(), ids=lambda one: one.name)
def test_no_figure_stands_in_a_table_by_hand(path):
    text = tables.FIGURE.sub("", tables.TABLE.sub("", path.read_text("utf-8")))
    assert re.findall(r"^\|.*\d\.\d.*$", text, re.MULTILINE) == []


def test_a_stored_result_is_read_as_it_was(folder):
    assert read("found") == RESULT
    assert to_json(read("found")) == (folder / "found.json").read_text("utf-8")


def test_tables_and_figures_are_written_into_a_text(folder):
    link = "results/found.json#first-one/loop-one-round-b/accuracy"
    text = f"a\n<!-- table found/first-one -->\nold\n<!-- /table -->\nand [?]({link}), [b](c#d/e/f)"
    once = tables.written(text, folder)
    assert once == (
        f"a\n<!-- table found/first-one -->\n{MARKDOWN}\n\n{ABOUT}\n<!-- /table -->\n"
        f"and [0.90]({link}), [b](c#d/e/f)"
    )
    assert tables.written(once, folder) == once


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("<!-- table lost/first-one -->\n<!-- /table -->", "there is no result 'lost', only"),
        ("<!-- table found/lost -->\n<!-- /table -->", "there is no table 'lost', only"),
        ("<!-- table found/first-one -->\n", "must be closed"),
        ("[1](results/found.json#first-one/other/gain)", "other/gain is not one of"),
        ("[1](results/found.json#first-one/other-a/lost)", "other-a/lost is not one of"),
        ("[1](results/found.json#first-one/other-a)", "must be TABLE/ROW/COLUMN of found.json"),
    ],
)
def test_what_a_document_asks_for_must_be_there(folder, text, why):
    with pytest.raises(ValueError, match=why):
        tables.written(text, folder)


@pytest.mark.parametrize(
    ("cell", "digits"),
    [
        ("0.9", 2),
        (0.9, None),
        (float("nan"), 2),
        ((0.5, 0.6, 0.4), 2),
        ((0.5, 0.4), 2),
        (True, None),
    ],
)
def test_a_column_holds_only_what_it_shows(cell, digits):
    with pytest.raises(ValueError, match="can't hold"):
        Table(columns=(Column(name="a"), Column(name="b", digits=digits)), rows=(("x", cell),))


@pytest.mark.parametrize(
    "change",
    [
        {"columns": TABLE.columns[2:]},
        {"columns": (*TABLE.columns[:-1], Column(name="gain"))},
        {"rows": (*TABLE.rows, TABLE.rows[0])},
        {"rows": (("short",),)},
    ],
)
def test_rows_and_columns_have_names_of_their_own(change):
    with pytest.raises(ValueError, match=r"row|column"):
        replace(TABLE, **change)


def test_damaged_results_are_named(folder):
    for text in ("{}", "[]", to_json(RESULT).replace("2026-11-22", "today")):
        (folder / "found.json").write_text(text, "utf-8")
        with pytest.raises(ValueError, match=r"found\.json holds no result"):
            read("found")


def test_spans_are_means_with_ends():
    values = [("a", "x", 1.0), ("a", "x", 2.0), ("b", "y", 4.0), ("a", "y", 3.0), ("b", "z", 9.0)]
    columns = [Column(name=name, digits=0) for name in ("x", "y", "mean")]
    found = pivot("row", columns, [*values, *means(values)])
    assert found.rows == (("a", (1.5, 1.0, 2.0), 3.0, 2.0), ("b", None, 4.0, 6.5))
    assert span([0.5, 0.5]) == 0.5
