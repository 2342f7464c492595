"""Where to look next: places drawn with known probabilities, spread over the area.

The area is cut into squares, of which some are drawn, in two steps: candidates by systematic
sampling with probability proportional to size (Madow 1949, doi:10.1214/aoms/1177729988)
along a Hilbert curve, so that neighbours on the curve are neighbours on the ground; of them
the visits by the local pivotal method (see ``field.pivotal``). In each square that is drawn one
cell is visited, drawn by its size. Every place can be drawn, and its probability is
written beside it, so that design-based estimates stay valid although places that tell more
are visited more often.

No file names the class of the estimate: who sees a suggestion tends to agree with it, and
what observers say of these places becomes reference points.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

import geopandas as gpd
import numpy as np
import shapely
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from glocal.core.grid import points_at
from glocal.core.typing import Codes, Floats, Table
from glocal.errors import ConfigError
from glocal.io.atomic import write_text
from glocal.io.vector import write_csv, write_geojson
from glocal.sources.field.pivotal import local_pivotal

UNIFORM = 0.2
"""Share of the visits that falls anywhere, whatever the score."""

SPARED = 0.3
"""Share of its visits that the rest of the area gives up for places that somebody should see."""

GPX = (
    '<?xml version="1.0" encoding="UTF-8"?>\n'
    '<gpx version="1.1" creator="glocal" xmlns="http://www.topografix.com/GPX/1/1">\n'
    "<metadata><name>Places to visit</name><desc>{about}</desc></metadata>\n{points}</gpx>\n"
)

CANDIDATES = 40
"""Candidates per visit, of which the local pivotal method takes one."""


def expected_information(p: Floats, answers: Table) -> Table:
    """Return how many bits an observer's answer tells about the class, shape (H, W).

    The mutual information of class and answer: 0 where the class is certain, or where
    the observers answer alike whatever is there.

    Parameters
    ----------
    p
        Shape (H, W, K), probabilities of the classes now.
    answers
        Shape (K, M), P(answer | class) of these observers.

    >>> expected_information(np.array([[[0.5, 0.5], [1.0, 0.0]]]), np.eye(2)).tolist()
    [[1.0, 0.0]]
    """
    out = np.empty(p.shape[:2])
    # I(class; answer) = H(answer) - sum over classes of P(class) H(answer | class)
    noise = _bits(answers)
    for i, row in enumerate(p):  # by rows: all answers of all cells at once are too much
        out[i] = _bits(row @ answers) - row @ noise
    return np.maximum(out, 0.0)


def _bits(p: Floats) -> Table:
    return np.asarray(-(p * np.log2(np.maximum(p, 1e-300))).sum(axis=-1), np.float64)


def hilbert_index(row: Codes, column: Codes) -> Codes:
    """Return the position of cells along the Hilbert curve that covers them all.

    >>> hilbert_index(np.array([0, 1, 1, 0]), np.array([0, 0, 1, 1])).tolist()
    [0, 3, 2, 1]
    """
    x, y = row.astype(np.int64), column.astype(np.int64)
    place = np.zeros_like(x)
    side = 1 << int(max(x.max(initial=0), y.max(initial=0))).bit_length()
    half = side >> 1
    while half:
        right, upper = (x & half) > 0, (y & half) > 0
        place += half * half * ((3 * right) ^ upper)
        # Turn the quadrant so that the curve enters and leaves at its corners.
        flip = ~upper & right
        x, y = np.where(flip, side - 1 - x, x), np.where(flip, side - 1 - y, y)
        x, y = np.where(upper, x, y), np.where(upper, y, x)
        half >>= 1
    return place


def _capped(size: Table, n: int) -> Table:
    """Return probabilities proportional to ``size`` that sum to ``n``, none above 1."""
    # Who would be drawn more than once is drawn for sure; the rest shares what is left.
    sure = np.zeros(size.shape, bool)
    while True:
        rest = size[~sure].sum()
        p = np.where(sure, 1.0, size * ((n - sure.sum()) / rest) if rest > 0 else 0.0)
        above = ~sure & (p > 1)
        if not above.any():
            return np.asarray(p)
        sure |= above


def _sizes(score: Table, n: int) -> Table:
    """Return relative sizes that sum to 1, 0 outside the population; shape (H, W)."""
    population = np.isfinite(score)
    if n < 1 or (score[population] < 0).any():
        raise ConfigError(
            f"a visit plan needs n >= 1 and scores >= 0, got n={n} and a smallest score of "
            f"{float(np.nanmin(score)) if population.any() else None}"
        )
    cells, total = population.sum(), score[population].sum()
    share = score / total * (1 - UNIFORM) + UNIFORM / cells if total > 0 else score * 0 + 1 / cells
    return np.where(population, share, 0.0)


def raised(size: Table, places: NDArray[np.integer], n: int) -> Table:
    """Return sizes in which every place is visited once, as far as the rest can spare.

    ``size`` (H, W) sums to 1. ``places`` (H, W) numbers places from 1; 0 is the rest of the
    area, which gives up at most `SPARED` of its visits. No cell of a place becomes less
    likely, none of the rest is left out, and inside a place cells keep their proportions.

    >>> raised(np.array([[0.1, 0.1, 0.8]]), np.array([[1, 1, 0]]), 2).round(9).tolist()
    [[0.22, 0.22, 0.56]]
    """
    expected = n * np.bincount(places.ravel(), size.ravel())
    missing = np.where(expected > 0, np.maximum(1 - expected, 0), 0)
    missing[0] = 0
    if not missing.any():
        return size
    # Each place gets what it lacks of one expected visit, if the rest can spare it.
    given = missing * min(1.0, SPARED * expected[0] / missing.sum())
    given[0] = -given.sum()
    factor = 1 + given / np.where(expected > 0, expected, 1)
    return np.asarray(size * factor[places])


def plan_visits(
    inclusion_score: Table,
    geobox: GeoBox,
    n: int,
    *,
    seed: int,
    square_m: float = 0,
    places: NDArray[np.integer] | None = None,
    entropy: Table | float = np.nan,
    reason: str | NDArray[np.str_] = "uncertain",
) -> gpd.GeoDataFrame:
    """Draw ``n`` cells to visit, spread over the area, with known probabilities.

    Parameters
    ----------
    inclusion_score
        Shape (H, W), >= 0: how much a visit would tell. A fifth of the visits ignores it,
        so that every cell can be drawn. NaN leaves a cell out of the population.
    square_m
        No two visits lie in one square of this side. Squares begin at a random corner;
        neighbouring squares are seldom drawn together.
    places
        Shape (H, W), places that somebody should see, numbered from 1 (see :func:`raised`).
    entropy
        How unsure the estimate is now, shape (H, W), 0 (sure) to 1.
    reason
        Why one would go there: one text, or one per cell, shape (H, W).

    Returns
    -------
    Points at cell centres in the grid's CRS: ``sample_id`` (from the place, so the same
    place has the same id in every round), ``x``, ``y``, ``lon``, ``lat``,
    ``inclusion_probability`` (given the squares), ``rank`` (1 has the highest score),
    ``information`` (the score), ``reason``, ``entropy``; in the order of ``rank``.

    Raises
    ------
    ConfigError
        Negative scores, or more visits than squares.
    """
    rng = np.random.default_rng(seed)
    size = _sizes(np.asarray(inclusion_score, float), n)
    if places is not None:
        size = raised(size, places, n)
    # No corner of a square may be a favourite: where they begin is drawn.
    cell = min(abs(float(geobox.resolution.x)), abs(float(geobox.resolution.y)))
    side = max(1, int(np.ceil(square_m / cell)))
    origin = rng.integers(0, side, 2)
    square = (np.indices(geobox.shape) + origin[:, None, None]) // side
    probability, drawn = _drawn(size, square, n, rng)
    row, column = np.unravel_index(drawn, size.shape)
    best = np.argsort(-inclusion_score[row, column], kind="stable")
    row, column = row[best], column[best]
    x, y = points_at(geobox, row + 0.5, column + 0.5)
    lon, lat = Transformer.from_crs(str(geobox.crs), "EPSG:4326", always_xy=True).transform(x, y)
    columns = {
        "sample_id": [f"visit-{one:.1f}-{two:.1f}" for one, two in zip(x, y, strict=True)],
        "x": x,
        "y": y,
        "lon": np.round(lon, 7),
        "lat": np.round(lat, 7),
        "geometry": shapely.points(x, y),
        "inclusion_probability": probability[row, column],
        "rank": np.arange(1, n + 1),
        "information": inclusion_score[row, column],
        "reason": np.broadcast_to(reason, size.shape)[row, column],
        "entropy": np.broadcast_to(entropy, size.shape)[row, column],
    }
    return gpd.GeoDataFrame(columns, crs=str(geobox.crs))


def inclusion_probabilities(size: Table, square: Codes, n: int) -> Table:
    """Return the probability that each cell is drawn, shape (H, W), which sums to ``n``.

    A square (``square`` holds its row and column, shape (2, H, W)) is drawn with
    probability proportional to the sizes in it, and one of its cells in proportion to its
    size. Raises ``ConfigError`` where there are fewer squares with a size than visits.
    """
    mass = _mass(size, square)
    if (mass > 0).sum() < n:
        raise ConfigError(
            f"{n} visits do not fit into {int((mass > 0).sum())} squares; ask for fewer visits "
            "or smaller squares"
        )
    inside = np.where(mass > 0, _capped(mass, n) / np.where(mass > 0, mass, 1), 0)
    return np.asarray(size * inside[tuple(square)])


def _mass(size: Table, square: Codes) -> Table:
    """Return the size of every square."""
    shape = tuple(int(one.max()) + 1 for one in square)
    flat = np.ravel_multi_index(tuple(square), shape).ravel()
    mass = np.bincount(flat, size.ravel(), minlength=shape[0] * shape[1])
    return np.asarray(mass.reshape(shape), np.float64)


def _drawn(size: Table, square: Codes, n: int, rng: np.random.Generator) -> tuple[Table, Codes]:
    """Return the probability of every cell, and the flat indices of the ``n`` that were drawn.

    Candidates are drawn with probability proportional to size too, so that what is left
    for the second step sums to ``n`` exactly.
    """
    probability = inclusion_probabilities(size, square, n)
    p = _mass(probability, square)
    inside = np.flatnonzero(p.ravel() > 0)
    number = min(len(inside), CANDIDATES * n)
    first = _capped(p, number)
    order = inside[np.argsort(hilbert_index(*np.unravel_index(inside, p.shape)), kind="stable")]
    # Madow: equal steps of 1 through the probabilities, from a random start.
    reach = np.cumsum(first.ravel()[order])
    reach *= number / reach[-1]
    hit = np.searchsorted(reach, rng.random() + np.arange(number), side="right")
    candidate = order[np.minimum(hit, len(order) - 1)]
    xy = np.column_stack(np.unravel_index(candidate, p.shape)).astype(np.float64)
    # P(drawn) = P(candidate) P(drawn | candidate)
    second = np.minimum(p.ravel()[candidate] / first.ravel()[candidate], 1.0)
    chosen = candidate[local_pivotal(second, xy, rng)]
    flat = np.ravel_multi_index(tuple(square), p.shape).ravel()
    # In each square that is drawn, one cell.
    drawn = []
    for one in chosen.tolist():
        cells = np.flatnonzero(flat == one)
        weight = probability.ravel()[cells]
        drawn.append(rng.choice(cells, p=weight / weight.sum()))
    return probability, np.array(drawn, np.int64)


def write_visits(
    visits: gpd.GeoDataFrame, folder: Path, *, licence: str, attribution: str
) -> list[Path]:
    """Write the plan: GeoJSON for the planner; GPX 1.1 and an ODK entity list for observers.

    Only the GeoJSON has all columns. Observers get ids and places, nothing of what the
    estimate says or how sure it is. The CSV serves as an entity list or as choices of a
    form (``name``, ``label``); the form must bring ``sample_id`` back, so that an answer
    finds its place.
    """
    credit = {"licence": licence, "attribution": attribution}
    geojson = write_geojson(folder / "visits.geojson", visits, **credit)
    points, rows = "", []
    # The order of rank would tell how sure we are.
    for one in visits.sort_values("sample_id").itertuples():
        name, lat, lon = one.sample_id, f"{one.lat:.7f}", f"{one.lon:.7f}"
        points += f'<wpt lat="{lat}" lon="{lon}"><name>{escape(name)}</name></wpt>\n'
        rows.append([name, name, name, f"{lat} {lon} 0 0", licence, attribution])
    gpx, about = folder / "visits.gpx", escape(f"{attribution}; licence {licence}")
    write_text(gpx, GPX.format(about=about, points=points))
    header = ["name", "sample_id", "label", "geometry", *credit]
    return [geojson, gpx, write_csv(folder / "visits_odk.csv", header, rows)]
