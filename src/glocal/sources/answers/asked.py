"""What a run asked: its proposals and its places to visit, read from its folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas as gpd
import pandas as pd

from glocal.core.correction import correction_id
from glocal.errors import RunError
from glocal.io.vector import read_table
from glocal.sources.record import element_of

COLUMNS = (
    "proposal", "source", "record", "current", "proposed", "probability", "round", "kind",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """The questions of one run."""

    run: str
    """Name of the run: area and digest of its configuration and inputs."""

    proposals: gpd.GeoDataFrame
    """One row each, ``COLUMNS`` and a geometry (may be missing) in the grid's CRS."""

    visits: pd.DataFrame
    """Places of the sampling plan: ``sample_id``, ``x``, ``y``, ``inclusion_probability``."""

    def __len__(self) -> int:
        return len(self.proposals)

    @cached_property
    def _places(self) -> tuple[dict[str, list[int]], dict[str, list[int]]]:
        """Positions of the proposals by id, record and element, in lower case.

        Beside them those by the number of an OSM element, for files that lost its type.
        """
        named: dict[str, list[int]] = {}
        numbered: dict[str, list[int]] = {}
        for i, row in enumerate(self.proposals[["proposal", "record"]].itertuples(index=False)):
            element = element_of(row.record)
            for key in dict.fromkeys((*row, element)):
                named.setdefault(key.lower(), []).append(i)
            kind, _, number = element.partition("/")
            if kind in ("node", "way", "relation"):
                numbered.setdefault(number, []).append(i)
        return named, numbered

    def find(self, keys: Iterable[Any]) -> int | None:
        """Return the proposal that the first useful of ``keys`` names; None without one.

        A key is an id, a record, an element (``way/12``) or its bare number. One that
        names several proposals names none.
        """
        named, numbered = self._places
        for key in keys:
            text = str(key).strip().lower() if key is not None else ""
            if text.replace(".", "").isdigit():  # a number, as a spreadsheet wrote it
                text = text.removesuffix(".0")
            rows = named.get(text) or numbered.get(text, [])
            if len(rows) == 1:
                return rows[0]
        return None


def run_name(folder: Path) -> str:
    """Return the name of a run, its area and a digest of its files; ``RunError`` without one."""
    try:
        config, inputs = (folder / name for name in ("area.yaml", "inputs.json"))
        digest = hashlib.sha256(config.read_bytes() + inputs.read_bytes()).hexdigest()
        metrics = json.loads((folder / "metrics.json").read_text("utf-8"))
        return f"{metrics['area']}-{digest[:10]}"
    except (OSError, ValueError, KeyError) as error:
        raise RunError(
            f"{folder} holds no finished run ({error}); give the folder that "
            "'glocal run area.yaml --out DIR' wrote"
        ) from error


def read_asked(folder: Path, crs: str) -> Asked:
    """Return what the run in ``folder``, with a grid in ``crs``, asked.

    Mappers were asked what the index of their proposals lists, makers of maps about
    patches, all others about the run's corrections. What was held back was not asked.

    Raises
    ------
    RunError
        The folder holds no finished run, or one of an earlier version.
    """
    name, room = run_name(folder), folder / "corrections"
    indexed = [read_table(path).to_crs(crs) for path in sorted(room.glob("*/proposals.parquet"))]
    indexed = [one[one["fate"] != "later"] for one in indexed]
    patches = [_patches(path) for path in sorted(room.glob("*/patches.parquet"))]
    path = folder / "corrections.parquet"
    if not path.exists():
        raise RunError(f"{folder} holds no corrections ({path.name} is missing); run it again")
    others = read_table(path)
    if "kind" not in others:
        raise RunError(
            f"{path} does not say what was wrong with each record, as an earlier version wrote it; "
            "run the area again into another folder, and give the answers to that one"
        )
    told = {one for part in (*indexed, *patches) for one in part["source"]}
    others = others[~others["source"].isin(list(told))]
    given = zip(others["source"], others["record"], others["proposed"], strict=True)
    others = others.assign(proposal=[correction_id(*row) for row in given])
    every = [pd.DataFrame(one)[[*COLUMNS, "geometry"]] for one in (*indexed, *patches, others)]
    parts = [one for one in every if len(one)]
    table = pd.concat(parts, ignore_index=True) if parts else every[-1]
    table = table.drop_duplicates("proposal").sort_values("proposal", ignore_index=True)
    proposals = gpd.GeoDataFrame(table, geometry="geometry", crs=crs)
    columns, visits = ["sample_id", "x", "y", "inclusion_probability"], []
    for path in sorted(room.glob("*/visits.geojson")):
        plan = read_table(path).to_crs(crs)
        plan = plan.assign(x=plan.geometry.x.round(3), y=plan.geometry.y.round(3))
        visits.append(pd.DataFrame(plan[columns]))
    places = pd.concat(visits, ignore_index=True) if visits else pd.DataFrame(columns=columns)
    places = places.drop_duplicates("sample_id", ignore_index=True)
    return Asked(run=name, proposals=proposals, visits=places)


def _patches(path: Path) -> pd.DataFrame:
    """Return the patches of a corrected map, by their ``change_id``."""
    names = {"class_from": "current", "class_to": "proposed", "p_to": "probability"}
    table = pd.DataFrame(read_table(path)).rename(columns=names)
    ids = table["change_id"]
    return table.assign(proposal=ids, record=ids, source=path.parent.name, kind="patch")
