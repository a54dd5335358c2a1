"""Label maps for videos that have none, and DensePose's layout."""

import json
import shutil

import numpy as np
import pytest
from tensorflow import keras

from tests import layouts
from tfvp import registry
from tfvp.datasets import base
from tfvp.errors import UserError


def write_scenes(root, clips=4, frames=6):
    """A red square that moves over a blue left and a green right half."""
    for n in range(clips):
        video = np.zeros((frames, 32, 32, 3), np.uint8)
        video[:, :, :16], video[:, :, 16:] = (20, 30, 200), (30, 180, 40)
        for t in range(frames):
            video[t, 10 + n : 20 + n, 4 + 2 * t : 14 + 2 * t] = (220, 30, 20)
        np.save(root / f"scene{n}.npy", video)


def folder(root, margin=0, **options):
    size = (32 + margin, 32 + margin)
    dataset = registry.lookup("dataset", "folder")(
        base.Settings(root=str(root), image_size=size, channels=3, margin=margin), **options
    )
    dataset.prepare(progress=False)
    return dataset


def test_kmeans_finds_what_is_there(tmp_path):
    write_scenes(tmp_path)
    read = folder(tmp_path, labels="kmeans", classes=3).read("train", np.arange(2), np.zeros(2, np.int64), 6)
    for colour in ((20, 30, 200), (30, 180, 40), (220, 30, 20)):
        here = np.all(read["video"] == np.uint8(colour), axis=-1)
        assert here.any() and len(np.unique(read["labels"][here])) == 1
    assert len(np.unique(read["labels"])) == 3
    again = folder(tmp_path, labels="kmeans", classes=3).read("train", np.arange(2), np.zeros(2, np.int64), 6)
    np.testing.assert_array_equal(read["labels"], again["labels"])


@pytest.mark.parametrize("order", [(0, 8), (8, 0)])
def test_classes_have_the_same_numbers_in_the_frames_that_are_cropped(tmp_path, order):
    blocks = np.random.default_rng(0).integers(0, 256, (4, 1, 4, 4, 3), dtype=np.uint8)
    for n, film in enumerate(blocks.repeat(6, 1).repeat(10, 2).repeat(10, 3)):
        np.save(tmp_path / f"{n}.npy", film)
    made = {margin: folder(tmp_path, margin=margin, labels="kmeans", classes=6) for margin in order}
    labels = [made[margin].read("train", np.arange(2), np.zeros(2, np.int64), 1)["labels"] for margin in (0, 8)]
    middles = [each[:, 0, side // 8 :: side // 4, side // 8 :: side // 4] for each, side in zip(labels, (32, 40))]
    assert len(np.unique(middles[0])) == 6
    np.testing.assert_array_equal(*middles)
    for path in tmp_path.glob("*.npy"):
        np.save(path, 255 - np.load(path))
    for centres in tmp_path.glob(".tfvp/folder-32x32x3*/centres.npy"):
        centres.unlink()  # other classes: nothing of before is taken for the new ones
    assert folder(tmp_path, margin=8, labels="kmeans", classes=6).store.folder != made[8].store.folder


def test_a_segmentation_model_by_path(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    write_scenes(root)
    inputs = keras.Input((32, 32, 3))
    keras.Model(inputs, keras.layers.AveragePooling2D(2)(inputs)).save(tmp_path / "colours.keras")
    read = folder(root, labels=str(tmp_path / "colours.keras")).read("train", np.arange(1), np.zeros(1, np.int64), 6)
    shrunk = read["video"].reshape(1, 6, 16, 2, 16, 2, 3).mean(axis=(3, 5))
    np.testing.assert_array_equal(read["labels"][:, :, ::2, ::2], shrunk.argmax(-1))


def test_files_that_are_no_models_are_refused(tmp_path):
    root = tmp_path / "videos"
    root.mkdir()
    write_scenes(root)
    (tmp_path / "not.keras").write_bytes(b"no model")
    with pytest.raises(UserError, match="not a Keras model"):
        folder(root, labels=str(tmp_path / "not.keras"))
    with pytest.raises(UserError, match="classes=1 must"):
        folder(root, labels="kmeans", classes=1)


def test_pose_reads_body_parts(tmp_path):
    layouts.write_pose(tmp_path)
    make = lambda: registry.lookup("dataset", "pose")(base.Settings(root=str(tmp_path), channels=3), labels="disk")  # noqa: E731
    dataset = make()
    dataset.prepare(progress=False)
    seen = {}
    for split in dataset.splits:
        for clip, length in enumerate(dataset.clip_lengths(split)):
            labels = dataset.read(split, np.array([clip]), np.array([0]), int(length))["labels"]
            assert length in (9, 10) and len(np.unique(labels)) == 1
            seen.setdefault(split, set()).add(int(labels.flat[0]))
    assert seen["test"] == {3} and seen["validation"] in ({0, 1}, {2})
    assert seen["train"] == {0, 1, 2} - seen["validation"]
    (tmp_path / "split.json").write_text("[]")
    with pytest.raises(UserError, match="is not {split"):
        make().prepare(progress=False)


def test_clips_of_pose_that_are_gone_are_still_used(tmp_path, capsys):
    base._printed.clear()

    def make():
        dataset = registry.lookup("dataset", "pose")(base.Settings(root=str(tmp_path), channels=3))
        dataset.prepare(progress=False)
        return {split: dataset.store.clip_names(split) for split in dataset.splits}, dataset.store.lost

    def said():
        return " ".join(capsys.readouterr().out.split())

    with pytest.raises(UserError, match="split.json is missing"):
        make()
    layouts.write_pose(tmp_path)
    clip, listed = tmp_path / "V00001" / "C00001", json.loads((tmp_path / "split.json").read_text())
    clip.rename(tmp_path / "away")
    with pytest.raises(UserError, match="lists V00001/C00001, but .* does not exist; put it there, or take it out of"):
        make()
    (tmp_path / "away").rename(clip)
    clips, lost = make()
    assert sum(map(len, clips.values())) == 8 and not lost
    shutil.rmtree(clip)
    assert make() == (clips, ["V00001/C00001"]) and "1 of 4 files of pose are gone" in said()
    listed["train"]["V00009"] = ["C00001"]
    (tmp_path / "split.json").write_text(json.dumps(listed))
    assert make() == (clips, ["V00001/C00001"]) and "1 of 5 clips of pose are skipped:" in said()
    (tmp_path / "split.json").unlink()
    after, lost = make()
    assert after == clips and len(lost) == 4 and "split.json is missing, so that no clip" in said()
