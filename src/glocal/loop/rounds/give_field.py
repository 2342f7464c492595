"""What goes back to field observers: their table with our doubts, and where to look next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import geopandas as gpd
import numpy as np
from numpy.typing import NDArray

from glocal.core.observation import Observations
from glocal.core.result import relative_entropy
from glocal.fusion.place.points import layer_shift, suggest_places
from glocal.fusion.propose import Doubts, meant, point_doubts
from glocal.loop.area import schema
from glocal.loop.area.area import Area
from glocal.loop.area.reviews import too_hard_places
from glocal.loop.rounds.proposals import (
    DOUBTED,
    Gift,
    attribution_of,
    evidence_of,
    licence_of,
    propose,
)
from glocal.loop.rounds.turns import Turn
from glocal.sources.field.sampling import expected_information, plan_visits, write_visits
from glocal.sources.field.write import Verdicts, encode_insitu

__all__ = ["to_field", "visits_for"]

VISITS = 30


def to_field(area: Area, turn: Turn, source: Observations, room: Path) -> Gift:
    """Write the points of one source with our doubts, and a plan of visits."""
    config = area.config.source(source.source)
    if not isinstance(config, schema.InsituSource):
        raise TypeError(f"{source.source} must be an insitu source, is {config.kind}")
    gift = propose(area, turn, source)
    _, provenance = evidence_of(area, turn, "")
    credit = {
        "licence": licence_of(provenance.licences),
        "attribution": attribution_of(provenance),
    }
    files = encode_insitu(
        gift.corrections,
        source,
        _verdicts(area, turn, source),
        config.path,
        {str(key): name for key, name in config.columns.items()},
        room,
        crs=config.crs,
        **credit,
    )
    visits = visits_for(area, turn, source)
    files += write_visits(visits, room, **credit)
    count = {**gift.count, "visit": len(visits)}
    return replace(gift, files=tuple(files), count=count)


def visits_for(area: Area, turn: Turn, source: Observations) -> gpd.GeoDataFrame:
    """Draw places where observers like those of ``source`` would tell most.

    Places that were too hard to tell from afar are raised (`sampling.raised`).
    """
    table = next(one for one in turn.fused.reliabilities() if one.source == source.source)
    entropy = np.clip(relative_entropy(turn.log_q), 0, 1).astype(np.float64)
    number = min(VISITS, entropy.size)
    hard = too_hard_places(area.reviews, area.reference, area.geobox)
    reason = np.where(
        turn.fused.disagreement() > entropy / 2, "sources disagree", "sources say little"
    )
    return plan_visits(
        expected_information(np.exp(turn.log_q), table.confusion.mean(axis=0)),
        area.geobox,
        number,
        seed=area.config.seed,
        square_m=_side(entropy.shape, number) * abs(float(area.geobox.resolution.x)),
        places=hard,
        entropy=entropy,
        reason=np.where(hard > 0, "too hard to tell from afar", reason),
    )


def _verdicts(area: Area, turn: Turn, source: Observations) -> Verdicts:
    doubts = point_doubts(turn.fused, source)
    said, meanings = _said(turn, source), meant(source.crosswalk)[source.symbols]
    others = np.exp(turn.fused.cells(frozenset({source.source})))
    return Verdicts(
        p_correct=doubts.correct,
        flags=_qartod(doubts),
        suggested=np.where(doubts.supported, np.array(area.legend.names)[doubts.proposed], ""),
        places=suggest_places(source, said, meanings, others),
        layer_shift=layer_shift(source, said, others),
    )


def _said(turn: Turn, source: Observations) -> NDArray[np.float64]:
    """Return P(symbol | class) of every point's symbol, shape (n, K); 1 where it is silent."""
    table = next(one for one in turn.fused.reliabilities() if one.source == source.source)
    stratum = np.zeros(len(source), int) if source.stratum is None else source.stratum.astype(int)
    symbol = np.maximum(source.symbols.astype(np.int64) - 1, 0)
    said = table.confusion[stratum, :, symbol] ** table.exponent
    return np.where((source.symbols > 0)[:, None], said, 1.0)


def _side(shape: tuple[int, ...], number: int) -> int:
    """Return the cells along a square that holds one visit: ten, or fewer in a small area.

    >>> _side((768, 1536), 30), _side((48, 48), 30), _side((8, 8), 30)
    (10, 8, 1)
    """
    height, width = shape
    return next(step for step in range(10, 0, -1) if (height // step) * (width // step) >= number)


def _qartod(doubts: Doubts) -> NDArray[np.uint8]:
    """Return QARTOD flags: 1 good, 3 suspect, 4 fail."""
    suspect = doubts.supported & (doubts.correct < 0.5)
    fail = doubts.supported & (doubts.correct < DOUBTED)
    return np.where(fail, 4, np.where(suspect, 3, 1)).astype(np.uint8)
