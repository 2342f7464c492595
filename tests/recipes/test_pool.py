"""What the real pool may hold; the data themselves lie beside the checkout."""

from pathlib import Path

import numpy as np
import pytest

from glocal.train.data.splits import blocks, part_of
from recipes import pool

ALLOWED = {
    "eurosat-rgb",
    "worldcereal-cib",
    "belgium",
    "slovenia-eopatch",
    "bigearthnet-15",
    "sen12mscr-2",
    "saotome-dsm-worldcover",
    "s2-misc",
    "rgb-misc",
    "banepa-rgb-osm",
    "dsm-rgb",
    "",
}
REFUSED = ("ShareAlike", "-SA-", "GPL", "none stated")


def test_licences_decide_what_is_shipped():
    for name, origin in pool.ORIGINS.items():
        assert origin.credit, name
        assert origin.licence, name
        bad = any(word in origin.licence for word in REFUSED)
        assert not (origin.shipped and bad), name
        assert not origin.shipped or origin.folder in ALLOWED, name


def test_the_allow_list_of_the_data_names_every_shipped_folder(shared):
    text = (shared / "README.md").read_text("utf-8")
    section = text.split("## What shipped weights may be trained on")[1]
    allowed, forbidden = section.split("**Test and experiment only**")
    for folder in {o.folder for o in pool.ORIGINS.values() if o.shipped} - {""}:
        assert f"`{folder}`" in allowed or (folder == "dsm-rgb" and "dsm-rgb" in allowed), folder
    # within a folder that is allowed some scenes are not
    for name in ("vegas", "demmin", "illinois", "trnava-s1", "strath-s1", "zurich", "osu"):
        assert not pool.ORIGINS[name].shipped
    for folder in ("terramind-5sites", "denmark-fields", "sar-misc"):
        assert f"`{folder}`" in forbidden
        assert not any(o.shipped for o in pool.ORIGINS.values() if o.folder == folder)


def test_what_tests_need_is_held_out():
    for name in ("sen12mscr", "dsen2", "kempen", "worldcereal-l8", "terramind"):
        assert pool.ORIGINS[name].held_out


def test_eurosat_patches_of_test_blocks_are_held_out(shared):
    tested = pool._tested(shared)
    assert 0.15 < np.mean(list(tested.values())) < 0.45
    lines = (shared / "eurosat-rgb" / "eurosat_lonlat.csv").read_text("utf-8").splitlines()[1:]
    for line in lines[:: len(lines) // 50]:
        name, _, latitude, longitude = line.split(",")
        block = blocks([float(longitude)], [float(latitude)])
        assert tested[name] == (part_of(block)[0] == 2)


@pytest.mark.parametrize(
    ("reader", "sensors"),
    [
        (pool.eurosat13, {("rgb", "s2")}),
        (pool.waremme, {("dsm", "s2", "sar"), ("sar",)}),
        (pool.slovenia, {("dsm", "s2")}),
        (pool.bigearthnet, {("s2",), ("sar",), ("s2", "sar")}),
        (pool.cereal, {("s2", "sar"), ("sar",), ("s2",), ("dsm", "s2", "sar")}),
    ],
)
@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_real_origins_are_in_physical_units(shared, reader, sensors):
    found = list(reader(shared))
    assert {tuple(sorted(one.values)) for one in found} == sensors
    for one in found:
        origin = pool.ORIGINS[one.origin]
        assert origin.shipped
        assert not origin.held_out
        for name, array in one.values.items():
            assert array.shape[1:] == (64, 64)
            assert np.isfinite(array).any(0).mean() >= 0.5
            low, high = np.nanpercentile(array, (1, 99))
            limits = {"s2": (-0.01, 1.7), "sar": (-45, 15), "rgb": (0, 1), "dsm": (-50, 3000)}
            assert limits[name][0] <= low <= high <= limits[name][1]
        if "sar" in one.values:
            vv, vh = np.nanmean(one.values["sar"], axis=(1, 2))
            assert vv > vh


def test_no_reader_of_the_shipped_pool_reads_what_is_not_cleared():
    assert pool.radar not in pool.READERS
    assert pool.experiments not in pool.READERS


def test_radar_and_optical_images_of_a_pair_are_days_apart_at_most(shared):
    for one in pool.cereal(shared):
        if {"s2", "sar"} <= set(one.values):
            apart = abs(one.day["s2"] - one.day["sar"])
            assert min(apart, 366 - apart) <= 6


def test_a_pool_with_a_forbidden_origin_is_refused(monkeypatch):
    rgb = {"rgb": np.zeros((3, 64, 64), np.float32)}
    monkeypatch.setattr(pool, "READERS", (lambda _: iter([pool._window("vegas", rgb, 0.3)]),))
    with pytest.raises(ValueError, match="vegas must not"):
        list(pool.windows(Path(), None, shipped=True))
