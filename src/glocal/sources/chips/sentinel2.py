"""Sentinel-2 products on disk: which file holds which band, and how numbers become reflectance.

Three layouts are known: a SAFE folder (L1C, L2A) with its metadata, a folder of band
files named after bands, and one stacked raster. Level, quantification and offset come
from the metadata, never from the date: reprocessed old scenes carry the offset that
processing baseline 04.00 introduced, and some archives have already taken it off.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from xml.etree import ElementTree

from glocal.core.interval import Interval
from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.io.raster import info

BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
"""In the order of ``band_id`` in the metadata."""

ALIASES = {
    "coastal": "B01", "blue": "B02", "green": "B03", "red": "B04", "rededge1": "B05",
    "rededge2": "B06", "rededge3": "B07", "nir": "B08", "nir08": "B8A", "nir09": "B09",
    "cirrus": "B10", "swir16": "B11", "swir22": "B12", "scl": "SCL",
}  # fmt: skip
"""Asset names of common STAC catalogues."""

RASTERS = (".jp2", ".tif", ".tiff")
QUANTIFICATION = 10000.0

_BAND = re.compile(r"(?:^|[_.\-])(B(?:0?[1-9]|1[0-2]|8A)|SCL)(?:_(\d\d)m)?$", re.IGNORECASE)
_MOMENT = re.compile(r"(20\d\d)(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)?")
_DAY = re.compile(r"(?<!\d)(20\d\d)-?([01]\d)-?([0-3]\d)(?!\d)")
_TILE = re.compile(r"T(\d\d[A-Z]{3})(?=_|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One Sentinel-2 acquisition as found on disk."""

    level: str
    """``L1C`` or ``L2A``."""

    bands: dict[str, tuple[Path, int]]
    """Band name to (file, band number in the file), in the order of `BANDS`."""

    root: str
    """Identity of the acquisition."""

    interval: Interval | None
    quantification: float = QUANTIFICATION
    """Divisor of the stored numbers."""

    offsets: dict[str, float] = field(default_factory=dict)
    """Added to the stored numbers before division, by band; empty without metadata."""

    described: bool = False
    """True when metadata gave level and offset."""


def band_of_name(stem: str) -> tuple[str, int] | None:
    """Return (band, metres in the name or 0) from a file stem or band description.

    >>> band_of_name("T33UUU_20170216T102101_B8A"), band_of_name("T31UFS_2020_B02_10m")
    (('B8A', 0), ('B02', 10))
    >>> band_of_name("B4"), band_of_name("nir"), band_of_name("readme")
    (('B04', 0), ('B08', 0), None)
    """
    if stem.lower() in ALIASES:
        return ALIASES[stem.lower()], 0
    match = _BAND.search(stem.strip())
    if match is None:
        return None
    name = match.group(1).upper()
    if len(name) == 2:
        name = f"B0{name[1]}"
    return name, int(match.group(2) or 0)


def acquisition(text: str) -> tuple[str, Interval | None]:
    """Return (identity, interval of the day) from a file or product name.

    >>> acquisition("S2A_MSIL1C_20170216T102101_N0204_R065_T33UUU_20170216T102204.SAFE")[0]
    'T33UUU_20170216T102101'
    >>> acquisition("kempen_S2")
    ('kempen_S2', None)
    """
    stem = text.removesuffix(".SAFE")
    day = _MOMENT.search(stem) or _DAY.search(stem)
    if day is None:
        return stem, None
    try:
        year, month, number = (int(one) for one in day.groups()[:3])
        interval = Interval.of_day(date(year, month, number))
    except ValueError:
        return stem, None
    tile = _TILE.search(stem)
    return (f"T{tile.group(1)}_{day.group(0)}" if tile else stem), interval


def band_files(folder: Path, named: re.Pattern[str] | None = None) -> dict[str, Path]:
    """Return {band: file} of a folder, the finest resolution of each band.

    ``named`` finds bands of another sensor by its first group (``VV``).

    Raises ``BadSourceError``: two files claim the same band, as when two dates lie in one folder.
    """
    best: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in RASTERS or "QI_DATA" in path.parts:
            continue
        if named is None:
            found = band_of_name(path.stem)
        else:
            match = named.search(path.stem)
            found = (match.group(1).upper(), 0) if match else None
        if found is None:
            continue
        band, metres = found
        if band in best and best[band][0] == metres:
            raise BadSourceError(
                f"{folder} holds two files for band {band}: {best[band][1].name} and {path.name}; "
                "give each acquisition a folder of its own"
            )
        if band not in best or metres < best[band][0]:
            best[band] = (metres, path)
    return {band: path for band, (_, path) in best.items()}


