"""Probes, fine-tuning and the whole comparison, on pictures that are drawn here."""

from __future__ import annotations

import csv
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from glocal.errors import BadSourceError, SourceUnavailableError
from glocal.train.tasks.classification import classify, probes
from glocal.train.tasks.classification.compare import block_interval, score, subsets
from glocal.train.tasks.classification.networks import SceneClassifier, _groups
from glocal.train.tasks.classification.scenes import read_scenes
from glocal.train.tasks.dense import Settings
from msgfm import Encoder, EncoderConfig

SMALL = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
STEPS = Settings(steps=20, batch=16, rate=5e-3, encoder_rate=2e-3)


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder(SMALL).eval()


def clouds(count, seed=0, width=6, classes=3):
    """Return features around one centre per class, and the classes."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    centres = np.random.default_rng(99).normal(size=(classes, width)) * 3
    return (centres[labels] + rng.normal(size=(count, width))).astype(np.float32), labels


def stripes(count, seed=0, side=32):
    """Return byte pictures with stripes down (0) or across (1): equal values, other places."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    wave = 60 * (np.arange(side) // 4 % 2)
    down = np.broadcast_to(wave, (side, side))
    pictures = [down.T if label else down for label in labels]
    values = 90 + np.stack(pictures)[:, None] + rng.normal(0, 5, (count, 3, side, side))
    return values.clip(0, 255).astype(np.uint8), labels


def write(folder, images, labels, first=0):
    for i, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = folder / f"class{label}" / f"class{label}_{first + i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(path)


PROBES = [classify.linear_probe, classify.knn_probe, classify.forest_probe]


@pytest.mark.parametrize("probe", PROBES)
def test_a_probe_finds_clear_classes_and_nothing_in_noise(probe):
    (x, y), (x_val, y_val), (x_test, y_test) = (clouds(90, seed) for seed in range(3))
    found = probe(x, y, x_test, validation=(x_val, y_val))
    assert np.mean(found.labels == y_test) > 0.95
    noise = [np.random.default_rng(seed).normal(size=(90, 6)) for seed in (5, 6, 7)]
    nothing = probe(noise[0], y, noise[2], validation=(noise[1], y_val))
    assert 0.15 < np.mean(nothing.labels == y_test) < 0.55


@pytest.mark.parametrize("probe", PROBES)
def test_what_is_chosen_is_best_on_the_validation_part(probe):
    x, y = clouds(60)
    rng = np.random.default_rng(3)
    blurred, y_val = clouds(60, 1)
    found = probe(x, y, x, validation=(blurred + rng.normal(0, 4, blurred.shape), y_val))
    assert found.validation[found.chosen] == max(found.validation.values())


@pytest.mark.parametrize("probe", PROBES)
def test_the_test_part_has_no_say(probe):
    """Classes of a test picture do not depend on the other test pictures."""
    x, y = clouds(60)
    x_test, _ = clouds(30, 2)
    whole = probe(x, y, x_test, validation=clouds(30, 1))
    part = probe(x, y, np.concatenate([x_test[:3], x_test[:3] * 50]), validation=clouds(30, 1))
    assert part.labels[:3].tolist() == whole.labels[:3].tolist()
    assert part.chosen == whole.chosen


@pytest.mark.parametrize("probe", PROBES[:2])
def test_units_and_constant_columns_do_not_matter(probe):
    (x, y), (x_val, y_val), (x_test, _) = (clouds(60, seed) for seed in range(3))

    def other(features):
        scaled = features * np.array([1e-3, 1, 10, 1, 1e3, 1]) + 7
        return np.concatenate([scaled, np.full((len(features), 1), 5.0)], axis=1)

    plain = probe(x, y, x_test, validation=(x_val, y_val)).labels
    changed = probe(other(x), y, other(x_test), validation=(other(x_val), y_val)).labels
    assert np.mean(plain == changed) > 0.95


def test_neighbours_vote_as_in_a_slow_loop():
    (x, y), (x_test, _) = clouds(40), clouds(25, 4)
    found = classify.knn_probe(x, y, x_test, validation=(x, y), neighbours=(7,)).labels
    mean, std = x.mean(0), x.std(0)
    for features, label in zip((x_test - mean) / std, found, strict=True):
        known = (x - mean) / std
        length = np.linalg.norm(known, axis=1) * np.linalg.norm(features)
        cosine = known @ features / length
        votes = np.zeros(3)
        for i in np.argsort(-cosine)[:7]:
            votes[y[i]] += np.exp(cosine[i] / 0.07)
        assert label == votes.argmax()


