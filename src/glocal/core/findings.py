"""What all others know about one source, in one value: the engine hands it to the source's kind.

So a kind learns what was found about its source without knowing how; it never imports the engine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glocal.core.answer import Answered
from glocal.core.labels import Labels
from glocal.core.observation import Anchors, Estimate, Reliability
from glocal.core.placement import Places, Registration
from glocal.core.provenance import Provenance
from glocal.core.result import Displacement, freeze
from glocal.core.typing import Bools, Codes, Layers, Table


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Doubts:
    """How likely each statement of a source is to be wrong, and what would be right."""

    correct: Table
    """Shape (n,) or (H, W): probability that the truth is one of the classes meant."""

    proposed: Codes
    """Same shape: position of the most probable class outside those meant."""

    probability: Table
    """Same shape: probability of ``proposed``."""

    supported: Bools
    """Same shape: True where the others alone prefer ``proposed`` too, and likewise those
    of other families alone."""

    def __post_init__(self) -> None:
        freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Misplaced:
    """Which of n objects lie elsewhere, and where they seem to belong."""

    probability: Table
    """Shape (n,): that the object is displaced; 0 for those that can't be judged, whose shift
    is not significant or has no peak within reach, or whose class is not seen there either."""

    shift: Table
    """Shape (n, 2), east and north in metres: what brings the object to its place."""

    covariance: Table
    """Shape (n, 2, 2), of ``shift``."""

    def __post_init__(self) -> None:
        freeze(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Voices:
    """What each other source says of each unit: cells of which nothing different is said."""

    unit: NDArray[np.signedinteger]
    """Shape (H * W,), the unit of every cell."""

    message: Mapping[str, Table]
    """By source, shape (U, K): log-likelihood of the classes, up to a constant per unit."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Findings:
    """What the others know about one source in one round; None where there is no such thing.

    The source's own word, and that of whoever repeats it (`Kind.kin`), is in none of it but the
    estimate of all and the source's reliability.
    """

    source: str
    estimate: Estimate
    """What all say together."""

    others: Layers
    """Shape (H, W, K), log-posterior of every cell without the source and its kin."""

    because: tuple[str, ...]
    """Who else speaks; never ``source``."""

    provenance: Provenance
    """Of what they say."""

    checkable: bool
    """Whether anybody speaks who shares no root with all the others."""

    reliability: Reliability | None = None
    doubts: Doubts | None = None
    """About objects and points (n,), or cells (H, W)."""

    meaning: Table | None = None
    """Cells: P(class | symbol) as the others find it here, shape (M + 1, K); row 0 is silence."""

    voices: Voices | None = None
    """Cells: who says what."""

    shift: Displacement | None = None
    """Of the whole layer."""

    misplaced: Misplaced | None = None
    """Objects."""

    places: Places | None = None
    """Points."""

    registration: Registration | None = None
    """Images: how the scene lies beside what sources without a common root say."""

    answers: tuple[Answered, ...] = ()
    """What people answered to corrections of this source, by run."""

    too_hard: NDArray[np.int32] | None = None
    """Shape (H, W): number of the place that nobody could judge from afar, 0 for none."""

    anchors: Anchors | None = None
    """Reference points that calibrated the estimate."""

    reference: Anchors | None = None
    """All points of their sample, those that serve as a source included."""

    held_out: Table | Codes | None = None
    """What was said of the source at ``reference`` without these points: of cells the corrected
    class (n,), -1 for none; of objects (n, 2), the probability that was stated and whether it
    was right, NaN where none was judged."""

    sharpness: float = 1.0
    """Factor on the log-odds of what is stated of objects, as far as points that were held out
    let it be believed (`promise.sharpness_of`)."""

    points: Labels | None = None
    """Every reference and field point as a label."""
