import io
import json
import shutil
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glocal.errors import BadSourceError, SourceUnavailableError, UnknownSensorError
from glocal.train.data.pool import Pool
from glocal.train.data.shards import (
    Crop,
    band_names,
    coverage,
    crops,
    read_header,
    read_shard,
    sensor_set,
    shard_of,
    write_shard,
)
from msgfm import batch_of

RANGES = {"rgb": (0, 1), "s2": (-0.1, 2.5), "sar": (-45, 20), "dsm": (-400, 8000)}
STEPS = {"rgb": 1 / 510, "s2": 0.6e-4, "sar": 0.0051, "dsm": 1 / 127}
LICENCES = {"a": "MIT", "b": "CC-BY-4.0"}


def a_window(rng, sensors, origin="a", side=8, holes=0.2):
    values = {}
    for name in sensors:
        shape = (len(band_names(name)), side, side)
        one = rng.uniform(*RANGES[name], shape).astype(np.float32)
        one[rng.random(shape) < holes] = np.nan
        values[name] = one
    return Crop(
        values=values,
        gsd_m=dict.fromkeys(sensors, float(np.float32(rng.uniform(0.1, 30)))),
        day={name: float(rng.choice([np.nan, 1, 200, 366])) for name in sensors},
        origin=origin,
    )


def a_shard(seed, sensors, n=6, **options):
    rng = np.random.default_rng(seed)
    made = [a_window(rng, sensors, rng.choice(["a", "b"]), **options) for _ in range(n)]
    return made, shard_of(made, LICENCES)


SETS = st.sets(st.sampled_from(sorted(RANGES)), min_size=1)


@given(seed=st.integers(0, 2**32), sensors=SETS, holes=st.sampled_from([0.0, 0.2, 1.0]))
@settings(max_examples=25)
def test_what_is_written_is_read(tmp_path_factory, seed, sensors, holes):
    made, shard = a_shard(seed, sorted(sensors), holes=holes)
    folder = tmp_path_factory.mktemp("shards")
    (path,) = write_shard(folder / "x", shard)
    back = read_shard(path)
    batch = back.batch(range(len(made)))
    assert back.sensors == sensor_set(list(sensors))
    assert [back.origins[i] for i in back.origin] == [one.origin for one in made]
    assert [LICENCES[one] for one in back.origins] == list(back.licences)
    for name in sensors:
        truth = np.stack([one.values[name] for one in made])
        got = batch["arrays"][name]
        assert got.dtype == np.float32
        assert (np.isfinite(got) == np.isfinite(truth)).all()
        assert np.nanmax(np.abs(got - truth), initial=0) <= STEPS[name]
        assert batch["bands"][name] == band_names(name)
        assert batch["gsd_m"][name].tolist() == [one.gsd_m[name] for one in made]
        days = np.array([one.day[name] for one in made])
        np.testing.assert_array_equal(batch["day"][name], days)


def test_stored_numbers_come_back_exactly():
    numbers = np.arange(0, 20_000, 7)[: 13 * 64].reshape(13, 8, 8)
    colours = np.arange(192).reshape(3, 8, 8)
    values = {
        "s2": (numbers * 1e-4).astype(np.float32),
        "rgb": (colours / 255).astype(np.float32),
    }
    every = dict.fromkeys(values, 10.0)
    shard = shard_of([Crop(values=values, gsd_m=every, day=every, origin="a")], LICENCES)
    arrays = shard.batch([0])["arrays"]
    assert (np.round(arrays["s2"][0] * 1e4) == numbers).all()
    assert (np.round(arrays["rgb"][0] * 255) == colours).all()
    assert shard.layers["rgb"].stored.dtype == np.uint8


def test_the_same_shard_gives_the_same_bytes_and_parts_stay_below_the_limit(tmp_path):
    made, shard = a_shard(1, ["s2", "sar"], n=20, side=16)
    first = write_shard(tmp_path / "one", shard, max_mb=0.05)
    second = write_shard(tmp_path / "two", shard, max_mb=0.05)
    assert len(first) > 1
    assert [one.read_bytes() for one in first] == [one.read_bytes() for one in second]
    assert all(one.stat().st_size <= 50_000 for one in first)
    assert [one.name for one in first[:2]] == ["one-00.npz", "one-01.npz"]
    joined = np.concatenate([read_shard(p).layers["s2"].stored for p in first])
    assert (joined == shard.layers["s2"].stored).all()
    assert sum(read_header(p)["n"] for p in first) == len(made)


def test_numpy_opens_a_shard(tmp_path):
    _, shard = a_shard(2, ["dsm"])
    (path,) = write_shard(tmp_path / "x", shard)
    with np.load(path, allow_pickle=False) as opened:
        assert opened["dsm.stored"].shape == (6, 1, 8, 8)


def damaged(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 255]) + content[middle + 1 :])
    elif how == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "absent"])
