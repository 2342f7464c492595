"""Where a value comes from, under which licence, and who may receive it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from glocal.errors import LicenceConflictError


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Under which licences a community may use evidence for an edit of its data."""

    community: str
    """Its name in sentences."""

    licences: frozenset[str]

    waiver: str
    """Suffix of a licence whose holder agreed in writing (``CC-BY-4.0+osm-waiver``)."""

    own: str
    """Licence of the community's data, and of what is said about them."""

    def accept(self, licences: Iterable[str]) -> bool:
        """Return True when evidence under all these licences may be used."""
        return all(one in self.licences or one.endswith(self.waiver) for one in licences)

    def require(self, licences: Iterable[str]) -> None:
        """Refuse evidence that may not enter an edit.

        Raises
        ------
        LicenceConflictError
            Names the licences.
        """
        if not self.accept(licences):
            raise LicenceConflictError(
                f"evidence for an edit of {self.community} must be under a licence that it "
                f"accepts, got {sorted(licences)}; leave those sources out of the evidence, or ask "
                "somebody to look instead (action 'flag' or 'visit')"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """The history of one value (W3C PROV: activity, agent, used).

    ``roots`` names the original acquisitions behind the value. Two sources with a
    root in common may share errors: that is how dependence is seen before any
    number is. ``labels`` are the roots that taught a model; they are kept apart
    from the roots of its input (a prediction outside its training blocks does not
    descend from the labels of the block that it judges).
    """

    activity: str
    """What was done, a short verb phrase (``read``, ``classify``, ``fuse``)."""

    agent: str
    """Who is responsible: an organisation, a community or this software."""

    used: tuple[str, ...] = ()
    """Names or digests of the inputs, sorted."""

    licences: frozenset[str] = field(default_factory=frozenset)
    """SPDX identifiers (or ``Copernicus``, ``public-domain``): the union over ``used``."""

    roots: frozenset[str] = field(default_factory=frozenset)
    """Original acquisitions: the union over ``used``."""

    labels: frozenset[str] = field(default_factory=frozenset)
    """Roots of the labels that trained a model, if one was trained."""

    attribution: tuple[str, ...] = ()
    """Sentences that every output must repeat, sorted and unique."""

    generated_at: datetime | None = None
    """Date of the newest input. Outputs are a function of inputs, seed and version,
    so the wall-clock time of a run stands in its log, never in its results."""

    software: str = ""
    """Name and version of the program."""

    def __post_init__(self) -> None:
        if not self.activity or not self.agent:
            raise ValueError(
                "Provenance needs an activity and an agent, "
                f"got {self.activity!r} and {self.agent!r}"
            )
        for name in ("licences", "roots", "labels"):
            object.__setattr__(self, name, frozenset(getattr(self, name)))
        for name in ("used", "attribution"):
            object.__setattr__(self, name, tuple(sorted(set(getattr(self, name)))))

    @classmethod
    def derive(
        cls,
        activity: str,
        inputs: Iterable[Provenance],
        *,
        agent: str = "glocal",
        software: str = "",
        used: Iterable[str] = (),
        labels: Iterable[Provenance] = (),
    ) -> Provenance:
        """Return the provenance of something made from ``inputs`` (and taught by ``labels``).

        Licences are the union over inputs *and* labels; roots over inputs only.
        """
        inputs, labels = tuple(inputs), tuple(labels)
        everyone = inputs + labels
        dates = [one.generated_at for one in everyone if one.generated_at is not None]
        return cls(
            activity=activity,
            agent=agent,
            used=tuple(used) + tuple(name for one in everyone for name in one.used),
            licences=frozenset().union(*(one.licences for one in everyone)),
            roots=frozenset().union(*(one.roots for one in inputs)),
            labels=frozenset().union(
                *(one.labels for one in inputs), *(one.roots | one.labels for one in labels)
            ),
            attribution=tuple(text for one in everyone for text in one.attribution),
            generated_at=max(dates) if dates else None,
            software=software,
        )

    def shares_root(self, other: Provenance) -> bool:
        """Return True when both descend from at least one common acquisition."""
        return bool(self.roots & other.roots)

    @property
    def licence(self) -> str:
        """The licence of something made under all of ``licences``.

        Anything that data under the Open Database License entered is a derivative database, so
        ODbL; otherwise the names are joined, for a person to weigh.
        """
        share_alike = "ODbL-1.0"
        if share_alike in self.licences:
            return share_alike
        return " AND ".join(sorted(self.licences)) or "unknown"

    @property
    def credit(self) -> str:
        """The sentences that an output must repeat, joined."""
        return "; ".join(self.attribution)
