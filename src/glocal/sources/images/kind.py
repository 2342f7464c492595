"""Images as a kind of source: they are told where they lie, and what hides the ground."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, model_validator

from glocal.core.chip import Image
from glocal.core.correction import Corrections
from glocal.core.findings import Findings
from glocal.core.interval import Interval
from glocal.core.observation import Observations
from glocal.core.provenance import Provenance
from glocal.core.sensor import Sensor, sensor
from glocal.core.typing import Bools, Codes
from glocal.io.raster import read_on
from glocal.sources.chips.read import read_image, read_scl
from glocal.sources.config import Crs, Date, FilePath, Licence, Names, SourceConfig
from glocal.sources.images.clouds import NO_DATA, clear_cells, require_clear
from glocal.sources.images.fill import Filling, fill_gaps
from glocal.sources.images.registration import SceneFile
from glocal.sources.images.write import encode_image
from glocal.sources.kind import Kind, Reading, Score, Truth, Window, Written, credited

SENSORS = {"sentinel2": "sentinel2-l1c", "sentinel1": "sentinel1-db", "dsm": "dsm", "rgb": "rgb"}
"""Row of the table of sensors with the bands that a word for a kind of image offers at most."""

ALONE = "no source without a root in common with the image"
NO_PEAK = "no peak: the others' classes do not show in this image"
PICTURE = "usable cells that show the ground"

Unit = Annotated[
    Literal["DN", "1", "reflectance", "dB", "linear", "power", "m"],
    BeforeValidator(lambda value: str(value) if isinstance(value, int) else value),
]


class ImageConfig(SourceConfig):
    """Pixels of one sensor."""

    stage: ClassVar[int] = 0
    kind: Literal["sentinel2", "sentinel1", "dsm", "rgb"]
    path: FilePath
    """A SAFE folder, a folder of band files, or one stacked raster."""

    date: Date | None = None
    """When the sensor looked, where the files don't say."""

    unit: Unit | None = None
    """Unit of the stored numbers, where the files don't say."""

    offset: float | None = None
    """Added to Sentinel-2 numbers before scaling, where no metadata says it (-1000 or 0)."""

    crs: Crs | None = None
    """Replaces a missing or wrong CRS of the files."""

    bands: Names | None = None
    """Names of the bands of a stacked raster, in order."""

    licence: Licence = "unknown"
    attribution: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _copernicus(cls, values: Any) -> Any:
        if isinstance(values, dict) and str(values.get("kind")).startswith("sentinel"):
            return {"licence": "Copernicus", **values}
        return values

    @property
    def sensor(self) -> Sensor:
        """The sensor with all bands that such an image may have."""
        return sensor(SENSORS[self.kind])


class Images(Kind):
    """Pixels: evidence through rules and models, and receivers of their own."""

    Config = ImageConfig
    scored = False
    metric = PICTURE
    unscored = "no control points, and no reference point that a cloud hid"
    records = False

    def read(self, config: ImageConfig, window: Window) -> Reading:
        """Read the image onto the grid, and find what hides the ground."""
        when = Interval.parse(config.date) if config.date else None
        stored = config.model_dump(include={"unit", "offset", "crs", "bands", "licence"})
        chip = read_image(
            config.path, config.kind, window.geobox, interval=when, source=config.name, **stored
        )
        chip = replace(chip, provenance=credited(chip.provenance, config))
        classes = read_scl(config.path, window.geobox, crs=config.crs)
        clear, mask = clear_cells(chip, classes if config.kind == "sentinel2" else None)
        require_clear(config.name, mask)
        image = Image(chip=chip, clear=clear, mask=mask)
        return Reading(
            kind=self, config=config, window=window, provenance=chip.provenance, image=image
        )

    def kin(self, reading: Reading, everybody: Sequence[Observations]) -> frozenset[str]:
        """Return all who descend from the image: they lie wherever it lies."""
        kin = [one for one in everybody if one.provenance.shares_root(reading.provenance)]
        return frozenset(one.source for one in kin)

    def write(
        self, reading: Reading, findings: Findings, corrections: Corrections | None, folder: Path
    ) -> Written:
        """Write the scene's shift, its mask of clouds, and what they hid."""
        image, window = reading.shows, reading.window
        filling: Filling | str = ALONE
        provenance = reading.provenance
        if findings.because:
            filling = _filled(reading, np.exp(findings.others))
            provenance = Provenance.derive("fill", [provenance, findings.provenance])
        files = encode_image(
            folder,
            registration=findings.registration,
            cloud_kind=image.mask,
            geobox=window.geobox,
            interval=image.chip.interval,
            scene=", ".join(sorted(reading.provenance.roots)),
            file=SceneFile.of(reading.config.path, reading.config.crs),
            filling=filling,
            bands=image.chip.bands,
            why_no_registration=NO_PEAK if findings.because else ALONE,
            licence=provenance.licence,
            attribution=provenance.credit,
        )
        count = {"cloud_cells": int(image.hidden.sum())}
        if isinstance(filling, Filling):
            count["filled_cells"] = int(np.isin(filling.basis, (1, 2, 3)).sum())
        return Written(files=tuple(files), count=count)

    def shown(self, reading: Reading, cells: Codes) -> tuple[Bools, Bools] | None:
        """Return where a picture has data, and where it does outside its mask."""
        image = reading.shows
        if not image.chip.has("red"):
            return None
        seen = image.mask.ravel()[cells] != NO_DATA
        return seen, seen & image.clear.ravel()[cells]

    def against_truth(self, reading: Reading, truth: Truth, folder: Path, told: Any) -> Score | str:
        """Score how many of the cells that an image offers as usable show the ground."""
        path = truth.folder / f"hidden_{reading.name}.tif"
        if not path.exists():
            return "nothing hides the ground from this sensor, and its place has no control"
        hidden, _ = read_on(path, reading.window.geobox)
        mask, seen = read_on(folder / "quality_mask.tif", reading.window.geobox)
        shown = (hidden == 0).astype(np.float64)
        return Score(
            metric=PICTURE,
            before=np.where(seen, shown, np.nan).ravel(),
            after=np.where(seen & (mask == 0), shown, np.nan).ravel(),
            cell=np.arange(mask.size),
        )


def _filled(reading: Reading, others: Any) -> Filling | str:
    image, window = reading.shows, reading.window
    rest = [
        (one.layers, sensor(one.chip.sensor).short == sensor(image.chip.sensor).short)
        for name, one in sorted(window.images.items())
        if name != reading.name
    ]
    return fill_gaps(
        image.chip.values,
        np.asarray(np.isfinite(image.layers).all(axis=0)),
        image.hidden,
        rest,
        others,
        window.fold,
        seed=window.seed,
    )
