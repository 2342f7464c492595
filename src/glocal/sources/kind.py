"""The one face of every kind of source: how it is read, told, corrected, scored and heard.

The loop calls these methods and never asks of what kind a source is. A kind says what it can: a
source has statements, or pixels, or features that something learns from. ``kinds.py`` lists them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, get_args, runtime_checkable

from odc.geo.geobox import GeoBox

from glocal.core.answer import Answered
from glocal.core.chip import Image
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.core.labels import Labels
from glocal.core.legend import Legend
from glocal.core.observation import Anchors, Observations
from glocal.core.provenance import Provenance, Terms
from glocal.core.typing import Bools, Bytes, Codes, Layers, Table
from glocal.sources.answers.asked import Asked
from glocal.sources.answers.content import Content
from glocal.sources.answers.verdict import Heard
from glocal.sources.config import SourceConfig

T = TypeVar("T")


def needed(value: T | None, otherwise: str) -> T:
    """Return what must be there; raises ``ValueError`` that says ``otherwise``."""
    if value is None:
        raise ValueError(otherwise)
    return value


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Window:
    """The area as a source is read into it."""

    geobox: GeoBox
    legend: Legend
    interval: Interval
    """Reference date of the estimate."""

    seed: int
    precision: float
    """Wanted share of edits that are right."""

    block: int
    """Side of a spatial block in cells."""

    fold: Bytes
    """Fold of every cell, for out-of-fold predictions, shape (H, W)."""

    earlier: Sequence[Reading] = ()
    """Sources that were read before."""

    sample: Path | None = None
    """Table of the anchors, None without any."""

    @property
    def folds(self) -> int:
        """How many folds there are."""
        return int(self.fold.max()) + 1

    @property
    def images(self) -> dict[str, Image]:
        """All images of the area, by their source."""
        return {one.name: one.image for one in self.earlier if one.image is not None}

    @property
    def dates(self) -> dict[str, Interval]:
        """When each image was taken."""
        return {name: one.chip.interval for name, one in self.images.items()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Features:
    """What something that learns sees of every cell."""

    values: Layers
    """Shape (cells, D), standardised (mean 0, standard deviation 1 over valid cells)."""

    valid: Bools
    """Shape (cells,), False where any input is missing (cloud, no data)."""

    names: tuple[str, ...]
    """Names of the D features."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Reading:
    """One source as it was read: it states, shows, or can learn."""

    kind: Kind
    config: Any
    """Its kind's own `SourceConfig`."""

    window: Window
    provenance: Provenance
    """Of what was read."""

    statements: Observations | None = None
    """What it says; of something that learns, what it says in this round."""

    image: Image | None = None
    features: Features | None = None
    time: Interval | None = None
    """When the ground was as something that learns sees it."""

    answers: Answered | None = None
    """What people answered to an earlier run, of a source that brings answers."""

    visited: Anchors | None = None
    """Reference points that came back with them."""

    of_anchors: bool = False
    """Whether its points are the other half of the anchors' own sample."""

    known: Any = None
    """What only its kind understands."""

    @property
    def name(self) -> str:
        """Name of the source."""
        name: str = self.config.name
        return name

    @property
    def says(self) -> Observations:
        """What it says, of a source that says something."""
        return needed(self.statements, f"{self.name} makes no statements")

    @property
    def shows(self) -> Image:
        """What it shows, of a source of pixels."""
        return needed(self.image, f"{self.name} has no pixels")

    @property
    def learner(self) -> Learner:
        """Its kind, which learns, of something that learns."""
        if not isinstance(self.kind, Learner):
            raise ValueError(f"{self.name} does not learn")
        return self.kind

    @property
    def sees(self) -> Features:
        """What it learns from, of something that learns."""
        return needed(self.features, f"{self.name} has no features to learn from")


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What a source was given."""

    files: tuple[Path, ...] = ()
    count: dict[str, int] = field(default_factory=dict)
    note: str = ""
    corrections: Corrections | None = None
    """As they went out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rechecked:
    """Whether corrections of a finished run still fit a newer file of their community."""

    number: int
    """Corrections that went out."""

    checked: int
    """Those of them that a newer file can contradict."""

    stale: tuple[dict[str, Any], ...]
    """A row (``proposal``, ``record``, ``fate``, ``why``) for each that must not be used."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Exam:
    """What a scored source, or a simpler way to make the map, may learn from beside its own."""

    cells: Codes
    """Flat cells at which it is asked, shape (A,)."""

    points: Labels
    """Every reference and field point that the loop had, as labels."""

    words: tuple[Codes, Table, Table]
    """Cells, class shares (n, K) and number of words (n,) of all that people train on as it is."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Truth:
    """What is really there in a made-up world, and where each record truly stands."""

    classes: Codes
    """Shape (H, W), class position, -1 where not known."""

    concepts: Mapping[int, int]
    """Class position by the code that tables of the truth use."""

    folder: Path
    exam: Exam


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Score:
    """How right a source is at places, before and after what it was told."""

    metric: str
    before: Table
    """Shape (n,), NaN at a place that does not count."""

    after: Table
    cell: Codes
    """Flat cell of each place."""


def credited(made_of: Provenance, config: Any) -> Provenance:
    """Return the provenance with the attribution of the configuration, where it gives one."""
    given = getattr(config, "attribution", None)
    return replace(made_of, attribution=(given,)) if given else made_of


