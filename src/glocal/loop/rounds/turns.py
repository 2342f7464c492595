"""Turns of the loop: fuse, teach the models, listen to them, fuse again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import shapely

from glocal.core.grid import cells_of_points
from glocal.core.labels import Labels
from glocal.core.observation import Estimate, Observations
from glocal.core.provenance import Provenance, Terms
from glocal.core.result import Displacement, relative_entropy
from glocal.core.setting import ENGINE
from glocal.core.typing import Codes, Table
from glocal.fusion.alarms import Sight, clearly_rises, fallen, sight
from glocal.fusion.decode.decoding import Member
from glocal.fusion.fuse import Fused, fuse
from glocal.fusion.place.shifts import object_shift, raster_shifts
from glocal.loop.area.area import Area
from glocal.sources.kind import Reading
from glocal.sources.worth import can_judge, losses, usual_worth

SOFT_CELLS = 1000
"""Cells drawn as soft labels for a model, each round."""

WORTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Weights of a soft label, for a class that is certain, against one reference point that are
tried."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Said:
    """What learners said in a round; empty in round 0."""

    judged: tuple[Observations, ...] = ()
    """Out of fold: no point, label or object of a block has taught what is said of it."""

    released: tuple[Observations, ...] = ()
    """Taught by everything, in the same symbols: for the map that is read."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turn:
    """The state after one round."""

    estimate: Estimate
    """The released map."""

    fused: Fused
    """What everybody is judged by."""

    said: Said
    members: tuple[Member, ...]
    """What learners say that reference points alone have taught."""

    views: tuple[Fused, ...]
    """The sources without the learners, fused for each fold without its anchors; () before they
    were asked for."""

    change: float
    """Share of cells whose class differs from the round before; 1 in round 0."""

    @property
    def models(self) -> tuple[Observations, ...]:
        """What learners say of ground that they have not learned from."""
        return self.said.judged

    @property
    def round(self) -> int:
        """Number of the round, from 0."""
        return self.estimate.round

    @property
    def anchor_log_loss(self) -> float | None:
        """Cross-fitted log-loss of the anchors; None where there are too few."""
        return self.fused.anchor_log_loss


def next_turn(area: Area, before: Turn) -> Turn:
    """Teach every learner on the estimate so far, then fuse with what they predict."""
    before = replace(before, views=before.views or views_of(area))
    lesson = lesson_of(area, before)
    said = []
    for one in area.learners:
        worth = _worths(area, one, lesson)
        nested = [lesson.of(f, worth[f]) for f in range(area.window.folds)]
        layers = one.learner.learn(one, nested), one.learner.learn_all(one, lesson.all(worth[-1]))
        said.append(one.learner.state(one, *layers, provenance=taught_provenance(area, one)))
    judged, released = zip(*said, strict=True) if said else ((), ())
    taught = Said(judged=judged, released=released)
    return _turn(area, taught, before.round + 1, before, before.members)


def _worths(area: Area, learner: Reading, lesson: Lesson) -> list[float]:
    """Return what a soft label is worth to a learner, for each fold and at last for the map.

    Anchors choose: for a fold those of the *other* folds.
    """
    folds, anchors = area.window.folds, area.anchors
    if anchors is None or not can_judge(anchors):
        return [usual_worth(lesson.points)] * (folds + 1)
    cells, lost = losses(
        learner, anchors, WORTHS, lambda worth: [lesson.of(f, worth) for f in range(folds)]
    )
    fold = area.window.fold.ravel()[cells]
    kept = [fold != f for f in range(folds)] + [fold >= 0]
    return [WORTHS[int(lost[:, one].sum(axis=1).argmin())] for one in kept]


def resumed_turn(area: Area, said: Said, round: int, before: Turn) -> Turn:
    """Rebuild a finished round from what its learners said."""
    return _turn(area, said, round, before, before.members)


def start(area: Area) -> tuple[Area, dict[str, Displacement], Turn]:
    """Fuse once, align layers of objects by what that shows, and fuse again if any moved.

    Objects are moved onto the others, with which alone they can be compared, each as a whole: by
    the shift of all, or by a field at its middle. Shifts of rasters are split by stated
    accuracies and points, and reported only.
    """
    members = members_of(area)
    turn = _turn(area, Said(), 0, None, members)
    shifts = raster_shifts(turn.fused, area.observations, {})
    moved: list[Observations] = []
    for one in area.observations:
        shift = object_shift(turn.fused, one) if one.support == "objects" else None
        if shift is None:
            continue
        shifts[one.source] = replace(shift, applied=shift.significant)
        if shift.significant:
            step = np.tile([shift.dx, shift.dy], (len(one), 1))
            if shift.field is not None:
                mid = shapely.centroid(one.geometry)
                step = shift.field.at(np.column_stack([shapely.get_x(mid), shapely.get_y(mid)]))
            xy, owner = shapely.get_coordinates(one.geometry, return_index=True)
            shapes = shapely.set_coordinates(one.geometry.copy(), xy + step[owner])
            moved.append(replace(one, geometry=np.asarray(shapes, object)))
    area = area.saying(moved)
    if any(shift.applied for shift in shifts.values()):
        turn = _turn(area, Said(), 0, None, members)
    return area, shifts, turn


def turns(area: Area, rounds: int) -> tuple[Area, Turn]:
    """Run all rounds; return the (aligned) area and the round that is kept (see `why_not`)."""
    area, _, turn = start(area)
    best = turn
    for _ in range(rounds - 1 if area.learners else 0):
        turn = next_turn(area, turn)
        if why_not(turn, best):
            break
        best = turn
    return area, best


def under(area: Area, turn: Turn, terms: Terms | None) -> tuple[Area, Turn]:
    """Return area and round as those see them who accept evidence under these terms only."""
    if terms is None or area.is_whole_under(terms):
        return area, turn
    return turns(area.under(terms), area.config.rounds)


