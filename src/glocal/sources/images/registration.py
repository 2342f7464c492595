"""How far a scene is off, in files: a report, control points, a patch of its STAC item."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from odc.geo.geobox import GeoBox
from pyproj import CRS
from rasterio.transform import Affine

from glocal.core.placement import Registration
from glocal.core.result import Displacement
from glocal.io.atomic import write_json, write_text
from glocal.io.raster import native_grid
from glocal.io.stac import grid_fields, multihash

SINGLE = (".tif", ".tiff", ".jp2")

RELATIVE = (
    "prior-driven: only the shift relative to the other sources is observable; whether the scene "
    "or they are off can't be told without control points"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneFile:
    """The one raster of a scene, as it stands."""

    name: str
    grid: GeoBox
    size: int
    checksum: str
    """Multihash of the SHA-256, hexadecimal."""

    @classmethod
    def of(cls, path: Path, crs: Any | None) -> SceneFile | None:
        """Return the scene's raster; None where it is no single file with a grid."""
        if not path.is_file() or path.suffix.lower() not in SINGLE:
            return None
        content = path.read_bytes()
        return cls(
            name=path.name,
            grid=native_grid(path, crs),
            size=len(content),
            checksum=multihash(content),
        )


def write_registration(
    folder: Path, registration: Registration | None, geobox: GeoBox, scene: SceneFile | None
) -> list[Path]:
    """Write control points for QGIS and, for a significant shift, a patch of the STAC item.

    ``gcps.points`` is read by QGIS's georeferencer: where each part of the scene lies and
    where it should. ``stac_patch.json`` is a JSON merge patch (RFC 7396) with the corrected
    ``proj:transform`` of the one file named by its checksum.
    """
    if registration is None:
        return []
    files = []
    if registration.points:
        files.append(folder / "gcps.points")
        lines = [
            f"#CRS: {CRS.from_user_input(str(geobox.crs)).to_wkt()}",
            "mapX,mapY,sourceX,sourceY,enable,dX,dY,residual",
        ]
        for one in registration.points:
            x, y = geobox.transform * (one.column, one.row)
            to_x, to_y = x + one.shift.dx, y + one.shift.dy
            lines.append(f"{to_x:.3f},{to_y:.3f},{x:.3f},{y:.3f},1,0,0,0")
        write_text(files[-1], "\n".join(lines) + "\n")
    if scene is not None and registration.shift.significant and scene.grid.crs == geobox.crs:
        files.append(folder / "stac_patch.json")
        write_json(files[-1], _patch(registration, geobox, scene))
    return files


def _patch(registration: Registration, geobox: GeoBox, scene: SceneFile) -> dict[str, Any]:
    corrected = corrected_transform(registration, geobox, scene.grid.transform)
    asset = {
        **grid_fields(scene.grid),
        "proj:code": str(geobox.crs),
        "proj:transform": [round(float(v), 9) for v in tuple(corrected)[:6]],
        "file:checksum": scene.checksum,
        "file:size": scene.size,
    }
    return {
        "assets": {Path(scene.name).stem: asset},
        "properties": {
            "processing:lineage": "proj:transform corrected to fit the other sources; "
            "proposed, not reviewed; the pixels are unchanged"
        },
    }


def corrected_transform(registration: Registration, geobox: GeoBox, transform: Affine) -> Affine:
    """Return ``transform`` (pixel → map) such that the scene lies where the others are."""
    if registration.affine is None:
        shift = registration.shift
        return Affine.translation(shift.dx, shift.dy) * transform
    # The affine shift counts cells from the middle; the map's transform from the corner.
    height, width = geobox.shape
    move = [(a, b, o - a * width / 2 - b * height / 2) for o, a, b in registration.affine]
    by = Affine(*move[0], *move[1]) * ~geobox.transform * transform
    return Affine(*(a + b for a, b in zip(tuple(transform)[:6], tuple(by)[:6], strict=True)))


def registration_report(
    registration: Registration | None, geobox: GeoBox, why: str
) -> dict[str, Any]:
    """Return what ``registration.json`` says of the position."""
    if registration is None:
        return {"available": False, "reason": why or "no displacement was estimated"}
    shift, affine = registration.shift, None
    if registration.affine is not None:
        east, north = registration.affine
        affine = {"east": east, "north": north, "unit": "m at the middle, m per cell"}
    parts = []
    for one in registration.points:
        x, y = geobox.transform * (one.column, one.row)
        off = _off(one.shift).items()
        part = {name: {axis: round(m, 3) for axis, m in pair.items()} for name, pair in off}
        parts.append({"x": round(float(x), 3), "y": round(float(y), 3), **part})
    return {
        "available": True,
        **_off(shift),
        "meaning": "add to the scene's coordinates to bring it onto the other sources",
        "covariance_m2": {
            "order": ["north", "east"],
            "values": np.asarray(shift.covariance, float).tolist(),
        },
        "significant": shift.significant,
        "gauge": shift.gauge,
        "note": RELATIVE,
        "parts": parts,
        "affine": affine,
    }


def _off(shift: Displacement) -> dict[str, dict[str, float]]:
    """Return a shift with its standard uncertainty, in metres."""
    north, east = (one**0.5 for one in np.diag(np.asarray(shift.covariance, float)).tolist())
    sd = {"north": north, "east": east}
    return {"shift_m": {"north": shift.dy, "east": shift.dx}, "standard_uncertainty_m": sd}