def test_bad_features_are_refused_with_the_reason():
    x, y = clouds(12)
    broken = np.where(np.arange(12)[:, None] == 3, np.nan, x)
    for args, words in [
        ((broken, y, x, (x, y)), "1 of 12 rows"),
        ((x, y[:5], x, (x, y)), "12 integers"),
        ((x, y * 1.5, x, (x, y)), "integers"),
        ((x, y - 1, x, (x, y)), "integers >= 0"),
        ((x, y * 0, x, (x, y)), "at least two classes"),
        ((x, y, x[:, :2], (x, y)), "one width"),
        ((x, y, x[:0], (x, y)), "not empty"),
    ]:
        train, labels, test, validation = args
        with pytest.raises(BadSourceError, match=words):
            classify.linear_probe(train, labels, test, validation=validation)
    with pytest.raises(BadSourceError, match="neighbours"):
        classify.knn_probe(x, y, x, validation=(x, y), neighbours=(100,))


def test_leaving_one_out_never_learns_from_the_one():
    rng = np.random.default_rng(0)
    labels = rng.random((12, 4)) > 0.5
    labels[:, 3] = True
    told = probes.leave_one_out(labels + rng.normal(0, 0.1, labels.shape), labels)
    assert probes.average_precision(labels, told)["macro"] > 0.95
    assert (told[:, 3] == 1).all()
    x = rng.normal(size=(12, 5))
    changed = labels.copy()
    changed[0, :3] = ~changed[0, :3]
    before, after = probes.leave_one_out(x, labels), probes.leave_one_out(x, changed)
    np.testing.assert_array_equal(before[0], after[0])
    assert (before[1:] != after[1:]).any()


def test_average_precision_of_a_known_case():
    """Label 0: the positives stand 1st and 3rd, (1 + 2/3) / 2; label 1: 1st; label 2: none."""
    labels = [[1, 0, 0], [0, 1, 0], [1, 0, 0]]
    scores = [[0.9, 0.1, 0.5], [0.5, 0.8, 0.5], [0.3, 0.2, 0.5]]
    found = probes.average_precision(labels, scores)
    assert found["macro"] == pytest.approx((5 / 6 + 1) / 2)
    assert found["labels"] == 2
    with pytest.raises(BadSourceError, match="positive"):
        probes.average_precision(np.zeros((2, 2)), np.zeros((2, 2)))


def test_intervals_are_wider_where_neighbours_agree():
    rng = np.random.default_rng(0)
    blocks = np.repeat(np.arange(40), 25)
    alone = (rng.random(1000) < 0.7).astype(float)
    together = np.repeat(rng.random(40) < 0.7, 25).astype(float)
    narrow, wide = block_interval(alone, blocks), block_interval(together, blocks)
    assert wide[1] - wide[0] > 3 * (narrow[1] - narrow[0])
    # Without blocks of several pictures it is the binomial interval.
    low, high = block_interval(alone, np.arange(1000))
    assert (high - low) / 2 == pytest.approx(1.96 * np.sqrt(0.7 * 0.3 / 1000), rel=0.1)
    assert block_interval(alone, np.arange(1000) % 4) is None


def test_scores_say_spread_and_balance():
    truth = np.array([0] * 8 + [1] * 2)
    found, hits = score([np.zeros(10, int), truth], truth, np.arange(10))
    assert found["runs"] == [0.8, 1.0]
    assert found["balanced_accuracy"] == pytest.approx(0.75)
    assert found["spread"] == pytest.approx(np.std([0.8, 1.0], ddof=1))
    assert hits.tolist() == [1] * 8 + [0.5] * 2


def test_subsets_keep_whole_blocks():
    block = np.repeat(np.arange(10), 3)
    rows = np.flatnonzero(block < 8)
    drawn = subsets(rows, block, seeds=3, share=0.5)
    assert [len(one) for one in drawn] == [12, 12, 12]
    assert len({tuple(one) for one in drawn}) > 1
    assert all(len(np.unique(block[one])) == 4 and (block[one] < 8).all() for one in drawn)


def test_batches_and_bytes_do_not_change_the_vectors(encoder):
    images, _ = stripes(6)
    whole = classify.embed_all(encoder, {"rgb": images}, batch=6)
    floats = {"rgb": images.astype(np.float32) / 255}
    np.testing.assert_allclose(classify.embed_all(encoder, floats, batch=4), whole, atol=0.02)
    assert whole.shape == (6, 2 * sum(SMALL.widths))