class Kind(Protocol):
    """One kind of source. Subclass it: what a kind can't do stays as it is here."""

    Config: ClassVar[type[SourceConfig]]
    """What may be said of it in area.yaml."""

    brings_answers: ClassVar[bool] = False
    """Whether its sources are folders of answers (`answers.store`)."""

    channels: ClassVar[Mapping[str, str]] = {}
    """Files of answers that its community has, by channel, in words."""

    metric: ClassVar[str] = ""
    """How it is scored at reference points, in a few words."""

    terms: ClassVar[Terms | None] = None
    """Under which licences its community may use evidence; None: under any."""

    records: ClassVar[bool] = True
    """Whether its corrections name records or places, and so are listed in every round."""

    scored: ClassVar[bool] = True
    """Whether it can be asked what it says at reference points (`at_points`)."""

    teaches: ClassVar[bool] = False
    """Whether people train classifiers on it as it is."""

    why_never: ClassVar[str] = ""
    """Why no source of this kind can be scored, whatever reference points there are."""

    unscored: ClassVar[str] = "too few reference points where it speaks"
    """Why its quality can't be measured where there are reference points."""

    no_truth: ClassVar[str] = "no truth of this kind of source"
    """Why it has no score in a made-up world."""

    as_it_is: ClassVar[str] = "as it is"
    """What the source is called beside its name when it stands for itself as a map."""

    @classmethod
    def words(cls) -> tuple[str, ...]:
        """Return what ``kind:`` may say in area.yaml to mean it."""
        return get_args(cls.Config.model_fields["kind"].annotation)

    def read(self, config: Any, window: Window) -> Reading:
        """Read the source into the window; raises a `GlocalError` that says what to do."""
        ...

    def stated(self, config: Any, window: Window, seen: Observations, **further: Any) -> Reading:
        """Return what was read as statements, with the credit that the configuration asks for."""
        made_of = credited(seen.provenance, config)
        seen = replace(seen, provenance=made_of)
        fields = {"kind": self, "config": config, "window": window, "provenance": made_of}
        return Reading(**fields, statements=seen, **further)

    def hear(
        self, content: Content, asked: Asked, legend: Legend, class_column: str | None
    ) -> Heard | None:
        """Return what a file of answers says, None where it is none of this community's."""
        return None

    def unheard(self, reading: Reading, answers: Sequence[Answered]) -> Reading:
        """Return the source without words that came from our own corrections."""
        return reading

    def calibrated(
        self, reading: Reading, everybody: Sequence[Reading], anchors: Anchors | None
    ) -> Reading:
        """Return the source with what reference points tell of how it speaks."""
        return reading

    def kin(self, reading: Reading, everybody: Sequence[Observations]) -> frozenset[str]:
        """Return whose words may not be used about the source: its own, and its echoes'."""
        return frozenset({reading.name})

    def receive(self, reading: Reading, findings: Findings) -> Corrections | None:
        """Decide what the source is told of its records; None where it is told no such thing."""
        return None

    def write(
        self,
        reading: Reading,
        findings: Findings,
        corrections: Corrections | None,
        folder: Path,
    ) -> Written:
        """Write what the source is given, in its community's format; never sends anything."""
        ...

    def recheck(self, folder: Path, newer: Path) -> Rechecked | None:
        """Compare what was given in ``folder`` with a newer file; None: not of this kind."""
        return None

    def corrected(
        self, reading: Reading, findings: Findings, corrections: Corrections
    ) -> Observations:
        """Return the source as it would be read with the edits among ``corrections`` made."""
        return reading.says

    def at_points(
        self,
        reading: Reading,
        findings: Findings,
        corrections: Corrections | None,
        exam: Exam,
    ) -> dict[str, list[Any]] | None:
        """Return columns of what it says at ``exam.cells``, JSON-ready; None: it can't be asked.

        ``before`` and ``after`` hold class positions (-1: nothing is said), or probabilities of
        all classes beside ``speaks``. Of objects also ``stated``, ``proposed`` and ``edits``.
        """
        return None

    def shown(self, reading: Reading, cells: Codes) -> tuple[Bools, Bools] | None:
        """Return which cells a picture offers as showing the ground, before and after its mask."""
        return None

    def why_not(self, reading: Reading) -> str:
        """Return why its quality can't be measured where there are reference points."""
        return self.unscored

    def against_truth(self, reading: Reading, truth: Truth, folder: Path, told: Any) -> Score | str:
        """Return its score in a made-up world from what was written, or why there is none.

        ``folder`` holds what it was given, ``told`` the corrections of the run as a table.
        """
        return self.no_truth


@runtime_checkable
class Learner(Protocol):
    """A kind whose sources learn in the loop: those with `Reading.features`."""

    def learn(
        self, reading: Reading, labels: Sequence[Labels], only: Codes | None = None
    ) -> Layers:
        """Return P(class) of every cell, shape (cells, K), out of fold; NaN where it can't see.

        ``labels`` has one value per fold of the window: what may teach who speaks of that fold.
        """
        ...

    def learn_all(self, reading: Reading, labels: Labels) -> Layers:
        """Return the same taught by all labels: for a map that is read, never for a judgement."""
        ...

    def state(
        self, reading: Reading, *probability: Layers, provenance: Provenance
    ) -> tuple[Observations, ...]:
        """Return what it says, given layers of what it learned, in one alphabet."""
        ...