def why_not(turn: Turn, best: Turn) -> str:
    """Return why a round can't be kept, "" when it can.

    It is kept when the held-out anchors are not clearly less likely in all (by more than one
    standard error of the paired difference), nor where any one source speaks. Without anchors
    every round is kept; nothing can be promised then.
    """
    now, before = turn.fused.held_out, best.fused.held_out
    if now is None or before is None:
        return ""
    if clearly_rises(now, before):
        return "held-out anchors became less likely, so the round before is kept"
    lost = fallen(turn.fused, best.fused)
    if lost:
        return f"what {', '.join(lost)} would get became worse, so the round before is kept"
    return ""


def sight_of(turn: Turn) -> Sight:
    """Return what is kept of a round for its alarms."""
    classes = turn.estimate.classes
    agree = []
    for one in turn.models:
        named = np.append(-1, one.crosswalk.matrix.argmax(axis=1))[one.symbols]
        agree.append((named == classes)[named >= 0].mean())
    share = turn.estimate.p.mean(axis=(0, 1), dtype=np.float64)
    return sight(turn.fused, share, float(np.mean(agree)) if agree else None)


def members_of(area: Area) -> tuple[Member, ...]:
    """Return what learners say that points alone have taught; none without enough anchors."""
    if not can_judge(area.anchors):
        return ()
    points, shape = area.points(), (*area.geobox.shape, len(area.legend))
    members = []
    for one in area.learners:
        judged = one.learner.learn(one, [points] * area.window.folds)
        layers = judged, one.learner.learn_all(one, points)
        log_p = [np.log(np.maximum(layer, 1e-6)).reshape(shape) for layer in layers]
        members.append(Member(source=one.name, judged=log_p[0], released=log_p[1]))
    return tuple(members)


def _turn(
    area: Area, said: Said, round: int, before: Turn | None, members: tuple[Member, ...]
) -> Turn:
    views = () if before is None else before.views
    observations = [*area.observations, *said.judged]
    fused = fuse(
        observations,
        area.anchors,
        similarity=area.similarity,
        interval=area.config.interval,
        seed=area.config.seed,
        fold=area.window.fold,
        release=said.released,
        members=members,
    )
    behind = [one.provenance for one in (*observations, area.anchors) if one is not None]
    estimate = Estimate(
        geobox=area.geobox,
        interval=area.config.interval,
        legend=area.legend,
        log_p=(fused.released or fused).cells(),
        disagreement=fused.disagreement(),
        weights={one.source: one.exponent for one in fused.reliabilities()},
        provenance=Provenance.derive("fuse", behind),
        round=round,
    )
    change = float((estimate.classes != before.estimate.classes).mean()) if before else 1.0
    return Turn(
        estimate=estimate, fused=fused, said=said, members=members, views=views, change=change
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lesson:
    """What may teach learners: points, and soft labels as each fold's own view has them."""

    points: Labels
    cells: Codes
    """Shape (n,), flat cells of the soft labels."""

    views: tuple[Table, ...]
    """Per fold, shape (n, K): log-probabilities that no point in the fold has a say in. The last
    are those of everybody, for the released map."""

    def of(self, fold: int, worth: float) -> Labels:
        """Return what may teach who speaks of a fold (and passes over labels in it)."""
        return self._labels(self.views[fold], worth)

    def all(self, worth: float) -> Labels:
        """Return what teaches the released map."""
        return self._labels(self.views[-1], worth)

    def _labels(self, log_q: Table, worth: float) -> Labels:
        # a soft label weighs as much as its cell is certain
        certain = np.maximum(1 - relative_entropy(log_q), 1e-6)
        return self.points.beside(self.cells, np.exp(log_q), certain * worth)


def views_of(area: Area) -> tuple[Fused, ...]:
    """Return what the sources say together without the learners, once for each fold (F43).

    A fold's view is a fusion of its own that was never given the fold's anchors, so that no number
    in it, however it was learned, can know them. Learners have no part in it: one that speaks of
    another fold has seen them. () without anchors.
    """
    if area.anchors is None:
        return ()
    cells = cells_of_points(area.geobox, area.anchors.x, area.anchors.y)
    fold = np.where(cells >= 0, area.window.fold.ravel()[cells], area.window.folds)
    return tuple(
        fuse(
            area.observations,
            area.anchors.take(fold != f),
            interval=area.config.interval,
            seed=area.config.seed,
            # labels are read without neighbours
            setting=replace(ENGINE, betas=(0.0,)),
            fold=area.window.fold,
        )
        for f in range(area.window.folds)
    )


def lesson_of(area: Area, turn: Turn) -> Lesson:
    """Draw soft labels from what the sources say together, without the learners.

    Every reference and field point is added, as one label. Labels inside an object carry its
    number, so that no learner judges an object that taught it.
    """
    count, learners = int(np.prod(area.geobox.shape)), frozenset(one.name for one in area.learners)
    rng = np.random.default_rng([area.config.seed, turn.round])
    drawn = np.sort(rng.choice(count, min(SOFT_CELLS, count), replace=False))
    whole = turn.fused.at(drawn, learners)
    views = [one.at(drawn) for one in turn.views] or [whole] * area.window.folds
    return Lesson(points=area.points(), cells=drawn, views=(*views, whole))


def taught_provenance(area: Area, learner: Reading) -> Provenance:
    """Return where a model's statements come from: its images, weights and teachers."""
    teachers = [one.provenance for one in area.observations if one.speaks]
    if area.anchors is not None:
        teachers.append(area.anchors.provenance)
    return Provenance.derive("predict out of fold", [learner.provenance], labels=teachers)