def test_a_damaged_shard_is_refused(tmp_path, how):
    _, shard = a_shard(3, ["s2"])
    (path,) = write_shard(tmp_path / "x", shard)
    damaged(path, how)
    with pytest.raises(SourceUnavailableError, match=r"x-00\.npz.*pack it again"):
        read_shard(path)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_no_flipped_byte_gives_other_values(tmp_path):
    _, shard = a_shard(3, ["rgb"], n=1, side=2)
    (path,) = write_shard(tmp_path / "x", shard)
    content, refused = path.read_bytes(), 0
    for i in range(0, len(content), 3):
        path.write_bytes(content[:i] + bytes([content[i] ^ 255]) + content[i + 1 :])
        try:
            read = read_shard(path)
        except (SourceUnavailableError, BadSourceError):
            refused += 1
        else:
            np.testing.assert_array_equal(read.layers["rgb"].stored, shard.layers["rgb"].stored)
    assert refused > len(content) / 6


def rewritten(path, name, content):
    with zipfile.ZipFile(path) as old:
        members = {one: old.read(one) for one in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for one, held in (members | {name: content}).items():
            new.writestr(one, held)


def test_pickled_content_is_never_loaded(tmp_path):
    _, shard = a_shard(4, ["dsm"])
    (path,) = write_shard(tmp_path / "x", shard)
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], object), allow_pickle=True)
    rewritten(path, "dsm.stored.npy", buffer.getvalue())
    with pytest.raises(SourceUnavailableError, match="allow_pickle"):
        read_shard(path)


def test_a_shard_of_a_later_version_is_refused(tmp_path):
    _, shard = a_shard(4, ["dsm"])
    (path,) = write_shard(tmp_path / "x", shard)
    with zipfile.ZipFile(path) as old:
        header = json.loads(old.read("shard.json"))
    rewritten(path, "shard.json", json.dumps(header | {"version": 2}).encode())
    for reader in (read_shard, read_header):
        with pytest.raises(BadSourceError, match="version 2"):
            reader(path)


def test_arrays_that_contradict_each_other_are_refused(tmp_path):
    _, shard = a_shard(4, ["dsm"])
    (path,) = write_shard(tmp_path / "x", shard)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((5, 1, 8, 8), np.float32))
    rewritten(path, "dsm.stored.npy", buffer.getvalue())
    with pytest.raises(BadSourceError, match="same windows"):
        read_shard(path)


def test_windows_that_do_not_fit_together_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(BadSourceError, match="same sensors"):
        shard_of([a_window(rng, ["s2"]), a_window(rng, ["sar"])], LICENCES)
    with pytest.raises(BadSourceError, match="same bands and side"):
        shard_of([a_window(rng, ["s2"]), a_window(rng, ["s2"], side=4)], LICENCES)
    with pytest.raises(BadSourceError, match="at least one"):
        shard_of([], LICENCES)
    wrong = a_window(rng, ["s2"])
    wrong = Crop(
        values={"s2": wrong.values["s2"] * 10_000},
        gsd_m=wrong.gsd_m,
        day=wrong.day,
        origin="a",
    )
    with pytest.raises(BadSourceError, match="physical unit"):
        shard_of([wrong], LICENCES)
    with pytest.raises(UnknownSensorError, match="thermal"):
        sensor_set(["thermal"])


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    side=st.integers(1, 12),
    stride=st.integers(1, 12),
)
def test_crops_lie_inside_reach_the_edges_and_keep_their_distance(height, width, side, stride):
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    found = list(crops({"dsm": rows[None], "rgb": columns[None]}, side=side, stride=stride))
    if min(height, width) < side:
        assert not found
        return
    tops = sorted({int(one["dsm"][0, 0, 0]) for one in found})
    lefts = sorted({int(one["rgb"][0, 0, 0]) for one in found})
    assert len(found) == len(tops) * len(lefts)
    for starts, length in ((tops, height), (lefts, width)):
        assert starts[0] == 0
        assert len(starts) == 1 or starts[-1] == length - side
        assert all(np.diff(starts) >= stride - 1)
    assert all(one["dsm"].shape == (1, side, side) for one in found)


def test_coverage_is_that_of_the_sensor_with_fewest_pixels():
    full, half = np.ones((2, 4, 4), np.float32), np.ones((1, 4, 4), np.float32)
    half[:, :2] = np.nan
    full[0] = np.nan  # a band that is absent does not count
    assert coverage({"sar": full, "dsm": half}) == 0.5


@pytest.fixture
def folder(tmp_path):
    for seed in range(4):
        _, shard = a_shard(seed, ["s2", "sar"], n=5)
        write_shard(tmp_path / f"pair{seed}", shard)
    _, shard = a_shard(9, ["dsm"], n=3)
    write_shard(tmp_path / "dsm", shard)
    return tmp_path


def same(a, b):
    for key in ("arrays", "gsd_m", "day"):
        for name in a[key]:
            np.testing.assert_array_equal(a[key][name], b[key][name])
    assert a["bands"] == b["bands"]


