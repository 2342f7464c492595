"""Turns of the loop: fuse, teach the models, listen to them, fuse again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely
from numpy.typing import NDArray

from glocal.core.grid import cells_of_points
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement, relative_entropy
from glocal.fusion.alarms import Sight, fallen, sight
from glocal.fusion.fuse import Fused, fuse
from glocal.fusion.place.shifts import object_shift, raster_shifts
from glocal.fusion.problem.support import paint
from glocal.loop.area.area import Area, cells_of
from glocal.sources.models.predict import Labels, observe_predicted, predict

__all__ = [
    "Turn",
    "better",
    "for_osm",
    "labels_of",
    "lesson",
    "model_source",
    "next_turn",
    "resumed_turn",
    "sight_of",
    "start",
    "turns",
    "why_not",
]

SOFT_CELLS = 1000
"""Cells drawn as soft labels for a model, each round."""

SOFT_WEIGHT = 0.3
"""Weight of one soft label, for a class that is certain, against one reference point."""

FEW_POINTS = 30
"""Below so many points the soft labels count in full: there is little else to learn from."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """The state after one round."""

    round: int
    fused: Fused
    models: tuple[Observations, ...]
    """What the models said in this round; empty in round 0."""

    log_q: NDArray[np.float32]
    """Decoded log-posterior, shape (H, W, K)."""

    change: float
    """Share of cells whose class differs from the round before; 1 in round 0."""

    @property
    def anchor_log_loss(self) -> float | None:
        """Cross-fitted log-loss of the anchors; None where there are too few."""
        return self.fused.anchor_log_loss


def first_turn(area: Area) -> Turn:
    """Fuse what the sources say, before any model has learned."""
    return _turn(area, (), 0, None)


def next_turn(area: Area, before: Turn) -> Turn:
    """Teach every model on the estimate so far, then fuse with what they predict."""
    labels = labels_of(area, before)
    models = tuple(_predicted(area, name, labels) for name in sorted(area.seen))
    return _turn(area, models, before.round + 1, before)


def resumed_turn(area: Area, models: tuple[Observations, ...], round: int, before: Turn) -> Turn:
    """Rebuild a finished round from what its models said."""
    return _turn(area, models, round, before)


def start(area: Area) -> tuple[Area, dict[str, Displacement], Turn]:
    """Fuse once, align layers of objects by what that shows, and fuse again if any moved."""
    turn = first_turn(area)
    moved, shifts = align(area, turn)
    if any(shift.applied for shift in shifts.values()):
        turn = first_turn(moved)
    return moved, shifts, turn


def turns(area: Area, rounds: int) -> tuple[Area, Turn]:
    """Run all rounds; return the (aligned) area and the round that is kept (see `better`)."""
    area, _, turn = start(area)
    best = turn
    for _ in range(rounds - 1 if area.seen else 0):
        turn = next_turn(area, turn)
        if not better(turn, best):
            break
        best = turn
    return area, best


def for_osm(area: Area, turn: Turn) -> tuple[Area, Turn]:
    """Return area and round as OSM may see them: without evidence that it can't accept."""
    if area.all_for_osm or not area.has_osm:
        return area, turn
    return turns(area.only_for_osm(), area.config.rounds)


def better(turn: Turn, best: Turn) -> bool:
    """Return True when a round may be kept (see `why_not`)."""
    return not why_not(turn, best)


def why_not(turn: Turn, best: Turn) -> str:
    """Return why a round can't be kept, "" when it can.

    It is kept when the held-out anchors are not less likely in all, nor clearly less likely
    where any one source speaks. Without anchors every round is kept; nothing can be
    promised then.
    """
    if turn.anchor_log_loss is None or best.anchor_log_loss is None:
        return ""
    if turn.anchor_log_loss > best.anchor_log_loss + 1e-9:
        return "held-out anchors became less likely, so the round before is kept"
    lost = fallen(turn.fused, best.fused)
    if lost:
        return f"what {', '.join(lost)} would get became worse, so the round before is kept"
    return ""


def sight_of(turn: Turn) -> Sight:
    """Return what is kept of a round for its alarms."""
    classes = turn.log_q.argmax(axis=-1)
    agree = []
    for one in turn.models:
        named = np.append(-1, one.crosswalk.matrix.argmax(axis=1))[one.symbols]
        agree.append((named == classes)[named >= 0].mean())
    share = np.exp(turn.log_q).mean(axis=(0, 1), dtype=np.float64)
    return sight(turn.fused, share, float(np.mean(agree)) if agree else None)


def _turn(area: Area, models: tuple[Observations, ...], round: int, before: Turn | None) -> Turn:
    observations = [*area.observations, *models]
    fused = fuse(
        observations,
        area.anchors,
        similarity=area.similarity,
        interval=area.config.interval,
        seed=area.config.seed,
    )
    log_q = fused.cells()
    change = 1.0
    if before is not None:
        change = float((log_q.argmax(-1) != before.log_q.argmax(-1)).mean())
    return Turn(round=round, fused=fused, models=models, log_q=log_q, change=change)


