"""What the engine assumes: every number that a statistician might want to change, once.

Numbers that only guard the arithmetic (a floor below a logarithm, the size of a tile or of a
table in memory) stay where they are used.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """The assumptions of one fusion; the defaults are the engine.

    They stand in the order of the rooms that use them. Each says where its number comes from:
    a paper; *development seeds*, synthetic areas that no reported figure uses; or *declared*,
    which nobody measured. (F..) are the formulas of docs/fusion.md.
    """

    # Parts of the model that can be turned off

    exponents: Literal["learned", "one"] = "learned"
    """``one``: every source counts in full, as if all erred independently (F6)."""

    back_off: bool = True
    """Whether crosswalks and global tables are worth anything (F3); if not, tables are counts."""

    start: Literal["crosswalk", "votes"] = "crosswalk"
    """``votes``: estimation begins with the mean of what the sources say at their word."""

    prior: Literal["anchors", "posterior"] = "anchors"
    """``posterior``: class shares are re-estimated from the estimate itself, every sweep."""

    spatial: bool = True
    """Whether neighbours are heard (F24), if anchors like it."""

    context: bool = True
    """Whether anchors may teach how the pool and its surroundings are to be read (F20), and
    statements beside them (F22); not without ``spatial``."""

    # Samples

    min_sample: int = 30
    """Anchors, or points, below which nothing is learned from them: no exponent, no tie, no shift
    of a layer of points. Declared, after the usual rule of thumb."""

    folds: int = 5
    """Parts into which anchors are dealt for cross-fitting. Declared."""

    # Regions: where a source may be more or less reliable than elsewhere

    parts: int = 3
    """Regions along the longer side of an area, at least, where each has enough anchors;
    0: a source is equally reliable everywhere. Development seeds (decision 6)."""

    region_anchors: int = 20
    """Anchors per region that make regions worth while: without them a region's table only
    repeats what the engine believes already. Decision 6: with fewer, held-out loss rose."""

    least_region: int = 32
    """Least side of a region in cells. Declared."""

    largest_region: int = 2048
    """Largest side of a region in cells. Declared."""

    # Reliability: what a table is worth before and after data

    crosswalk_strength: float = 30.0
    """Statements per class that a crosswalk believed at even odds is worth (F2). Declared
    (decision 4)."""

    least_strength: float = 1.0
    """Least worth of a crosswalk, in the same unit, so that a class that nobody sees keeps a
    row. Declared."""

    leak: float = 0.02
    """Weight of the class shares in what a symbol may stand for (F2): a class that no symbol
    names is heard as the source's usual mixture. Declared."""

    region_strength: float = 60.0
    """Statements per class that the global table is worth in a region (F3). Development seeds:
    learning it from the counts raised the loss (decision 6)."""

    declared_strength: float = 30.0
    """Answers per class and question that a declared table is worth. Declared."""

    cells_per_statement: float = 1000.0
    """Neighbouring cells repeat each other: about 30 x 30 cells (a field, a wood) are one
    independent statement (F14). Only the ratio of data to prior depends on it. Development seeds:
    50 cost a point of accuracy (decision 6)."""

    anchor_strength: float = 5.0
    """An anchor's class is known: it counts as this many statements (F14). Declared."""

    alone: float = 0.8
    """Exponent of a source before anything is learned (F6). Declared."""

    exponent_ridge: float = 1.0
    """Pull of the learned exponents towards the conservative ones, in nats (F16). Decision 4: with
    4, some 70 anchors could not move the stronger one."""

    tie_level: float = 0.05
    """Chance of one false alarm or more among all pairs of independent sources (F18). The usual
    level."""

    tie_shuffles: int = 999
    """Shuffles that make the null distribution of a tie (F17): p-values from .0005 on."""

    change_rate: float = 0.01
    """Prior mean of the yearly chance of change, every class (F11). Land cover changes by some
    tenths of a per cent to some per cent a year, by class and place. Declared."""

    change_worth: float = 50.0
    """Statement-years per class that the prior rate is worth (F12): half a change, so it is weak.
    Declared; 200 moved rates little (decision 7)."""

    # Messages and expectation-maximisation

    purity: float = 0.85
    """Chance that a cell inside an object has the object's class (F8). Declared: estimated, it
    ran to .98, because a soft posterior of an object fits any mixture (decision 4)."""

    correlation: float = 0.3
    """Correlation of evidence between cells of one object (F7): n cells are worth
    n / (1 + (n - 1) * correlation) independent ones (Kish 1965). Development seeds: the loss is
    flat around it (decision 6)."""

    coarse_strength: float = 4.0
    """A coarse cell's statement is one observation of its class shares; the prior of those
    shares is worth this many (F9). Declared."""

    sweeps: int = 8
    """Steps of expectation-maximisation. Declared."""

    tolerance: float = 0.0
    """Gain of the evidence lower bound per statement, in nats, below which steps end; 0: all
    ``sweeps`` are made, since with exponents below 1 nothing is ascended."""

    # Decoding: from units to cells

    squares: tuple[int, ...] = (5, 11, 21)
    """Sides of the squares whose mean is read beside a cell, in cells, odd (F20). Development
    seeds: as good as 7, 15, 31, with a smaller halo (decision 6)."""

    usual_reading: tuple[float, ...] = (0.5, 0.0, 0.3, 0.2)
    """Weights of a cell and of the squares around it where no anchors teach them (F21). They add
    up to 1, so that reading alone makes nobody surer. Set on one synthetic area (decision 6)."""

    telling: float = 0.1
    """Nats that surroundings must tell of a cell, on average, to be read without anchors.
    Declared."""

    context_ridges: tuple[float, ...] = (1.0, 3.0, 10.0, 30.0, 100.0)
    """Pulls towards the pool as it is that are tried, in nats per squared weight (F20)."""

    direct_ridges: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0)
    """Pulls of the weights of the direct reading towards 0 that are tried (F22)."""

    direct_share: float = 0.5
    """Usual weight of the direct reading's logarithms (F22); the pool as it is and as its
    surroundings are read have half of the rest each. Development seeds: .3 and .7 were a little
    worse nearly everywhere (decision 8)."""

    share_ridge: float = 100.0
    """Pull of these three weights towards the usual ones, in nats per squared weight (F23): some
    hundreds of anchors then move them by a tenth. Development seeds: with 10 they followed chance
    (decision 12)."""

    member_share: float = 0.4
    """Usual weight of what reference points alone taught, beside all that (F42)."""

    member_ridge: float = 5.0
    """Pull of these weights towards the usual ones, in nats per squared weight (F42): weak, so that
    a hundred anchors may leave out what does harm."""

    betas: tuple[float, ...] = (0.0, 0.1, 0.2, 0.35, 0.5, 0.7, 1.0)
    """Spatial weights that are tried (F24), the first one 0; anchors choose."""

    # Doubts about statements

    min_interior: int = 10
    """Cells that an object must have inside its edge before it may be doubted: narrower things
    are mostly mixed cells. Declared (decision 4)."""

    meant: float = 0.15
    """A class is among those that a symbol stands for if its share in the crosswalk reaches
    this. Declared."""

    # Alarms: by how much a sign may be off before it rings

    sure: float = 0.05
    """Confidence may exceed accuracy by this, or by two standard errors if that is more.
    Declared."""

    area_errors: float = 3.0
    """Standard errors that a class share may lie off its estimate from the anchors. Declared."""

    agreement: float = 0.01
    """Agreement may rise by this without a gain on the anchors. Declared."""

    shrink: float = 0.8
    """A class that shrinks ``shrink_rounds`` times on end may keep no less than this of its
    share. Declared."""

    shrink_rounds: int = 3
    """Rounds on end that a class must shrink in. Declared."""

    rise: float = 0.25
    """A family's weight may rise by this from one round to the next. Declared."""

    fall_errors: float = 2.0
    """Standard errors by which a source's audited score must fall to count as a loss.
    Declared."""

    # Where things lie: layers and scenes

    max_shift: int = 6
    """Largest shift that is searched, in cells (F28). Declared."""

    cells_per_look: float = 10.0
    """Neighbouring cells repeat each other: the score of a tile or an outline counts this many as
    one. Development seeds: shifts then err about as much as they state (mean square over stated
    variance .4 to .7 on twelve); with 100 they err half as much (decision 7)."""

    cells_per_scene_look: float = 100.0
    """The same where one shift is measured for a whole scene or a part of it. Declared."""

    shift_tile: int = 48
    """Least side in cells of the tiles in which shifts are measured apart. Declared."""

    shift_tiles: int = 256
    """Most tiles of an area; they grow where there would be more. Declared."""

    scene_parts: int = 4
    """Parts of a scene along each side that get a shift of their own, at most. Declared."""

    objects_sd_m: float = 4.0
    """Prior standard deviation in metres of where a layer of objects lies (F30). Declared."""

    raster_sd_m: float = 4.0
    """The same of a raster, where nothing is stated: Sentinel-2 states 8 m at 95 % (circular),
    about 4 m per axis."""

    turn_sd_m: float = 2.0
    """Prior standard deviation in metres of what turn and scale add at the edge of a raster.
    Declared."""

    residual_sd_m: float = 1.5
    """What the shift of a tile may differ from its frames by, in metres (F30). Declared."""

    roughness_m: tuple[float, ...] = (0.25, 1.0, 2.0, 4.0)
    """Standard deviations in metres of the step between neighbouring tiles of a field that are
    tried (F30); the evidence chooses."""

    usual_roughness_m: float = 1.0
    """The one that layers of objects have where rasters are placed. Declared."""

    convincing: float = 3.0
    """Log Bayes factor from which a field is believed rather than "in place" (F31): strong evidence
    (Kass and Raftery 1995)."""

    # Where things lie: single objects and points

    object_reach: int = 5
    """Largest shift of a single object that is tried, in cells (F32). Declared."""

    object_ring: int = 2
    """Width in cells of the surroundings that should not be of the object's class. Declared."""

    displaced: float = 0.1
    """Share of objects that are displaced, beforehand (F32). Declared."""

    displaced_sd: float = 3.0
    """Standard deviation per axis of their shifts, in cells. Declared."""

    wobble_sd: float = 0.5
    """The same of objects that are in place. Declared."""

    least_object: int = 20
    """Cells of the smallest object that is judged: smaller ones show no shape at this cell size.
    Declared."""

    largest_object: int = 10_000
    """Cells of the largest: larger ones were drawn in parts. Declared."""

    faint: float = 0.05
    """Least probability of a class, or of its absence, that one cell may vouch for (F32).
    Declared."""

    gross: float = 0.1
    """Chance that a point's position is much worse than stated (F33). Declared."""

    gross_sd: float = 3.0
    """A grossly wrong position is so many times less accurate. Declared."""

    border: float = 0.05
    """Chance of a shift beyond the window above which none of a layer of points is told.
    Declared."""

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            value = getattr(self, name)
            if isinstance(value, str | bool):
                continue
            numbers = value if isinstance(value, tuple) else (value,)
            # what may be 0 turns something off; the rest divides, counts or is a spread
            least = 0.0 if name in _MAY_BE_ZERO else 1e-12
            most = 1.0 if name in _SHARES else float("inf")
            if not numbers or not all(least <= one <= most for one in numbers):
                raise ValueError(
                    f"Setting.{name} must lie in {'[' if least == 0 else '('}0, {most:g}]"
                    f", got {value}"
                )
        if len(self.usual_reading) != 1 + len(self.squares):
            raise ValueError(
                f"Setting.usual_reading needs 1 + {len(self.squares)} weights, of a cell and its "
                f"squares {self.squares}, got {self.usual_reading}"
            )


_SHARES = frozenset((
    "alone", "agreement", "border", "correlation", "direct_share", "displaced", "faint", "gross",
    "leak", "meant", "member_share", "purity", "rise", "shrink", "sure", "tie_level",
))  # fmt: skip
_MAY_BE_ZERO = frozenset(
    ("betas", "correlation", "direct_share", "parts", "tolerance", "usual_reading")
)

ENGINE = Setting()

DAWID_SKENE = Setting(
    exponents="one", back_off=False, parts=0, start="votes", prior="posterior",
    spatial=False, cells_per_statement=1.0, sweeps=100, tolerance=1e-5,
)  # fmt: skip
"""The model of Dawid and Skene (1979), for items that are independent of each other; steps end as
in crowd-kit."""
