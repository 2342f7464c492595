"""What people answered to earlier runs, and how this run hears it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.burn import burn
from glocal.core.grid import cells_of_points
from glocal.core.interval import Interval
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations
from glocal.loop.area.schema import AreaConfig, OsmSource, ReviewSource
from glocal.sources.people.review import (
    Bias,
    joined,
    muted,
    observe_review,
    reference_visits,
    settled,
    settled_cells,
    too_hard,
)
from glocal.sources.people.store import Stored, load_answers

__all__ = [
    "declared_rates", "hear", "read_reviews", "settled_at", "settled_of", "too_hard_places",
    "with_visits",
]  # fmt: skip

Reviews = Mapping[str, Stored]


def read_reviews(config: AreaConfig) -> dict[str, Stored]:
    """Return the answers of every review source, by its name.

    Raises
    ------
    RunError
        A folder does not hold answers.
    """
    return {
        one.name: load_answers(one.path) for one in config.sources if isinstance(one, ReviewSource)
    }


def hear(
    observations: list[Observations],
    reviews: Reviews,
    config: AreaConfig,
    geobox: GeoBox,
    legend: Legend,
) -> list[Observations]:
    """Return the sources with people's answers among them, and without our own echo in OSM.

    A proposal that is answered in several folders is heard once, in the first.
    """
    heard = [_without_echo(one, reviews, config) for one in observations]
    known: set[str] = set()
    for name, stored in reviews.items():
        source = _review(config, name)
        one = observe_review(
            stored,
            geobox,
            legend,
            source=name,
            bias=_declared(source),
            interval=Interval.parse(source.date) if source.date else config.interval,
            licences=_licences(source, stored, config),
            known=known,
            attribution=source.attribution or "",
        )
        known |= set(one.record.tolist())
        heard.append(one)
    return heard


def _review(config: AreaConfig, name: str) -> ReviewSource:
    source = config.source(name)
    if not isinstance(source, ReviewSource):
        raise TypeError(f"{name} must be a review source, is {source.kind}")
    return source


def _declared(source: ReviewSource) -> Bias:
    return Bias(
        accept_if_right=source.accept_if_right,
        accept_if_wrong=source.accept_if_wrong,
        right_if_blind=source.right_if_blind,
    )


def declared_rates(config: AreaConfig) -> dict[str, Bias]:
    """Return what the configuration declares of those who answer, by review source."""
    return {one.name: _declared(one) for one in config.sources if isinstance(one, ReviewSource)}


def _without_echo(one: Observations, reviews: Reviews, config: AreaConfig) -> Observations:
    if isinstance(config.source(one.source), OsmSource):
        for stored in reviews.values():
            one = muted(one, stored)
    return one


def _licences(source: ReviewSource, stored: Stored, config: AreaConfig) -> frozenset[str]:
    """Return the licences of the answers: ODbL for those of mappers, else as configured."""
    if source.licence != "unknown":
        return frozenset({source.licence})
    osm = {one.name for one in config.sources if isinstance(one, OsmSource)}
    answered = stored.proposals[stored.proposals["verdict"] != ""]
    about = set(answered["source"].tolist())
    parts = {"ODbL-1.0"} if about & osm else set()
    return frozenset(parts | ({stored.licence} if about - osm else set()))


def with_visits(anchors: Anchors | None, reviews: Reviews, legend: Legend) -> Anchors | None:
    """Return the anchors together with the places of sampling plans that came back."""
    found = [reference_visits(stored, legend) for stored in reviews.values()]
    samples = [one for one in (anchors, *found) if one is not None]
    if not samples or (len(samples) == 1 and anchors is not None):
        return anchors
    return joined(samples)


def settled_of(
    reviews: Reviews,
    source: str,
    record: NDArray[np.str_],
    current: NDArray[np.str_],
    proposed: NDArray[np.str_],
    geometry: NDArray[np.object_],
) -> NDArray[np.bool_]:
    """Return which proposals to ``source`` were answered in an earlier run, shape (n,)."""
    out = np.zeros(len(record), bool)
    for stored in reviews.values():
        out |= settled(stored, source, record, current, proposed, geometry)
    return out


def settled_at(
    reviews: Reviews, source: str, proposed: NDArray[np.int64], geobox: GeoBox, legend: Legend
) -> NDArray[np.bool_]:
    """Return the cells (H, W) whose proposed class was answered in an earlier run."""
    out = np.zeros(proposed.shape, bool)
    for stored in reviews.values():
        out |= settled_cells(stored, source, geobox, legend) == proposed
    return out


def too_hard_places(
    reviews: Reviews, reference: Anchors | None, geobox: GeoBox
) -> NDArray[np.int32]:
    """Return which cells (H, W) belong to which place that nobody could judge, 0 for none.

    Somebody should go there, unless a reference point tells already what is there.
    """
    shapes = [one for stored in reviews.values() for one in too_hard(stored, geobox)]
    place = burn(np.array(shapes, object), geobox)
    if reference is not None:
        at = cells_of_points(geobox, reference.x, reference.y)
        seen = place.ravel()[at[(at >= 0) & reference.answered]]
        place = np.where(np.isin(place, seen), np.int32(0), place)
    return place