def test_fine_tuning_learns_and_leaves_the_encoder_alone(encoder):
    """Checks of two sizes: no flip or turn makes one of the other."""
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    images, labels = scales(48)
    net = classify.fine_tune(encoder, {"rgb": images}, labels, classes=2, settings=STEPS)
    test, truth = scales(40, seed=1)
    assert np.mean(classify.predict(net, {"rgb": test}) == truth) > 0.9
    for name, value in encoder.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_the_head_is_learned_before_the_encoder_moves(encoder):
    """After one step at a rate of nearly nothing classes are told by the head alone."""
    images, labels = scales(48)
    still = replace(STEPS, steps=1, encoder_rate=1e-9)
    net = classify.fine_tune(encoder, {"rgb": images}, labels, classes=2, settings=still)
    test, truth = scales(40, seed=1)
    assert np.mean(classify.predict(net, {"rgb": test}) == truth) > 0.9


def test_a_fine_tuned_network_hears_the_ground_size(encoder):
    images, labels = scales(16)
    steps = replace(STEPS, steps=1)
    nets = [
        classify.fine_tune(encoder, {"rgb": images}, labels, classes=2, settings=steps, gsd_m=size)
        for size in (None, 0.2, 10)
    ]
    usual, same, far = (net.mean for net in nets)
    torch.testing.assert_close(usual, same, rtol=0, atol=0)
    assert not torch.allclose(usual, far, atol=1e-3)
    vectors = classify.embed_all(encoder, {"rgb": images}, gsd_m=10)
    np.testing.assert_allclose(far, vectors.mean(0), atol=1e-5)


