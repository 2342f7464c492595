"""What really went wrong: every statement against the ground, and rates beside the knobs."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from glocal.synthetic.scene import Scene
from glocal.synthetic.source_maps import SILENT, rates
from glocal.synthetic.source_osm import KINDS, favourite
from glocal.synthetic.world import FAMILY

OUTCOMES = ("right", "outdated", "by_use", "imported", "mistagged")
"""What can be said of a tag, the first that holds."""


def outcome(scene: Scene) -> NDArray[np.str_]:
    """Return one of `OUTCOMES` for every mapped object, shape (m,)."""
    osm, ground = scene.osm, scene.ground
    right = osm.said == ground.now[osm.object]
    seen = ground.before[osm.object]
    changed_since = ground.changed[osm.object] < osm.age
    outdated = changed_since & (osm.said == seen)
    states = [right, outdated, osm.by_use, osm.imported >= 0]
    return np.asarray(np.select(states, list(OUTCOMES[:-1]), OUTCOMES[-1]))


def measured_rates(scene: Scene) -> dict[str, dict[str, float]]:
    """Return ``{what: {"configured", "measured"}}`` of all rates that a knob sets.

    ``configured`` is what the knobs promise, before the effects of other knobs.
    """
    world = scene.world
    rows = {**_maps(scene), **_osm(scene)}
    for name, rate, sd in (
        ("field", world.field_errors, world.field_sd_m),
        ("citizen", world.citizen_errors, world.citizen_sd_m),
    ):
        if name in scene.points:
            points = scene.points[name]
            rows[f"{name} errors"] = _row(rate, (points.said != points.truth).mean())
            spread = float(np.sqrt((points.step**2).mean())) if len(points) else 0.0
            rows[f"{name} position sd (m)"] = _row(sd, spread)
    if world.coarse_m and scene.coarse is not None:
        rows["cells of the coarse map"] = _row(
            (world.size * 10 / world.coarse_m) ** 2, scene.coarse.size
        )
    rows["cloud"] = _row(world.clouds, scene.images[0].cloud.mean())
    return rows


def _maps(scene: Scene) -> dict[str, dict[str, float]]:
    world, truth = scene.world, scene.ground.classes(scene.world.map_age)
    rows, wrong = {}, {}
    for name, rate in zip(FAMILY, world.map_errors, strict=False):
        said = scene.maps[name]
        wrong[name] = (said != truth) & (said != SILENT)
        speaks = (said != SILENT).mean()
        rows[f"{name} errors"] = _row(rate, wrong[name].sum() / max((said != SILENT).sum(), 1))
        rows[f"{name} silent"] = _row(world.silent, 1 - speaks)
    for (a, p), (b, q) in combinations(zip(FAMILY, world.map_errors, strict=False), 2):
        one, other = (rates(world, scene.ground, mean, world.map_age) for mean in (p, q))
        shared, alone = np.minimum(one, other).mean(), (one * other).mean()
        expected = world.shared_errors * shared + (1 - world.shared_errors) * alone
        both = (scene.maps[a] != SILENT) & (scene.maps[b] != SILENT)
        joint = (wrong[a] & wrong[b])[both].mean()
        rows[f"{a} and {b} both wrong"] = _row(expected, joint)
    return rows


def _osm(scene: Scene) -> dict[str, dict[str, float]]:
    world, osm, ground = scene.world, scene.osm, scene.ground
    large = ground.cells >= world.osm_min_cells
    mapped = np.zeros(len(ground.now), bool)
    mapped[osm.object[osm.imported < 0]] = True
    expected = np.array(world.completeness)[ground.now[large]].mean()
    rows = {"osm objects mapped": _row(expected, mapped[large].mean())}
    by_hand = (osm.imported < 0) & ~osm.by_use
    wrong = osm.said != ground.classes_of_some(osm.object, osm.age)
    for number, kind in enumerate(KINDS):
        of_kind = by_hand & (osm.kind == number)
        if kind == "biased":  # who leans towards a class is right where it is the true one
            of_kind &= favourite(osm.person) != ground.classes_of_some(osm.object, osm.age)
        if of_kind.any():
            rate = world.contributor_errors[number]
            rows[f"osm errors, {kind}"] = _row(rate, wrong[of_kind].mean())
    sd = float(np.hypot(world.trace_sd_m, world.object_sd_m))
    rest = osm.step - np.array(world.osm_shift_m)
    rows["osm position sd (m)"] = _row(sd, float(np.sqrt((rest**2).mean())) if len(osm) else 0)
    return rows


def _row(configured: Any, measured: Any) -> dict[str, float]:
    return {"configured": round(float(configured), 4), "measured": round(float(measured), 4)}
