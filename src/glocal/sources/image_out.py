"""What goes back to imagery people: how far a scene is off, and which pixels to trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Legend
from glocal.core.result import Displacement
from glocal.io.atomic import write_json
from glocal.io.raster import write_cog, write_qml

__all__ = ["QUALITY", "encode_image"]

QUALITY = Legend(
    name="quality",
    classes=(
        ClassDef(value=0, name="clear", title="Clear", color="ffffff"),
        ClassDef(value=1, name="cloud", title="Cloud", color="a0a0ff"),
        ClassDef(value=2, name="shadow", title="Cloud shadow", color="404060"),
        ClassDef(value=3, name="no_data", title="No data", color="000000"),
    ),
)


def encode_image(
    folder: Path,
    *,
    displacement: Displacement | None,
    cloud_kind: NDArray[np.uint8],
    geobox: GeoBox,
    interval: Interval,
    scene: str = "",
    absolute_control: bool = False,
    why_no_displacement: str = "",
    licence: str,
    attribution: str,
) -> list[Path]:
    """Write ``registration.json`` and ``quality_mask.tif`` (+ QGIS style).

    Parameters
    ----------
    displacement
        Shift in metres that brings the scene onto the other sources; ``None`` where none
        could be measured, then ``why_no_displacement`` says why.
    cloud_kind
        Shape (H, W): 0 clear, 1 cloud, 2 shadow, 3 no data.
    absolute_control
        True when surveyed points pin the shift down; otherwise only the shift relative to
        the other sources is known, and any split between them rests on stated accuracies.
    """
    unknown = sorted(set(np.unique(cloud_kind).tolist()) - set(QUALITY.values))
    if unknown:
        raise ValueError(f"cloud_kind must be 0 clear, 1 cloud, 2 shadow, 3 no data; got {unknown}")
    folder = Path(folder)
    notes = {"licence": licence, "attribution": attribution}
    write_json(
        folder / "registration.json",
        {
            "type": "glocal-registration",
            "version": "1.0",
            "status": "proposed, not reviewed",
            "scene": scene,
            "phenomenon_time": interval.isoformat(),
            "crs": str(geobox.crs),
            **_registration(displacement, absolute_control, why_no_displacement),
            "quality": _quality(cloud_kind),
            **notes,
        },
    )
    write_cog(
        folder / "quality_mask.tif",
        cloud_kind,
        geobox,
        nodata=3,
        band_names=("quality",),
        colors=QUALITY,
        copyright=f"{attribution}; licence {licence}",
        description="0 clear, 1 cloud, 2 cloud shadow, 3 no data",
    )
    write_qml(folder / "quality_mask.qml", QUALITY)
    names = ("registration.json", "quality_mask.tif", "quality_mask.qml")
    return [folder / name for name in names]


def _registration(shift: Displacement | None, absolute: bool, why: str) -> dict[str, Any]:
    if shift is None:
        return {"available": False, "reason": why or "no displacement was estimated"}
    variance = np.asarray(shift.covariance, float)
    return {
        "available": True,
        "shift_m": {"north": shift.dy, "east": shift.dx},
        "meaning": "add to the scene's coordinates to bring it onto the other sources",
        "covariance_m2": {"order": ["north", "east"], "values": variance.tolist()},
        "standard_uncertainty_m": {
            "north": float(variance[0, 0] ** 0.5),
            "east": float(variance[1, 1] ** 0.5),
        },
        "significant": shift.significant,
        "gauge": shift.gauge,
        "note": "measured against surveyed control"
        if absolute
        else "prior-driven: only the shift relative to the other sources is observable; "
        "whether the scene or they are off can't be told without control points",
    }


def _quality(kind: NDArray[np.uint8]) -> dict[str, float]:
    count = np.bincount(kind.ravel(), minlength=len(QUALITY))
    return {
        name: round(float(share), 6)
        for name, share in zip(QUALITY.names, count / max(kind.size, 1), strict=True)
    }
