"""What goes back to imagery people: how far a scene is off, and which of its cells to trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from glocal.core.result import Displacement
from glocal.run.area import Area
from glocal.run.proposals import Gift, attribution_of, licence_of
from glocal.sources.image_out import encode_image

__all__ = ["to_image"]


def to_image(area: Area, name: str, shifts: Mapping[str, Displacement], room: Path) -> Gift:
    """Write what is known of one image: its shift and its clouds."""
    image = area.images[name]
    shift, why = None, "no layer of objects to compare with"
    if shifts:
        other = sorted(shifts)[0]
        one = shifts[other]
        shift = replace(one, dy=-one.dy, dx=-one.dx, gauge=f"relative to {other}")
        why = ""
    provenance = image.chip.provenance
    files = encode_image(
        room,
        displacement=shift,
        cloud_kind=image.kind,
        geobox=area.geobox,
        interval=image.chip.interval,
        scene=", ".join(sorted(provenance.roots)),
        why_no_displacement=why,
        licence=licence_of(provenance.licences),
        attribution=attribution_of(provenance),
    )
    hidden = int(((image.kind == 1) | (image.kind == 2)).sum())
    return Gift(files=tuple(files), count={"cloud_cells": hidden})
