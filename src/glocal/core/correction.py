"""What the loop gives back to a source: proposals, in columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from glocal.core.provenance import Provenance, osm_accepts
from glocal.core.result import frozen
from glocal.errors import LicenceConflictError

__all__ = ["Action", "Corrections", "Receiver"]

Receiver = Literal["osm", "insitu", "landcover", "imagery", "model"]
"""Community that a correction is for."""

Action = Literal["create", "modify", "delete", "flag", "visit"]
"""``create``, ``modify``, ``delete`` as in OsmChange; ``flag`` marks a doubt about a
record without a change; ``visit`` asks somebody to look."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Corrections:
    """Proposals to one source, one row each. Never applied by this program.

    The evidence never includes the source itself, and its licences must be such
    that the receiver may use them.
    """

    source: str
    """Who receives them."""

    receiver: Receiver
    """Community, which decides format and licence rule."""

    record: NDArray[np.str_]
    """Shape (n,), native id with version; a stable id of ours for ``create`` and ``visit``."""

    action: NDArray[np.str_]
    current: NDArray[np.str_]
    """Shape (n,), what the source says now (its symbol), empty for ``create``."""

    proposed: NDArray[np.str_]
    """Shape (n,), class name of the target legend."""

    probability: NDArray[np.float64]
    """Shape (n,), probability that the proposal is right."""

    support: NDArray[np.object_]
    """Shape (n,), shapely geometries in ``crs``."""

    crs: str
    because: tuple[str, ...]
    """Sources whose evidence speaks for the proposals; never ``source``."""

    round: int
    provenance: Provenance
    """Of the evidence."""

    columns: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Further columns of shape (n,) that the encoder of the receiver needs."""

    def __post_init__(self) -> None:
        n = len(self.record)
        for name in ("action", "current", "proposed", "probability", "support"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"Corrections.{name} must have length {n}")
        if len(np.unique(self.record)) != n:
            raise ValueError("Corrections.record must be unique")
        unknown = set(self.action.tolist()) - set(get_args(Action))
        if unknown:
            raise ValueError(f"Corrections.action knows {get_args(Action)}, got {sorted(unknown)}")
        if n and not ((self.probability >= 0) & (self.probability <= 1)).all():
            raise ValueError("Corrections.probability must lie in 0..1")
        if self.source in self.because:
            raise ValueError(
                f"a correction never cites its own target: {self.source!r} is in because"
            )
        if self.receiver == "osm":
            edits = np.isin(self.action, ("create", "modify", "delete"))
            if edits.any() and not osm_accepts(self.provenance.licences):
                raise LicenceConflictError(
                    "evidence for an OSM edit must be under a licence that OSM accepts, got "
                    f"{sorted(self.provenance.licences)}; leave those sources out of the "
                    "evidence, or make them survey tasks (action 'flag' or 'visit')"
                )
        for name in ("record", "action", "current", "proposed", "probability", "support"):
            object.__setattr__(self, name, frozen(getattr(self, name)))

    def __len__(self) -> int:
        return len(self.record)

    def take(self, keep: NDArray[Any]) -> Corrections:
        """Return the rows selected by a boolean or index array."""
        return Corrections(
            source=self.source,
            receiver=self.receiver,
            record=self.record[keep],
            action=self.action[keep],
            current=self.current[keep],
            proposed=self.proposed[keep],
            probability=self.probability[keep],
            support=self.support[keep],
            crs=self.crs,
            because=self.because,
            round=self.round,
            provenance=self.provenance,
            columns={name: values[keep] for name, values in self.columns.items()},
        )
