"""Weights on disk: what was written comes back, and nothing else is believed."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from msgfm import MSGFM, Encoder, EncoderConfig
from msgfm import checkpoint as checkpoints
from msgfm.checkpoint import FORMAT, MANIFEST, SMALL, WEIGHTS
from msgfm.errors import CheckpointError

CONFIG = EncoderConfig(width=8, depths=(1, 1, 2, 1), heads=(1, 2, 2, 2), window=4, experts=2)
IMAGE = {"rgb": np.full((1, 3, 8, 8), 0.4)}


@pytest.fixture(scope="module")
def encoder():
    torch.manual_seed(0)
    return Encoder(CONFIG)


@pytest.fixture
def folder(encoder, tmp_path):
    encoder.save_pretrained(tmp_path / "weights", note="a card")
    return tmp_path / "weights"


def changed(folder, **fields):
    path = folder / MANIFEST
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def assert_same_weights(one, two):
    assert one.state_dict().keys() == two.state_dict().keys()
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, two.state_dict()[name]), name


def test_what_was_saved_comes_back_bit_for_bit(encoder, folder):
    again = Encoder.from_pretrained(folder)
    assert again.config == CONFIG
    assert not again.training
    assert_same_weights(encoder, again)
    assert torch.equal(encoder.embed(IMAGE), Encoder.from_pretrained(str(folder)).embed(IMAGE))


def test_a_whole_model_comes_back_with_its_maps_and_gives_its_encoder(tmp_path):
    torch.manual_seed(1)
    model = MSGFM(CONFIG, {"cover": 5})
    model.save_pretrained(tmp_path / "model")
    again = MSGFM.from_pretrained(tmp_path / "model")
    assert again.maps == {"cover": 5}
    assert_same_weights(model, again)
    assert_same_weights(model.encoder, Encoder.from_pretrained(tmp_path / "model"))


def test_half_the_bytes_keep_the_constants_and_two_digits_of_the_rest(encoder, folder, tmp_path):
    encoder.save_pretrained(tmp_path / "half", half=True)
    again = Encoder.from_pretrained(tmp_path / "half").state_dict()
    rounded = 0
    for name, tensor in encoder.state_dict().items():
        assert again[name].dtype == tensor.dtype
        if tensor.numel() <= SMALL:
            assert torch.equal(again[name], tensor), name
        else:
            torch.testing.assert_close(again[name], tensor, rtol=2**-8, atol=0)
            rounded += not torch.equal(again[name], tensor)
    assert rounded
    assert (tmp_path / "half" / WEIGHTS).stat().st_size < (folder / WEIGHTS).stat().st_size


def test_saved_twice_the_bytes_are_the_same(encoder, folder, tmp_path):
    encoder.save_pretrained(tmp_path / "other", note="a card")
    for name in (WEIGHTS, MANIFEST):
        assert (folder / name).read_bytes() == (tmp_path / "other" / name).read_bytes()


def test_the_manifest_says_what_it_is(folder):
    manifest = json.loads((folder / MANIFEST).read_text())
    assert manifest["format"] == FORMAT
    assert manifest["config"]["depths"] == [1, 1, 2, 1]
    assert manifest["card"] == {"note": "a card"}


def test_others_may_read_what_the_umask_allows(encoder, tmp_path):
    old = os.umask(0o022)
    try:
        encoder.save_pretrained(tmp_path / "open")
    finally:
        os.umask(old)
    modes = [p.stat().st_mode & 0o777 for p in (tmp_path / "open", *(tmp_path / "open").iterdir())]
    assert modes == [0o755, 0o644, 0o644]


@pytest.mark.parametrize("at", [-1, 8, 0])
def test_a_changed_byte_is_noticed(folder, at):
    data = bytearray((folder / WEIGHTS).read_bytes())
    data[at] ^= 1
    (folder / WEIGHTS).write_bytes(data)
    with pytest.raises(CheckpointError, match="sha256"):
        Encoder.from_pretrained(folder)


def test_a_truncated_file_is_noticed(folder):
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="sha256"):
        Encoder.from_pretrained(folder)


def test_a_file_that_is_not_safetensors_is_refused_though_its_hash_fits(folder):
    (folder / WEIGHTS).write_bytes(pickle.dumps({"a": 1}))
    changed(folder, sha256=checkpoints.digest(folder / WEIGHTS))
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        Encoder.from_pretrained(folder)


def test_a_newer_format_asks_for_an_upgrade(folder):
    changed(folder, format=FORMAT + 1)
    with pytest.raises(CheckpointError, match=r"format 2 is newer than 1.*upgrade"):
        Encoder.from_pretrained(folder)


@pytest.mark.parametrize("name", [WEIGHTS, MANIFEST])
def test_half_a_folder_is_refused(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=r"needs manifest\.json and weights"):
        Encoder.from_pretrained(folder)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt", ".pkl"])
def test_a_pickle_is_never_loaded(tmp_path, suffix):
    trace, folder = tmp_path / "trace", tmp_path / "folder"
    folder.mkdir()
    path = folder / f"model{suffix}"
    path.write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(CheckpointError, match="never loaded"):
        Encoder.from_pretrained(path)
    with pytest.raises(CheckpointError, match=rf"model{suffix} is a pickle, which is never loaded"):
        Encoder.from_pretrained(folder)
    assert not trace.exists()
    pickle.loads(path.read_bytes())
    assert trace.exists()  # the trap works


def test_an_unknown_name_lists_those_that_exist(tmp_path, monkeypatch, folder):
    packaged = tmp_path / "package" / "weights" / "pico"
    packaged.parent.mkdir(parents=True)
    shutil.copytree(folder, packaged)
    monkeypatch.setattr(checkpoints.resources, "files", lambda name: tmp_path / "package")
    assert Encoder.from_pretrained("pico").config == CONFIG
    with pytest.raises(CheckpointError, match=r"no weights called 'giant'.*packaged: pico"):
        Encoder.from_pretrained("giant")


@pytest.mark.parametrize("text", ["", "[]", "3", "{", '{"format": 1}', '{"format": Infinity}'])
def test_a_manifest_that_is_none_is_refused(folder, text):
    (folder / MANIFEST).write_text(text)
    with pytest.raises(CheckpointError, match="is not a manifest"):
        Encoder.from_pretrained(folder)


@pytest.mark.parametrize(
    "config",
    [
        [],
        None,
        {},
        {"width": 8},
        {"width": "wide", "depths": [1], "heads": [1], "window": 4},
        {"width": 8, "depths": [1], "heads": [3], "window": 4},
        {"width": -8, "depths": [1], "heads": [1], "window": 4},
        {"width": 8, "depths": "abc", "heads": [1, 1, 1], "window": 4},
        {"width": 8, "depths": [1], "heads": [1], "window": 4, "sensors": ["hubble"]},
        {"width": 8, "depths": [1], "heads": [1], "window": 4, "colour": "red"},
    ],
)
def test_a_config_that_cannot_be_made_is_refused(folder, config):
    changed(folder, config=config)
    for kind in (Encoder, MSGFM):
        with pytest.raises(CheckpointError, match="config can't be used"):
            kind.from_pretrained(folder)


def test_an_encoder_alone_is_no_whole_model(tmp_path):
    config = EncoderConfig(width=8, depths=(1,), heads=(1,), window=4)
    Encoder(config).save_pretrained(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match="holds an encoder alone"):
        MSGFM.from_pretrained(tmp_path / "encoder")


def test_another_architecture_is_refused(folder):
    config = json.loads((folder / MANIFEST).read_text())["config"]
    for change in ({"width": 16}, {"depths": [1, 1, 3, 1]}, {"experts": 3}, {"sensors": ["rgb"]}):
        changed(folder, config={**config, **change})
        with pytest.raises(CheckpointError, match="another architecture"):
            Encoder.from_pretrained(folder)


@pytest.mark.parametrize("step", ["save_file", "digest", "flush"])
def test_a_write_that_fails_leaves_the_old_weights_and_no_litter(folder, monkeypatch, step):
    before = Encoder.from_pretrained(folder)

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, step, fail)
    with pytest.raises(KeyboardInterrupt):
        Encoder(CONFIG).save_pretrained(folder)
    monkeypatch.undo()
    assert_same_weights(before, Encoder.from_pretrained(folder))
    assert [p.name for p in folder.parent.iterdir()] == ["weights"]


def test_a_write_that_is_killed_between_its_renames_leaves_the_old_weights(
    folder, monkeypatch, tmp_path
):
    before = Encoder.from_pretrained(folder)
    rename = checkpoints.Path.rename

    def killed(self, target):
        if self.name.endswith("-part"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(checkpoints.Path, "rename", killed)
    with pytest.raises(KeyboardInterrupt):
        Encoder(CONFIG).save_pretrained(folder)
    monkeypatch.undo()
    assert not folder.exists()
    assert_same_weights(before, Encoder.from_pretrained(folder))
    after = Encoder(CONFIG)
    after.save_pretrained(folder)
    assert_same_weights(after, Encoder.from_pretrained(folder))
    assert [p.name for p in tmp_path.iterdir()] == ["weights"]


def test_saving_never_takes_other_files_away(encoder, folder):
    (folder / "thesis.md").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"thesis\.md, which would be lost"):
        encoder.save_pretrained(folder)
    with pytest.raises(CheckpointError, match="is a file"):
        encoder.save_pretrained(folder / "thesis.md")
    assert (folder / "thesis.md").read_text() == "years of work"
