"""``glocal answers`` as people use it: what it prints, keeps, refuses."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from glocal.cli.main import app
from glocal.errors import ConfigError
from glocal.io.vector import read_table
from glocal.loop.answers import with_answers
from glocal.loop.area.area import read_area
from glocal.loop.area.config import load
from glocal.sources.osm.kind import TERMS
from tests.loop.places import challenge_view, proposals, quiet


@pytest.fixture
def mine(run: Path, tmp_path: Path) -> Path:
    """Return a copy of the finished run that may be answered."""
    shutil.copytree(run, tmp_path / "mine")
    return tmp_path / "mine"


def glocal(*words: object) -> Result:
    return CliRunner().invoke(app, [str(one) for one in words])


def state(folder: Path) -> dict[str, bytes]:
    return {one.name: one.read_bytes() for one in sorted((folder / "answers").iterdir())}


def test_it_says_what_it_understood_and_what_to_do_next(mine: Path, tmp_path: Path) -> None:
    asked = proposals(mine)
    ids = asked.loc[asked["fate"] == "modify", "proposal"].tolist()
    status = dict(zip(ids, ("Fixed", "Not_An_Issue", "Too_Hard", "Skipped", 5), strict=False))
    view = challenge_view(mine, status, tmp_path / "view.geojson")
    result = glocal("answers", mine, view)
    assert result.exit_code == 0, result.output
    for text in ("1 accepted", "1 rejected", "1 too hard", "1 skipped", "have not answered yet"):
        assert text in result.output
    assert f"glocal run {mine / 'area.yaml'}" in result.output
    assert f"--answers {mine / 'answers'}" in result.output


def test_the_same_file_twice_gives_the_same_bytes(mine: Path, tmp_path: Path) -> None:
    status = dict.fromkeys(proposals(mine)["proposal"][:4], "Fixed")
    view = challenge_view(mine, status, tmp_path / "view.geojson")
    glocal("answers", mine, view)
    once = state(mine)
    result = glocal("answers", mine, view, view, "--json")
    assert state(mine) == once
    assert json.loads(result.output)["answers"]["accepted"] == len(
        read_table(mine / "answers" / "answers.csv")
    )


def test_later_answers_are_added(mine: Path, tmp_path: Path) -> None:
    first, second = proposals(mine)["proposal"][:2]
    for one in (first, second):
        path = tmp_path / f"{one}.csv"
        path.write_text(f"proposal,answer\n{one},yes\n", encoding="utf-8")
        found = json.loads(glocal("answers", mine, path, "--json").output)
    assert found["answers"] == {"accepted": 2}
    assert len(found["files"]) == 2


def test_answers_to_another_run_are_refused_with_its_name(mine: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(mine, other)
    index = other / "corrections" / "osm" / "proposals.parquet"
    ids = proposals(other)["proposal"].tolist()
    content = proposals(other).assign(proposal=[f"x{one}" for one in ids])
    content.to_parquet(index)
    path = tmp_path / "review.csv"
    path.write_text(f"proposal,answer\nx{ids[0]},yes\n", encoding="utf-8")
    result = glocal("answers", mine, path)
    assert result.exit_code == 3
    assert str(other) in result.output
    assert not (mine / "answers").exists()
    assert glocal("answers", other, path).exit_code == 0


def test_answers_of_a_run_that_was_replaced_are_not_mixed(mine: Path, tmp_path: Path) -> None:
    path = tmp_path / "review.csv"
    path.write_text(f"proposal,answer\n{proposals(mine)['proposal'][0]},yes\n", encoding="utf-8")
    assert glocal("answers", mine, path).exit_code == 0
    (mine / "inputs.json").write_text("{}", encoding="utf-8")
    result = glocal("answers", mine, path)
    assert result.exit_code == 4
    assert "run again" in result.output


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text("proposal,answer\n", encoding="utf-8")
    result = glocal("answers", tmp_path, tmp_path / "file.csv")
    assert result.exit_code == 4
    assert "no finished run" in result.output


def test_an_unknown_file_changes_nothing(mine: Path, tmp_path: Path) -> None:
    good, bad = tmp_path / "review.csv", tmp_path / "notes.txt"
    good.write_text(f"proposal,answer\n{proposals(mine)['proposal'][0]},yes\n", encoding="utf-8")
    bad.write_text("hello", encoding="utf-8")
    result = glocal("answers", mine, good, bad)
    assert result.exit_code == 3
    assert "MapRoulette" in result.output
    assert not (mine / "answers").exists()


def test_places_of_the_plan_come_back_as_anchors(mine: Path, tmp_path: Path, run: Path) -> None:
    plan = read_table(mine / "corrections" / "field" / "visits.geojson")
    rows = [f"2024-05-01T10:00:00Z,{one},water,uuid:{one}" for one in plan["sample_id"][:10]]
    rows.append(f"2024-05-01T10:00:00Z,{plan['sample_id'][10]},cloud,uuid:k")
    path = tmp_path / "odk.csv"
    path.write_text("\n".join(["SubmissionDate,sample_id,cover,KEY", *rows]), encoding="utf-8")
    result = glocal("answers", mine, path)
    assert "11 of" in result.output
    assert "10 with a class" in result.output
    assert "--licence" in result.output
    config = load(run.parent / "world" / "area.yaml")
    before = read_area(config, quiet)
    after = read_area(with_answers(config, [mine / "answers"]), quiet)
    new = np.isin(after.anchors.record, plan["sample_id"].tolist())
    assert new.sum() == 11
    assert len(after.anchors) == len(before.anchors) + 11
    given = 1 / plan["inclusion_probability"][:11].to_numpy()
    heard = dict(zip(after.anchors.record.tolist(), after.anchors.weight.tolist(), strict=True))
    ratio = np.array([heard[one] for one in plan["sample_id"][:11]]) / given
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
    assert after.anchors.answered[new].sum() == 10
    # what has no known licence is no evidence for OSM, and costs the other anchors nothing
    assert len(after.under(TERMS).anchors) == len(before.under(TERMS).anchors)


def test_who_can_not_use_answers_as_evidence_is_not_asked_again(
    mine: Path, tmp_path: Path, run: Path
) -> None:
    """Answers about a map have no known licence; those about OSM in the same folder stay known."""
    edit = proposals(mine)["proposal"][0]
    patch = read_table(mine / "corrections" / "worldcover" / "patches.parquet")["change_id"][0]
    path = tmp_path / "review.csv"
    path.write_text(f"proposal,answer\n{edit},yes\n{patch},yes\n", encoding="utf-8")
    assert glocal("answers", mine, path).exit_code == 0
    config = load(run.parent / "world" / "area.yaml")
    area = read_area(with_answers(config, [mine / "answers"]), quiet)
    assert "review" in [one.source for one in area.observations]
    assert not area.is_whole_under(TERMS)
    seen = area.under(TERMS)
    assert "review" not in [one.source for one in seen.observations]
    (told,) = [one.about("osm").take(one.about("osm").verdict != "") for one in seen.answers]
    assert told.proposal.tolist() == [edit]


def test_the_same_answers_in_two_folders_count_once(mine: Path, tmp_path: Path, run: Path) -> None:
    status = dict.fromkeys(proposals(mine)["proposal"], "Fixed")
    glocal("answers", mine, challenge_view(mine, status, tmp_path / "view.geojson"))
    copy = tmp_path / "copy"
    shutil.copytree(mine / "answers", copy)
    config = load(run.parent / "world" / "area.yaml")
    area = read_area(with_answers(config, [mine / "answers", copy]), quiet)
    heard = {o.source: len(o) for o in area.observations if o.support == "answers"}
    assert heard["review"] > 0
    assert heard["review2"] == 0
    with pytest.raises(ConfigError, match="twice"):
        with_answers(config, [copy, copy])


def test_a_folder_that_holds_no_answers_is_refused(run: Path, tmp_path: Path) -> None:
    area = run.parent / "world" / "area.yaml"
    result = glocal("run", area, "--out", tmp_path / "out", "--answers", run)
    assert result.exit_code == 4
    assert "no folder of answers" in result.output


def test_no_file_names_a_person(mine: Path, tmp_path: Path) -> None:
    status = dict.fromkeys(proposals(mine)["proposal"], "Fixed")
    glocal("answers", mine, challenge_view(mine, status, tmp_path / "v.json", mr_reviewer="Erika"))
    assert len(pd.read_csv(mine / "answers" / "answers.csv")) > 3
    for name, content in state(mine).items():
        assert b"Some Body" not in content, name
        assert b"Erika" not in content, name


def test_a_table_to_fill_in_comes_back(mine: Path) -> None:
    result = glocal("answers", mine)
    assert f"glocal answers {mine} {mine / 'to_answer.csv'}" in result.output
    table = pd.read_csv(mine / "to_answer.csv", dtype=str, keep_default_na=False)
    assert set(proposals(mine)["proposal"]) <= set(table["proposal"])
    table.loc[:1, "answer"] = ["yes", "no"]
    row = table.index[(table["proposed"] != "water") & (table["answer"] == "")][0]
    table.loc[row, "stated"] = "water"
    table.to_csv(mine / "to_answer.csv", index=False)
    found = json.loads(glocal("answers", mine, mine / "to_answer.csv", "--json").output)
    assert found["answers"] == {"accepted": 1, "rejected": 1, "changed": 1}
    glocal("answers", mine)
    assert len(pd.read_csv(mine / "to_answer.csv")) == len(table) - 3
    (mine / "to_answer.csv").write_text(
        f"run,proposal,answer\nelsewhere-1,{table['proposal'][4]},yes\n", encoding="utf-8"
    )
    refused = glocal("answers", mine, mine / "to_answer.csv")
    assert refused.exit_code == 3
    assert "elsewhere-1" in refused.output
