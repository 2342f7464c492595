"""The areas by name, and which of them the engine may be tuned on.

The split was written down before any result on these areas was seen.

Left out, for no truth that no source saw: Kempen (two LUCAS points and nine declared fields lie
in it), Aberystwyth (no labels), the third site of WorldCereal (one land cover) and the third of
TerraMind (one class).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.real.cubes import flanders_2018, flanders_2019, waremme
from benchmarks.real.ground import Ground, ground
from benchmarks.real.scenes import bolzano, brazil, tanzania
from glocal.loop.demo import AREA, TABLE, demo_config, demo_points, find_data

__all__ = ["AREAS", "DEVELOPMENT", "REPORTING", "make"]

DEVELOPMENT = ("havel", "flanders_2018", "brazil")
"""Areas on which choices may be made."""

REPORTING = ("bolzano", "flanders_2019", "tanzania", "waremme")
"""Areas that report, and decide nothing."""


def havel(data: Path, folder: Path) -> Ground:
    """Havel lakes, 15.4 x 7.7 km: the demo's image of February 2017, OpenStreetMap, MODIS, rules.

    Truth: the 169 answered of 180 points of a simple random sample, read from the image by a
    single machine interpreter without OpenStreetMap (CC0). It can't prove independence from the
    image; crop and grass in winter are doubtful; built, wetland and bare are few or none.
    """
    written = demo_config(find_data(), demo_points()).model_dump(mode="json", exclude_none=True)
    sources = [one for one in written["sources"] if one["kind"] != "insitu"]
    truth = pd.read_csv(demo_points(), keep_default_na=False)
    truth = truth[truth["class"].isin(list(TABLE["classes"]))]
    kept = ["id", "x", "y", "class", "confidence", "second"]
    said = {*truth["class"], *truth["second"]}
    classes = [code for name, code in TABLE["classes"].items() if name in said]
    area = {
        "grid": AREA["grid"],
        "date": AREA["date"],
        "legend": AREA["legend"],
        "classes": classes,
        "sources": sources,
    }
    return ground(folder, truth[kept].reset_index(drop=True), area, licence="CC0-1.0")


AREAS: dict[str, Callable[[Path, Path], Ground]] = {
    "havel": havel,
    "flanders_2018": flanders_2018,
    "brazil": brazil,
    "bolzano": bolzano,
    "flanders_2019": flanders_2019,
    "tanzania": tanzania,
    "waremme": waremme,
}


def make(name: str, data: Path, folder: Path) -> Ground:
    """Write an area into ``folder/name`` and return it with its truth."""
    return AREAS[name](data.absolute(), folder / name)