def test_a_pool_knows_its_groups_and_origins(folder):
    pool = Pool([folder])
    assert pool.groups == {("s2", "sar"): 20, ("dsm",): 3}
    assert set(pool.origins.items()) <= set(LICENCES.items())
    with pytest.raises(UnknownSensorError, match="s2\\+sar"):
        pool.draw(["rgb"], 2, np.random.default_rng(0))
    with pytest.raises(SourceUnavailableError, match="no shard"):
        Pool([folder / "nothing"])


def test_a_batch_is_a_function_of_the_generator_whatever_memory_there_is(folder):
    large, small = Pool([folder]), Pool([folder], max_bytes=1)
    steps = [(("s2", "sar"), t) for t in range(4)] + [(("dsm",), 4)]
    drawn = {t: large.draw(k, 7, np.random.default_rng([0, t])) for k, t in steps}
    for sensors, t in reversed(steps):
        same(small.draw(sensors, 7, np.random.default_rng([0, t])), drawn[t])
        assert len(small._decoded) == 1
    assert len(large._decoded) == 5
    other = large.draw(("dsm",), 7, np.random.default_rng([1, 4]))
    assert not np.array_equal(other["arrays"]["dsm"], drawn[4]["arrays"]["dsm"], equal_nan=True)


def test_every_window_is_drawn_and_rows_stay_together(folder):
    pool = Pool([folder])
    batch = pool.draw(("s2", "sar"), 400, np.random.default_rng(0), augment=False)
    kept = [pool.shard(p).batch(range(5)) for p in pool.paths if p.name.startswith("pair")]
    known = {
        one["arrays"]["s2"][i].tobytes(): (one["arrays"]["sar"][i].tobytes(), one["day"]["s2"][i])
        for one in kept
        for i in range(5)
    }
    seen = set()
    for i in range(400):
        key = batch["arrays"]["s2"][i].tobytes()
        sar, day = known[key]
        assert batch["arrays"]["sar"][i].tobytes() == sar
        np.testing.assert_array_equal(batch["day"]["s2"][i], day)
        seen.add(key)
    assert len(seen) == 20


def test_turning_moves_all_sensors_of_a_window_alike(tmp_path):
    ramp = np.arange(64, dtype=np.float32).reshape(8, 8)
    values = {"rgb": np.stack([ramp / 255] * 3), "dsm": ramp[None]}
    every = dict.fromkeys(values, 1.0)
    shard = shard_of([Crop(values=values, gsd_m=every, day=every, origin="a")], LICENCES)
    write_shard(tmp_path / "x", shard)
    arrays = Pool([tmp_path]).draw(("rgb", "dsm"), 100, np.random.default_rng(0))["arrays"]
    assert np.allclose(arrays["rgb"][:, :1] * 255, arrays["dsm"], atol=1e-3)
    forms = {np.rot90(m, k).tobytes() for m in (ramp, ramp.T) for k in range(4)}
    assert {one[0].tobytes() for one in arrays["dsm"]} == forms


def test_evenness_draws_small_origins_as_often_as_large_ones(tmp_path):
    rng = np.random.default_rng(0)
    made = [a_window(rng, ["dsm"], "b" if i == 0 else "a", side=1, holes=0) for i in range(50)]
    write_shard(tmp_path / "x", shard_of(made, LICENCES))
    rare = np.round(made[0].values["dsm"] * 64) / 64
    share = {}
    for evenness in (0.0, 1.0):
        pool = Pool([tmp_path], evenness=evenness)
        arrays = pool.draw(("dsm",), 2000, rng, augment=False)["arrays"]
        share[evenness] = float((arrays["dsm"] == rare[None]).mean())
    assert share[0.0] == pytest.approx(0.02, abs=0.02)
    assert share[1.0] == pytest.approx(0.5, abs=0.05)


def test_spread_limits_the_shards_of_a_batch(folder):
    pool = Pool([folder], spread=1)
    for t in range(10):
        before = set(pool._decoded)
        pool.draw(("s2", "sar"), 16, np.random.default_rng(t))
        assert len(set(pool._decoded) - before) <= 1


def test_shards_of_different_sides_are_no_pool(tmp_path):
    for side in (4, 8):
        _, shard = a_shard(side, ["dsm"], side=side)
        write_shard(tmp_path / str(side), shard)
    with pytest.raises(BadSourceError, match="differ in bands or side"):
        Pool([tmp_path])


@pytest.mark.filterwarnings("ignore:sensor s")  # values are random
def test_the_model_takes_what_a_pool_draws(folder):
    drawn = Pool([folder]).draw(("s2", "sar"), 3, np.random.default_rng(0))
    batch = batch_of(**drawn)
    for name, array in drawn["arrays"].items():
        assert (batch.valid[name].numpy() == np.isfinite(array)).all()
        np.testing.assert_array_equal(batch.values[name].numpy(), np.nan_to_num(array))


def test_a_moved_pool_draws_the_same(folder, tmp_path_factory):
    first = Pool([folder]).draw(("dsm",), 5, np.random.default_rng(0))
    other = tmp_path_factory.mktemp("moved") / "pool"
    shutil.copytree(folder, other)
    same(Pool([other]).draw(("dsm",), 5, np.random.default_rng(0)), first)