def labels_of(area: Area, turn: Turn) -> Labels:
    """Draw soft labels from the estimate, and add every reference and field point.

    A point is one label. A soft label weighs as much as its cell is certain; where
    points are few, soft labels are all there is and weigh more. Labels inside an OSM
    object carry its number, so that no model judges an object that taught it.
    """
    log_q = turn.log_q.reshape(-1, len(area.legend))
    rng = np.random.default_rng([area.config.seed, turn.round])
    drawn = np.sort(rng.choice(len(log_q), min(SOFT_CELLS, len(log_q)), replace=False))
    log_q = log_q[drawn].astype(np.float64)
    shares = np.exp(log_q)
    certain = np.maximum(1 - relative_entropy(log_q), 1e-6)
    scale = SOFT_WEIGHT if len(point_labels(area)[0]) >= FEW_POINTS else 1.0
    return lesson(area, drawn, shares / shares.sum(axis=1, keepdims=True), certain * scale)


def lesson(
    area: Area,
    cell: NDArray[np.int64],
    shares: NDArray[np.float64],
    weight: NDArray[np.float64],
    *,
    with_points: bool = True,
) -> Labels:
    """Return some cells as labels, and every reference and field point, each as one label.

    ``shares`` (n, K) and ``weight`` (n,) are of the cells ``cell`` (n,). A cell inside an
    object carries its number.
    """
    points, known = point_labels(area)
    used = len(points) if with_points else 0
    owner = owners(area)
    return Labels(
        cell=np.concatenate([points[:used], cell]),
        shares=np.concatenate([known[:used], shares]),
        weight=np.concatenate([np.ones(used), weight]),
        bars=np.concatenate([np.zeros(used, np.int64), owner[cell]]),
        owner=owner,
    )


def owners(area: Area) -> NDArray[np.int64]:
    """Return the number of the object that each cell belongs to, shape (cells,), 0 for none."""
    out = np.zeros(int(np.prod(area.geobox.shape)), np.int64)
    top = 0
    for one in area.observations:
        if one.support == "objects":
            owner = paint(one.geometry, area.geobox).ravel()
            out = np.where(owner > 0, owner + top, out)
            top += len(one)
    return out


def point_labels(area: Area) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return cells and class shares of all anchors and field points."""
    cells = [np.empty(0, np.int64)]
    shares = [np.empty((0, len(area.legend)))]
    if area.anchors is not None:
        at = cells_of(area.anchors, area.geobox)
        use = area.anchors.answered & (at >= 0)
        cells.append(at[use])
        shares.append(area.anchors.shares[use])
    for one in area.observations:
        if one.support == "points":
            x, y = shapely.get_x(one.geometry), shapely.get_y(one.geometry)
            at = cells_of_points(area.geobox, x, y)
            symbol = np.maximum(one.symbols.astype(np.int64) - 1, 0)
            use = (one.symbols > 0) & (at >= 0) & (one.crosswalk.confidence[symbol] > 0)
            cells.append(at[use])
            shares.append(one.crosswalk.matrix[symbol[use]])
    return np.concatenate(cells), np.concatenate(shares)


def _predicted(area: Area, name: str, labels: Labels) -> Observations:
    return model_source(
        area, name, predict(area.seen[name], labels, area.fold, seed=area.config.seed)
    )


def model_source(area: Area, name: str, probability: NDArray[np.float32]) -> Observations:
    """Return what a model says, given its class probabilities."""
    return observe_predicted(
        probability,
        area.geobox,
        area.legend,
        source=name,
        interval=area.interval_of_model(name),
        provenance=model_provenance(area, name),
    )


def model_provenance(area: Area, name: str) -> Provenance:
    """Return where a model's statements come from: its images, weights and teachers."""
    teachers = [one.provenance for one in area.observations if one.speaks]
    if area.anchors is not None:
        teachers.append(area.anchors.provenance)
    return Provenance.derive(
        "predict out of fold",
        area.behind_model(name),
        used=(name,),
        labels=teachers,
    )


def align(area: Area, turn: Turn) -> tuple[Area, dict[str, Displacement]]:
    """Measure where layers lie; undo what is significant of the shifts of objects.

    Objects are moved onto the others, with which alone they can be compared, all alike or
    each trace by a field. Shifts of rasters are split by stated accuracies and points, and
    reported only.
    """
    shifts = raster_shifts(turn.fused, area.observations, {})
    moved: list[Observations] = []
    for one in area.observations:
        shift = object_shift(turn.fused, one) if one.support == "objects" else None
        if shift is not None:
            shifts[one.source] = shift = replace(shift, applied=shift.significant)
        moved.append(_moved(one, shift) if shift is not None and shift.applied else one)
    return replace(area, observations=tuple(moved)), shifts


def _moved(one: Observations, shift: Displacement) -> Observations:
    """Return the objects moved, each as a whole: by the shift, or by the field at its middle."""
    step = np.tile([shift.dx, shift.dy], (len(one), 1))
    if shift.field is not None:
        middle = shapely.centroid(one.geometry)
        step = shift.field.at(np.column_stack([shapely.get_x(middle), shapely.get_y(middle)]))
    xy, owner = shapely.get_coordinates(one.geometry, return_index=True)
    moved = shapely.set_coordinates(one.geometry.copy(), xy + step[owner])
    return replace(one, geometry=np.asarray(moved, object))