def open_product(path: Path, bands: tuple[str, ...] | None = None) -> Product:
    """Find the bands and metadata of a Sentinel-2 acquisition.

    ``bands`` names the layers of a stacked raster that has no band descriptions.

    Raises
    ------
    SourceUnavailableError
        Nothing at ``path``.
    BadSourceError
        No band can be told apart.
    """
    if not path.exists():
        raise SourceUnavailableError(f"{path} does not exist; check the path in area.yaml")
    if path.is_dir():
        files = {band: (file, 1) for band, file in band_files(path).items()}
    else:
        files = _stack_bands(path, bands)
    spectral = {name: files[name] for name in BANDS if name in files}
    if not spectral:
        raise BadSourceError(
            f"{path} holds no Sentinel-2 band; files must end in the band's name, as "
            "T33UUU_20170216T102101_B02.jp2 or scene_B8A.tif"
        )
    if path.is_dir() and (metadata := sorted(path.rglob("MTD_MSIL*.xml"))):
        return _described(metadata[0], spectral)
    stem = next(iter(spectral.values()))[0].stem
    container = path.name if path.is_dir() else path.stem
    # The band file's name is believed before that of the folder, which people choose.
    identity, interval = acquisition(_BAND.sub("", stem) or container)
    named = [level for level in ("L1C", "L2A") if f"MSI{level}" in f"{container} {stem}"]
    return Product(
        # L2A drops the cirrus band.
        level=named[0] if named else "L1C" if "B10" in spectral else "L2A",
        bands=spectral,
        root=f"S2:{identity}",
        interval=interval or acquisition(container)[1],
    )


def _stack_bands(path: Path, bands: tuple[str, ...] | None) -> dict[str, tuple[Path, int]]:
    header = info(path, "EPSG:4326")  # the CRS is checked where pixels are read
    names = bands or header.descriptions
    if len(names) != len(header.descriptions):
        raise BadSourceError(
            f"{path} has {len(header.descriptions)} bands, but bands: names {len(names)}"
        )
    found = [band_of_name(name) for name in names]
    if bands is None and len(names) == 1 and found == [None]:
        found = [band_of_name(path.stem)]
    unknown = [name[:20] or f"band {i}" for i, name in enumerate(names, 1) if found[i - 1] is None]
    if unknown and (bands is not None or len(unknown) == len(names)):
        raise BadSourceError(
            f"{path} does not say which band is which ({', '.join(unknown[:4])}...); "
            f"set bands: to a list of {len(names)} names, as [B02, B03, B04, B08]"
        )
    return {one[0]: (path, i) for i, one in enumerate(found, start=1) if one is not None}


def _described(metadata: Path, bands: dict[str, tuple[Path, int]]) -> Product:
    try:
        root = ElementTree.parse(metadata).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise SourceUnavailableError(
            f"can't read {metadata}: {error}; the file may be truncated, download it again"
        ) from error
    # (band_id, text) of each tag, without its namespace.
    texts: dict[str, list[tuple[str, str]]] = {}
    for node in root.iter():
        tag = node.tag.rpartition("}")[2]
        texts.setdefault(tag, []).append((node.get("band_id", ""), (node.text or "").strip()))
    level = "L2A" if "MSIL2A" in metadata.name else "L1C"
    name = texts.get("PRODUCT_URI", [("", metadata.parent.name)])[0][1]
    identity, by_name = acquisition(name)
    start = texts.get("PRODUCT_START_TIME")
    divisor = texts.get("BOA_QUANTIFICATION_VALUE") or texts.get("QUANTIFICATION_VALUE")
    offsets = texts.get("BOA_ADD_OFFSET" if level == "L2A" else "RADIO_ADD_OFFSET", [])
    return Product(
        level=level,
        bands=bands,
        root=f"S2:{identity}",
        interval=Interval.parse(start[0][1][:10]) if start else by_name,
        quantification=float(divisor[0][1]) if divisor else QUANTIFICATION,
        offsets={BANDS[int(band)]: float(text) for band, text in offsets},
        described=True,
    )
