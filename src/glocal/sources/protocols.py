"""What a source can do, one protocol per capability; nothing has to inherit from it."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from odc.geo.geobox import GeoBox

from glocal.core.correction import Corrections
from glocal.core.legend import Legend
from glocal.core.observation import Observations

__all__ = ["Corrector", "Observer"]


class Observer(Protocol):
    """Something that states classes about an area."""

    def observe(self, geobox: GeoBox, legend: Legend) -> Observations:
        """Return the source's statements inside ``geobox``, with priors in ``legend``."""
        ...


class Corrector(Protocol):
    """Something that writes corrections in its community's own format."""

    def encode(self, corrections: Corrections, folder: Path) -> list[Path]:
        """Write files into ``folder`` and return their paths; never uploads anything."""
        ...
