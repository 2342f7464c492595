"""What goes back to imagery people: how far a scene is off, and which pixels to trust."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from odc.geo.geobox import GeoBox

from glocal.core.interval import Interval
from glocal.core.legend import ClassDef, Legend
from glocal.core.placement import Registration
from glocal.core.sensor import Band
from glocal.core.typing import Bytes
from glocal.io.atomic import write_json
from glocal.io.raster import write_cog, write_qml
from glocal.sources.images.fill import Filling
from glocal.sources.images.filled import write_filling
from glocal.sources.images.registration import SceneFile, registration_report, write_registration

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
    registration: Registration | None,
    cloud_kind: Bytes,
    geobox: GeoBox,
    interval: Interval,
    scene: str = "",
    file: SceneFile | None = None,
    filling: Filling | str = "not asked for",
    bands: tuple[Band, ...] = (),
    why_no_registration: str = "",
    licence: str,
    attribution: str,
) -> list[Path]:
    """Write how far a scene is off, which of its cells to trust, and a copy without gaps.

    ``registration.json``, ``gcps.points``, ``stac_patch.json`` (see
    :func:`glocal.sources.images.registration.write_registration`), ``quality_mask.tif``;
    ``filled_image.tif``, ``filled_half_width.tif`` and ``filled_basis.tif`` where something
    was hidden, and ``filled.json`` always.

    Parameters
    ----------
    registration
        What brings the scene onto the other sources; ``None`` where nothing could be
        measured, then ``why_no_registration`` says why.
    cloud_kind
        Shape (H, W): 0 clear, 1 cloud, 2 shadow, 3 no data.
    file
        The scene's raster, if it is a single one.
    filling
        The image without gaps, of ``bands``; or why there is none. Its licence is that of
        all evidence: a file of its own.
    """
    unknown = sorted(set(np.unique(cloud_kind).tolist()) - set(QUALITY.values))
    if unknown:
        raise ValueError(f"cloud_kind must be 0 clear, 1 cloud, 2 shadow, 3 no data; got {unknown}")
    head = {
        "version": "1.0",
        "status": "proposed, not reviewed",
        "scene": scene,
        "phenomenon_time": interval.isoformat(),
        "crs": str(geobox.crs),
        "licence": licence,
        "attribution": attribution,
    }
    share = np.bincount(cloud_kind.ravel(), minlength=len(QUALITY)) / max(cloud_kind.size, 1)
    placed = {
        "type": "glocal-registration",
        **head,
        **registration_report(registration, geobox, why_no_registration),
        "quality": {k: round(x, 6) for k, x in zip(QUALITY.names, share.tolist(), strict=True)},
    }
    names = ("registration.json", "quality_mask.tif", "quality_mask.qml")
    report, mask, style = (folder / name for name in names)
    write_json(report, placed)
    copyright = f"{attribution}; licence {licence}"
    write_cog(
        mask,
        cloud_kind,
        geobox,
        nodata=3,
        band_names=("quality",),
        colors=QUALITY,
        copyright=copyright,
        description="0 clear, 1 cloud, 2 cloud shadow, 3 no data",
    )
    write_qml(style, QUALITY)
    moved = write_registration(folder, registration, geobox, file)
    filled = write_filling(folder, filling, bands, geobox, head, copyright)
    return [report, mask, style, *moved, *filled]
