"""Proposals go out, mappers do some and refuse others, and the next run has heard them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import shapely
from numpy.typing import NDArray

from glocal.core.burn import burn
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.loop.answers import take_answers, with_answers
from glocal.loop.area.area import Area, read_area
from glocal.loop.area.config import load, with_options
from glocal.loop.rounds.findings import findings_of, told
from glocal.loop.rounds.turns import Turn, turns
from glocal.loop.run import run_area
from glocal.sources.field.kind import visits_for
from glocal.sources.people.review import Bias, table_of
from tests.loop.places import challenge_view, newer_extract, proposals, quiet, reading_of


@dataclass(frozen=True)
class Round:
    """What happened between two runs."""

    run: Path
    asked: pd.DataFrame
    accepted: list[str]
    rejected: list[str]
    too_hard: str
    summary: dict[str, Any]
    area: Area
    """Of the next run, with the newer extract and the answers."""

    turn: Turn
    deaf: tuple[Area, Turn]
    """The same without the answers."""


def _is(asked: pd.DataFrame, fate: str) -> list[str]:
    return asked.loc[asked["fate"] == fate, "proposal"].tolist()


def nobody_was_at(asked: pd.DataFrame, ids: list[str], anchors: Path) -> str:
    """Return the first proposal in whose area no reference point lies."""
    table = pd.read_csv(anchors)
    points = shapely.multipoints(table[["x", "y"]].to_numpy())
    shape = asked.set_index("proposal").geometry
    return next(one for one in ids if not shape[one].intersects(points))


@pytest.fixture(scope="module")
def after(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Round:
    room = tmp_path_factory.mktemp("round")
    first = room / "run"
    shutil.copytree(run, first)
    world = run.parent / "world"
    asked = proposals(first)
    edits = _is(asked, "modify")
    accepted, rejected = edits[:3] + _is(asked, "create"), edits[-3:]
    elements = asked.set_index("proposal")["element"]
    newer = newer_extract(
        world / "extract.osm",
        (first / "corrections" / "osm" / "proposal.osc").read_text("utf-8"),
        {elements[one] or "new" for one in accepted},
        room / "newer.osm",
    )
    too_hard = nobody_was_at(asked, edits[3:-3], world / "anchors.csv")
    done = dict.fromkeys(accepted, "Fixed") | dict.fromkeys(rejected, "Not_An_Issue")
    view = challenge_view(first, done | {too_hard: 6}, room / "view.geojson")
    summary = take_answers(first, [view, newer])
    config = load(world / "area.yaml")
    sources = [one.model_dump() for one in config.sources]
    for one in sources:
        if one["kind"] == "osm":
            one["path"] = newer
    config = with_options(config, sources=sources)
    deaf = turns(read_area(config, quiet), 1)
    area, turn = turns(read_area(with_answers(config, [first / "answers"]), quiet), 1)
    return Round(first, asked, accepted, rejected, too_hard, summary, area, turn, deaf)


def again(after: Round) -> pd.DataFrame:
    """Return what the next run proposes to OSM."""
    found = proposed(after.area, after.turn)
    return pd.DataFrame({"record": found.record, "proposed": found.proposed})


def proposed(area: Area, turn: Turn) -> Corrections:
    """Return what OSM is told at full sharpness."""
    osm = reading_of(area, "osm")
    return told(osm, findings_of(area, turn, osm, sharpness=1.0))


def rows(after: Round, ids: list[str]) -> pd.DataFrame:
    return after.asked.set_index("proposal").loc[ids]


def test_all_is_understood(after: Round) -> None:
    answers = after.summary["answers"]
    assert len(after.accepted) >= 3
    assert len(after.rejected) == 3
    assert answers == {"accepted": len(after.accepted), "rejected": 3, "too_hard": 1}


def test_what_was_answered_is_not_asked_again(after: Round) -> None:
    found = again(after)
    pairs = set(zip(found["record"].str.partition("@")[0], found["proposed"], strict=True))
    for one in rows(after, after.accepted + after.rejected).itertuples():
        assert (one.element, one.proposed) not in pairs
    mapped = burn(rows(after, after.accepted).geometry.to_numpy(), after.area.geobox) > 0
    new = [text.split("/")[2].split("_") for text in found["record"] if text.startswith("new/")]
    for x, y in new:
        column, row = ~after.area.geobox.transform * (float(x), float(y))
        assert not mapped[int(row), int(column)]


def test_the_question_that_was_too_hard_may_be_asked_again(after: Round) -> None:
    before = proposed(*after.deaf).record
    hard = after.asked.set_index("proposal").loc[after.too_hard, "record"]
    assert hard in before
    assert hard in again(after)["record"].tolist()


def test_somebody_is_sent_where_it_was_too_hard(after: Round) -> None:
    place = after.asked.set_index("proposal").geometry[after.too_hard]
    field = reading_of(after.area, "field")
    heard = findings_of(after.area, after.turn, field)
    deaf = replace(heard, too_hard=None)

    def sent(seed: int, findings: Findings) -> int:
        window = replace(field.window, seed=seed)
        plan = visits_for(replace(field, window=window), findings)
        inside = plan.within(place)
        hard = plan["reason"] == "too hard to tell from afar"
        assert hard.tolist() == (inside & (findings is heard)).tolist()
        return int(inside.sum())

    assert 6 <= sum(sent(seed, heard) for seed in range(12)) <= 24  # about one each
    assert sum(sent(seed, deaf) for seed in range(12)) < 6


def test_our_own_edits_have_no_voice_of_their_own(after: Round) -> None:
    osm = next(one for one in after.area.observations if one.source == "osm")
    deaf = next(one for one in after.deaf[0].observations if one.source == "osm")
    gone = set(deaf.record[deaf.symbols > 0]) - set(osm.record[osm.symbols > 0])
    edited = rows(after, [one for one in after.accepted if rows(after, [one])["element"].iloc[0]])
    ours = {f"{one.element}@{one.base_version + 1}" for one in edited.itertuples()}
    drawn = len(after.accepted) - len(edited)
    assert ours <= gone
    assert len(gone) == len(ours) + drawn


def probability(turn: Turn, area: Area, asked: pd.DataFrame) -> NDArray[np.float64]:
    """Return the mean probability of the proposed class in each place, shape (n,)."""
    p = turn.estimate.p
    out = []
    for one in asked.itertuples():
        inside = burn(np.array([one.geometry], object), area.geobox) > 0
        out.append(p[inside][:, area.legend.index(one.proposed)].mean())
    return np.array(out)


def test_rejected_classes_become_less_likely_there(after: Round) -> None:
    asked = rows(after, after.rejected)
    heard = probability(after.turn, after.area, asked)
    assert (heard < probability(after.deaf[1], after.deaf[0], asked) - 1e-4).all()


def test_answers_are_heard_only_where_somebody_answered(after: Round) -> None:
    """Elsewhere the estimate moves only by what was learned of the sources as a whole."""
    answered = rows(after, after.accepted + after.rejected)
    inside = burn(answered.geometry.to_numpy(), after.area.geobox) > 0
    told = after.turn.fused.fit.messages["review"].log_p
    of_cell = after.turn.fused.fit.problem.units.of_cell.reshape(inside.shape)
    assert told[of_cell[inside]].any(axis=-1).all()
    assert not told[of_cell[~inside]].any()
    heard, deaf = after.turn.estimate.classes, after.deaf[1].estimate.classes
    assert (heard != deaf)[~inside].mean() < 0.02


@pytest.fixture(scope="module")
def plain(run: Path) -> tuple[Area, Turn]:
    return turns(read_area(load(run.parent / "world" / "area.yaml"), quiet), 1)


def with_status(run: Path, room: Path, status: str) -> tuple[Area, Turn]:
    """Return the next run after all tasks of the first got one status."""
    shutil.copytree(run, room / "run")
    view = challenge_view(
        room / "run", dict.fromkeys(proposals(run)["proposal"], status), room / "view.json"
    )
    take_answers(room / "run", [view])
    config = load(run.parent / "world" / "area.yaml")
    return turns(read_area(with_answers(config, [room / "run" / "answers"]), quiet), 1)


def agreement(area: Area, turn: Turn, asked: pd.DataFrame) -> float:
    """Return how often maps are held to be right with the words that spoke for proposals."""
    found = []
    for one in asked.itertuples():
        inside = burn(np.array([one.geometry], object), area.geobox) > 0
        k = area.legend.index(one.proposed)
        for said in area.observations:
            if said.support == "cells":
                symbol = np.bincount(said.symbols[inside]).argmax()
                counts = turn.fused.fit.confusion[said.source].counts.sum(axis=0)[:, symbol - 1]
                if said.crosswalk.matrix[symbol - 1].argmax() == k:
                    found.append(counts[k] / counts.sum())
    return float(np.mean(found))


def _without_points(area: Area) -> Area:
    return replace(area.without(area.reference.record), anchors=None)


def test_rejections_lower_the_trust_in_those_who_spoke_for_the_proposals(
    run: Path, plain: tuple[Area, Turn], tmp_path: Path
) -> None:
    """Without reference points, which would outweigh eight answers."""
    asked = proposals(run)
    edits = asked[asked["fate"] == "modify"]
    heard, _ = with_status(run, tmp_path, "Not_An_Issue")
    before, now = (turns(_without_points(area), 1) for area in (plain[0], heard))
    assert agreement(*now, edits) < agreement(*before, edits) - 1e-3
    likely, unlikely = (probability(turn, area, edits) for area, turn in (before, now))
    assert (unlikely < likely - 1e-3).all()
    inside = burn(edits.geometry.to_numpy(), heard.geobox) > 0
    change = np.abs(now[1].estimate.p - before[1].estimate.p).max(axis=-1)
    assert change[inside].mean() > 3 * change[~inside].mean()
    assert np.median(change[~inside]) < 0.01


def test_held_out_points_teach_nothing_of_those_who_answer(after: Round) -> None:
    def table(area: Area) -> NDArray[np.float64]:
        return next(one.declared for one in area.observations if one.support == "answers")

    bare = after.area.without(after.area.reference.record)
    declared = table_of(len(after.area.legend), Bias())
    np.testing.assert_allclose(table(bare), declared, rtol=1e-9)
    assert np.abs(table(after.area) - declared).max() > 0.01


def test_answers_that_say_nothing_change_nothing(
    run: Path, plain: tuple[Area, Turn], tmp_path: Path
) -> None:
    _, heard = with_status(run, tmp_path, "Skipped")
    np.testing.assert_array_equal(heard.estimate.log_p, plain[1].estimate.log_p)


def test_a_whole_run_hears_answers_and_tells_those_who_gave_them(
    after: Round, tmp_path: Path
) -> None:
    config = with_answers(after.area.config, [])
    metrics = run_area(config, tmp_path / "next", progress=quiet)
    assert metrics.corrections["review"].count["answers"] == 6 + (len(after.accepted) - 3)
    back = pd.read_csv(tmp_path / "next" / "corrections" / "review" / "answers_checked.csv")
    assert set(back["proposal"]) == set(after.accepted + after.rejected)
    assert back["p_right"].between(0, 1).all()
    spoken = "".join(
        path.read_text("utf-8", "ignore") for path in (after.run / "answers").iterdir()
    )
    assert "Some Body" not in spoken
