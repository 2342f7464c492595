"""``DIR/answers``: what was asked and answered, whole or not at all, and never counted twice."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from glocal.core.answer import SPEAKS, Answered
from glocal.errors import BadSourceError, RunError
from glocal.io.atomic import replacing_folder, write_json
from glocal.io.vector import read_table, write_csv, write_table
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.verdict import Answer, Heard, Verdict, Visit, resolved

ANSWERS = ("proposal", "verdict", "stated", "channel", "version", "why")
VISITS = ("sample_id", "x", "y", "class", "inclusion_probability")
NOTE = "© OpenStreetMap contributors where OpenStreetMap was asked about"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stored:
    """A folder of answers, as a later run reads it."""

    run: str
    proposals: gpd.GeoDataFrame
    """All proposals of the run that asked, with ``verdict`` and ``stated`` (empty: none)."""

    visits: pd.DataFrame
    """Columns ``VISITS``, numbers as numbers; an empty class is a visit without one."""

    licence: str
    """Of the visits, and of answers to those who have no licence of their own."""

    def answered(self, crs: str) -> Answered:
        """Return the answers with places in ``crs``."""
        table = self.proposals.to_crs(crs)
        names = ("source", "proposal", "record", "current", "proposed", "verdict", "stated")
        columns = {name: table[name].to_numpy(str) for name in names}
        return Answered(
            **columns, fault=table["kind"].to_numpy(str), geometry=table.geometry.to_numpy()
        )


def merged(old: Iterable[Answer], new: Iterable[Answer]) -> list[Answer]:
    """Return one answer per proposal and channel: the new one, unless only the old speaks.

    The result is sorted, and merging the same answers again changes nothing.
    """
    kept = {(one.proposal, one.channel): one for one in old}
    for one in new:
        before = kept.get((one.proposal, one.channel))
        if before is None or one.verdict in SPEAKS or before.verdict not in SPEAKS:
            kept[one.proposal, one.channel] = one
    return [kept[key] for key in sorted(kept)]


def keep_answers(
    folder: Path, asked: Asked, heard: Mapping[str, Heard], *, licence: str
) -> dict[str, Any]:
    """Add what files say (by their digest) to ``folder``; return the summary of all so far.

    The same answers twice give the same bytes. Names of people are in none of the files.

    Raises ``RunError``: the folder holds answers to another run.
    """
    before = _summary(folder) if folder.exists() else None
    if before is not None and before["run"] != asked.run:
        raise RunError(
            f"{folder} holds answers to run {before['run']}, this is run {asked.run}; its folder "
            "was run again: keep the old answers elsewhere"
        )
    old = _answers(folder) if before else []
    answers = merged(old, [one for file in heard.values() for one in file.answers])
    found = _visits_of(asked, folder, [one for file in heard.values() for one in file.visits])
    table = _with_verdicts(asked, answers)
    files = {
        digest: {"kind": one.channel, "answers": len(one.answers), "visits": len(one.visits)}
        for digest, one in heard.items()
    }
    summary = {
        "run": asked.run,
        "asked": len(asked),
        "places": len(asked.visits),
        "answers": dict(Counter(one for one in table["verdict"].tolist() if one)),
        "visits": {"answered": int((found["class"] != "").sum()), "returned": len(found)},
        "files": {**(before["files"] if before else {}), **files},
        "licence": licence if licence != "unknown" or not before else before["licence"],
    }
    with replacing_folder(folder.absolute()) as part:
        rows = [[getattr(one, name) for name in ANSWERS] for one in answers]
        write_csv(part / "answers.csv", ANSWERS, rows)
        write_csv(part / "visits.csv", VISITS, found.to_numpy(object).tolist())
        write_table(part / "proposals.parquet", table, licence="ODbL-1.0", attribution=NOTE)
        write_json(part / "summary.json", summary)
    return summary


def _summary(folder: Path) -> dict[str, Any]:
    try:
        summary: dict[str, Any] = json.loads((folder / "summary.json").read_text("utf-8"))
        if not {"run", "files", "licence"} <= summary.keys():
            raise ValueError("it is not one of ours")
    except (OSError, ValueError) as error:
        raise RunError(
            f"{folder} is no folder of answers ({error}); make one with "
            "'glocal answers DIR FILE...', or remove it"
        ) from error
    return summary


def _answers(folder: Path) -> list[Answer]:
    table = read_table(folder / "answers.csv")
    if list(table.columns) != list(ANSWERS):
        raise BadSourceError(f"{folder / 'answers.csv'} must have the columns {list(ANSWERS)}")
    rows = table.to_dict("records")
    return [Answer(**{**one, "version": int(one["version"])}) for one in rows]


def _visits_of(asked: Asked, folder: Path, new: Iterable[Visit]) -> pd.DataFrame:
    """Return the visited places of the plan with what was found, the newest per place."""
    stated: dict[str, str] = {}
    if (folder / "visits.csv").exists():
        stated = read_table(folder / "visits.csv").set_index("sample_id")["class"].to_dict()
    for one in new:
        if one.stated or one.sample_id not in stated:
            stated[one.sample_id] = one.stated
    plan = asked.visits[asked.visits["sample_id"].isin(list(stated))].copy()
    plan["class"] = [stated[one] for one in plan["sample_id"].tolist()]
    return plan.sort_values("sample_id", ignore_index=True)[list(VISITS)]


def _with_verdicts(asked: Asked, answers: Iterable[Answer]) -> gpd.GeoDataFrame:
    given: dict[str, list[tuple[Verdict, str]]] = {}
    for one in answers:
        given.setdefault(one.proposal, []).append((one.verdict, one.stated))
    final = [resolved(given.get(one, ())) for one in asked.proposals["proposal"].tolist()]
    return asked.proposals.assign(
        verdict=[verdict for verdict, _ in final], stated=[stated for _, stated in final]
    )


def load_answers(folder: Path) -> Stored:
    """Return the answers that `keep_answers` wrote.

    Raises ``RunError``: it is no folder of answers.
    """
    summary = _summary(folder)
    visits = read_table(folder / "visits.csv")
    numbers = {name: pd.to_numeric(visits[name]) for name in ("x", "y", "inclusion_probability")}
    return Stored(
        run=summary["run"],
        proposals=read_table(folder / "proposals.parquet"),
        visits=visits.assign(**numbers),
        licence=summary["licence"],
    )