def test_fine_tuning_is_repeatable(encoder):
    images, labels = scales(16)

    def tuned():
        steps = replace(STEPS, steps=2)
        return classify.fine_tune(encoder, {"rgb": images}, labels, classes=2, settings=steps)

    for one, other in zip(tuned().parameters(), tuned().parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def scales(count, seed=0, side=32):
    """Return pictures of coarse (0) or fine (1) checks of equal values."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    checks = [np.add.outer(*[np.arange(side) // w % 2] * 2) % 2 * 60 for w in (8, 2)]
    values = 90 + np.stack([checks[k] for k in labels])[:, None]
    noisy = values + rng.normal(0, 5, (count, 3, side, side))
    return noisy.clip(0, 255).astype(np.uint8), labels


def test_early_stages_move_less(encoder):
    vectors = torch.zeros(2, 2 * sum(encoder.config.widths))
    groups = _groups(SceneClassifier(encoder, 2, vectors), replace(STEPS, encoder_rate=1.0), 0.5)
    rate = {id(module): rate for module, rate in groups}
    assert [rate[id(stage)] for stage in encoder.stages] == [0.125, 0.25, 0.5, 1]
    assert rate[id(encoder.embed_tokens)] == 0.0625
    grouped = [p for module, _ in groups for p in module.parameters()]
    everything = list(SceneClassifier(encoder, 2, vectors).parameters())
    assert len(grouped) == len({id(p) for p in grouped}) == len(everything)


def test_a_network_from_scratch_learns_checks():
    images, labels = scales(48)
    net = classify.fit_network({"rgb": images}, labels, classes=2, settings=STEPS, widths=(8, 8))
    test, truth = scales(40, seed=1)
    assert np.mean(classify.predict(net, {"rgb": test}) == truth) > 0.9
    with pytest.raises(BadSourceError, match="0 to 1"):
        classify.fit_network({"rgb": images}, labels + 1, classes=2, settings=STEPS)


def places(path, names, spread=60):
    """Write a table that puts each picture into a block of its own."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["k", "longitude", "latitude"])
        table.writerows([name, i % spread, 40 + i // spread] for i, name in enumerate(names))


def test_the_whole_comparison(tmp_path, encoder):
    images, labels = stripes(60)
    write(tmp_path / "in", images, labels)
    table = tmp_path / "places.csv"
    places(table, [f"class{k}_{i}" for i, k in enumerate(labels)])
    steps = replace(STEPS, steps=2)
    lines = []
    found = classify.run(
        tmp_path / "in",
        encoder,
        table=table,
        seeds=2,
        network=steps,
        tuning=steps,
        note=lines.append,
    )
    methods = found["methods"]
    assert set(methods) == {
        "commonest class",
        *(f"statistics, {how}" for how in ("linear", "neighbours", "trees")),
        *(f"{what}, {how}" for what in ("random features", "encoder") for how in USUAL),
        "network from scratch",
        *(f"{what}, fine-tuned" for what in ("encoder", "random encoder")),
    }
    # Where the stripes run can't be told from the values; a pooled encoder may or may not see it.
    assert all(methods[f"statistics, {how}"]["accuracy"] < 0.8 for how in USUAL)
    assert all(len(one["runs"]) == 2 for one in methods.values())
    assert sum(part["pictures"] for part in found["counts"].values()) == 60
    pairs = {(one["better"], one["than"]) for one in found["differences"]}
    assert ("encoder, linear", "random features, linear") in pairs
    assert ("encoder, linear", "statistics, trees") in pairs
    assert ("encoder, fine-tuned", "random encoder, fine-tuned") in pairs
    assert lines
    json.dumps(found, allow_nan=False)
    again = classify.run(tmp_path / "in", encoder, table=table, seeds=2)
    assert again["methods"]["encoder, linear"] == methods["encoder, linear"]
    assert not {"network from scratch", "encoder, fine-tuned"} & set(again["methods"])


USUAL = ("linear", "neighbours")


def test_parts_may_be_given_or_dealt_by_chance(tmp_path):
    table = tmp_path / "parts.csv"
    table.write_text("name,part,block\na,train,1\nb,val,2\nc,test,3\n")
    given = classify.divide(["c", "a"], table)
    assert (given.part.tolist(), given.block.tolist(), given.note) == ([2, 0], [3, 1], "")
    assert "neighbours" in classify.divide(["c", "a"], None).note
    for content, words in [
        ("name,part\na,train\n", "the first is 'c'"),
        ("name,part\na,train\nc,tset\n", "tset"),
        ("name,lon\na,1\nc,2\n", "longitude and latitude"),
        ("name,longitude,latitude\na,1,x\nc,2,3\n", "'x'"),
        ("name,longitude,latitude\na,1,300\nc,2,3\n", "swapped"),
    ]:
        table.write_text(content)
        with pytest.raises(BadSourceError, match=words):
            classify.divide(["c", "a"], table)
    with pytest.raises(SourceUnavailableError, match="places"):
        classify.divide(["a"], tmp_path / "absent.csv")


def test_an_empty_part_is_refused(tmp_path, encoder):
    images, labels = stripes(4)
    write(tmp_path, images, labels)
    table = tmp_path / "parts.csv"
    table.write_text("n,part\n" + "".join(f"class{i % 2}_{i},train\n" for i in range(4)))
    with pytest.raises(BadSourceError, match=r"\[4, 0, 0\] pictures"):
        classify.run(tmp_path, encoder, table=table)


def test_a_folder_and_its_zip_read_alike(tmp_path):
    images, labels = stripes(8)
    write(tmp_path / "in", images, labels)
    archive = tmp_path / "in.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted((tmp_path / "in").rglob("*.png"), reverse=True):
            file.write(path, f"deep/{path.parent.name}/{path.name}")
        file.writestr("__MACOSX/class0/._x.png", b"")
    one, other = read_scenes(tmp_path / "in"), read_scenes(archive)
    assert one.names == other.names
    assert one.classes == ("class0", "class1")
    np.testing.assert_array_equal(one.images, other.images)
    np.testing.assert_array_equal(one.images, images[np.argsort(labels, kind="stable")])
    few = read_scenes(archive, limit=2)
    assert few.labels.tolist() == [0, 0, 1, 1]
    assert one.rgb(slice(1)).max() <= 1


def test_bad_folders_are_refused(tmp_path):
    images, labels = stripes(2)
    with pytest.raises(SourceUnavailableError, match="missing"):
        read_scenes(tmp_path / "absent")
    write(tmp_path / "one", images, labels * 0)
    with pytest.raises(BadSourceError, match="two folders"):
        read_scenes(tmp_path / "one")
    write(tmp_path / "sizes", images, labels)
    write(tmp_path / "sizes", images[:1, :, :16], labels[:1], first=9)
    with pytest.raises(BadSourceError, match=r"\(16, 32\)"):
        read_scenes(tmp_path / "sizes")
    write(tmp_path / "broken", images, labels)
    (tmp_path / "broken" / "class0" / "x.png").write_bytes(b"not a picture")
    with pytest.raises(SourceUnavailableError, match=r"x\.png"):
        read_scenes(tmp_path / "broken")
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(SourceUnavailableError, match="zip"):
        read_scenes(tmp_path / "text.zip")
