"""Check before a release that JOSM and QGIS open what a run wrote.

    python3 scripts/release_check.py out/run out/demo

JOSM (headless) loads the proposals of ``corrections/*/``: the layer, the OsmChange file and the
change files inside MapRoulette tasks. That it has seen every element is shown by copies in
which each of them bears a deprecated tag: its validator must complain once for each. QGIS opens
each GeoPackage, GeoJSON and GeoTIFF, with the style beside it. Exit status 0: all is well; 1: a
file fails, or there was none to check; 2: a program is missing. Needs Python's own library only.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

JAR = Path(os.environ.get("JOSM_JAR", "/usr/share/josm/josm.jar"))
QGIS_PYTHON = os.environ.get("QGIS_PYTHON", "/usr/bin/python3")
IN_QGIS = Path(__file__).with_name("open_in_qgis.py")
INSTALL = (
    "on Debian: apt-get install --no-install-recommends josm default-jre-headless python3-qgis"
)

DEPRECATED = ("landuse", "farm")
COMPLAINT = "landuse=farm is deprecated"
EMPTY = '<osm version="0.6"><node id="1" version="1" lat="0" lon="0"/></osm>'


def missing() -> list[str]:
    """Return what has to be installed."""
    lacks = [] if shutil.which("java") else ["java"]
    lacks += [] if JAR.is_file() else [f"JOSM ({JAR}; set JOSM_JAR if it lies elsewhere)"]
    found = shutil.which(QGIS_PYTHON) is not None
    ask = [QGIS_PYTHON, "-c", "import qgis.core"]
    if not found or subprocess.run(ask, capture_output=True, check=False).returncode:
        lacks.append(f"PyQGIS in {QGIS_PYTHON} (set QGIS_PYTHON if it lies elsewhere)")
    return lacks


# JOSM -----------------------------------------------------------------------


def bearers(root: ET.Element) -> list[ET.Element]:
    """Return the ways and relations that a document changes."""
    blocks = [one for one in root if one.tag in ("create", "modify")]
    inside = [one for block in blocks for one in block]
    changed = inside or [one for one in root if one.get("action") == "modify"]
    return [
        one for one in changed if one.tag in ("way", "relation") and one.find("tag") is not None
    ]


def marked(text: str) -> tuple[str, int]:
    """Return a document whose changed elements bear a deprecated tag, and their number."""
    root = ET.fromstring(text)
    changed = bearers(root)
    for one in changed:
        for tag in one.findall("tag"):
            if tag.get("k") != "type":
                one.remove(tag)
        ET.SubElement(one, "tag", k=DEPRECATED[0], v=DEPRECATED[1])
    return ET.tostring(root, encoding="unicode"), len(changed)


def unchanged(text: str) -> str:
    """Return a JOSM layer as it is before its proposals: without what they touch."""
    root = ET.fromstring(text)
    for one in [one for one in root if one.get("action")]:
        root.remove(one)
    return ET.tostring(root, encoding="unicode")


def validate(room: Path, base: str, change: str = "") -> list[dict]:
    """Return what JOSM's validator says of a layer after a change; RuntimeError on failure."""
    (room / "home").mkdir(exist_ok=True)
    said = room / "said.geojson"
    said.unlink(missing_ok=True)
    (room / "base.osm").write_text(base, "utf-8")
    command = ["java", "-Djava.awt.headless=true", f"-Djosm.home={room / 'home'}", "-jar", str(JAR)]
    command += ["validate", "--input", str(room / "base.osm"), "--output", str(said)]
    if change:
        (room / "change.osc").write_text(change, "utf-8")
        command += ["--change-file", str(room / "change.osc")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode or not said.exists():
        reasons = [one for one in done.stderr.splitlines() if "Exception" in one and one[0] != "\t"]
        reasons = [one for one in reasons if "UnknownHost" not in one]
        raise RuntimeError(reasons[0].strip() if reasons else f"JOSM ended with {done.returncode}")
    lines = said.read_text("utf-8").replace("\x1e", "").splitlines()
    return [json.loads(one) for one in lines if one.strip()]


def complaints(found: list[dict]) -> int:
    """Return how many elements JOSM found with the deprecated tag."""
    first = [one["features"][0]["properties"] for one in found]
    return len({p["@id"] for p in first if p.get("description", "").startswith(COMPLAINT)})


def seen(room: Path, base: str, change: str, number: int, what: str) -> list[str]:
    """Return what is wrong when JOSM must see ``number`` marked elements."""
    found = complaints(validate(room, base, change))
    print(f"  JOSM loads {what}: {found} of {number} changed elements seen")
    return [] if found == number else [f"JOSM sees {found} of {number} elements of {what}"]


def change_files(path: Path) -> list[str]:
    """Return the change files inside MapRoulette tasks."""
    lines = path.read_text("utf-8").replace("\x1e", "").splitlines() if path.exists() else []
    files = [json.loads(one)["cooperativeWork"]["file"] for one in lines]
    return [base64.b64decode(one["content"]).decode() for one in files]


def joined(changes: list[str]) -> str:
    """Return change files as one, with new ids of their own: JOSM's command takes only one."""
    root = ET.Element("osmChange", version="0.6")
    for number, text in enumerate(changes):
        for block in ET.fromstring(text):
            for one in block.iter():
                for name in ("id", "ref"):
                    if one.get(name, "").startswith("-"):
                        one.set(name, f"{one.get(name)}{number:04d}")
            root.append(block)
    return ET.tostring(root, encoding="unicode")


def findings(room: Path, text: str) -> list[str]:
    """Return the errors that JOSM finds in what is proposed, and print how many warnings."""
    ours: set[str] = {f"{one.tag}/{one.get('id')}" for one in bearers(ET.fromstring(text))}
    # new elements get other negative ids in JOSM
    about = [
        one["features"][0]["properties"]
        for one in validate(room, text)
        if any(
            f["properties"].get("@id", "") in ours or "/-" in f["properties"].get("@id", "")
            for f in one["features"]
        )
    ]
    for (severity, message), number in sorted(
        Counter((p["severity"], p["message"]) for p in about).items()
    ):
        print(f"    {severity.lower()}: {message} ({number})")
    return [
        f"JOSM's validator: {p['message']} in {p['@id']}"
        for p in about
        if p["severity"] == "Errors"
    ]


def check_josm(folder: Path, room: Path) -> tuple[int, list[str]]:
    """Check one folder of proposals; return how many files were loaded and what is wrong."""
    files, wrong = 0, []
    checks = {
        "proposal.osm": check_layer,
        "proposal.osc": check_change,
        "new_areas.geojsonl": check_tasks,
    }
    for name, check in checks.items():
        try:
            number, more = check(folder, room)
        except (RuntimeError, ValueError, KeyError, ET.ParseError) as error:
            number, more = 0, [f"{name}: {error}"]
        files, wrong = files + number, wrong + more
    return files, [f"{folder}: {one}" for one in wrong]


def check_layer(folder: Path, room: Path) -> tuple[int, list[str]]:
    """Let JOSM load the layer; return the number of files and what is wrong."""
    path = folder / "proposal.osm"
    if not path.exists():
        return 0, []
    text = path.read_text("utf-8")
    copy, number = marked(text)
    return 1, seen(room, copy, "", number, path.name) + findings(room, text)


def check_change(folder: Path, room: Path) -> tuple[int, list[str]]:
    """Let JOSM apply the change file; return the number of files and what is wrong."""
    layer, change = folder / "proposal.osm", folder / "proposal.osc"
    if not change.exists():
        return 0, []
    copy, number = marked(change.read_text("utf-8"))
    base = unchanged(layer.read_text("utf-8"))
    return 1, seen(room, base, copy, number, f"{change.name} on the layer")


def check_tasks(folder: Path, room: Path) -> tuple[int, list[str]]:
    """Let JOSM apply the change files in tasks; return their number and what is wrong."""
    inner = [marked(one) for one in change_files(folder / "new_areas.geojsonl")]
    if not inner:
        return 0, []
    number, what = sum(n for _, n in inner), f"{len(inner)} change files of new_areas.geojsonl"
    return len(inner), seen(room, EMPTY, joined([one for one, _ in inner]), number, what)


# QGIS -----------------------------------------------------------------------


def check_qgis(folders: list[Path]) -> tuple[int, list[str]]:
    """Return how many files QGIS opened, and what is wrong."""
    files = sorted(
        path
        for folder in folders
        for path in folder.rglob("*")
        if path.suffix in (".gpkg", ".geojson", ".tif")
    )
    if not files:
        return 0, []
    here = {**os.environ, "QT_QPA_PLATFORM": "offscreen"}
    with tempfile.TemporaryDirectory() as home:
        here.update(HOME=home, XDG_RUNTIME_DIR=home)
        done = subprocess.run(
            [QGIS_PYTHON, str(IN_QGIS), *map(str, files)],
            capture_output=True, text=True, check=False, env=here, timeout=1800,
        )  # fmt: skip
    rows = [json.loads(one) for one in done.stdout.splitlines() if one.startswith("{")]
    wrong = [f"{one['file']}: {one['wrong']}" for one in rows if one["wrong"]]
    for one in rows:
        print(f"  {one['file']}: {one['wrong'] or one['seen']}")
    lost = len(files) - len({one["file"] for one in rows})
    if lost:
        said = done.stderr.strip().splitlines()
        wrong.append(f"QGIS ended before {lost} files: {said[-1] if said else done.returncode}")
    return len(files) - lost, wrong


def main(folders: list[Path]) -> int:
    """Check the runs in ``folders``; print what was done; return the exit status."""
    if not folders or not all(one.is_dir() for one in folders):
        print("usage: release_check.py RUN... (folders that 'glocal run' wrote)", file=sys.stderr)
        return 2
    lacks = missing()
    if lacks:
        print(f"missing: {'; '.join(lacks)}. {INSTALL}", file=sys.stderr)
        return 2
    loaded, wrong = 0, []
    with tempfile.TemporaryDirectory() as room:
        for folder in sorted(one for run in folders for one in run.glob("corrections/*")):
            if (folder / "PROPOSAL_README.md").exists():
                print(f"{folder}:")
                number, more = check_josm(folder, Path(room))
                loaded, wrong = loaded + number, wrong + more
    print("QGIS:")
    opened, more = check_qgis(folders)
    wrong += more
    if not loaded:
        wrong.append("no proposal.osm and no new area in these runs: JOSM checked nothing")
    if not opened:
        wrong.append("no GeoPackage, GeoJSON or GeoTIFF in these runs: QGIS checked nothing")
    print(f"JOSM loaded {loaded} files, QGIS opened {opened}; {len(wrong)} faults")
    for one in wrong:
        print(f"FAULT {one}", file=sys.stderr)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main([Path(one) for one in sys.argv[1:]]))
