"""Reference flow on motion that is known, and flow from the user's own files."""

import numpy as np
import pytest

from tfvp import registry
from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import batching
from tfvp.pipeline.optical_flow import reference_flow

FRAMES, SIDE = 20, 16


def test_reference_flow_finds_a_known_motion():
    rng = np.random.default_rng(0)
    whole = np.kron(rng.integers(0, 255, (24, 24), dtype=np.uint8), np.ones((4, 4), np.uint8))
    video = np.stack([whole[8:72, 8 + 2 * t : 72 + 2 * t] for t in range(5)])[None, ..., None]
    for spacing in (1, 2):
        flow = reference_flow(video, spacing)
        assert flow.shape == (1, 5, 64, 64, 2) and not flow[:, :spacing].any()
        inner = flow[0, spacing:, 12:-12, 12:-12]
        # The picture moves two pixels to the left: what is at p now was at p + 2 before.
        assert np.abs(np.median(inner[..., 0]) - 2.0 * spacing) < 0.3 and np.abs(np.median(inner[..., 1])) < 0.3


@pytest.fixture
def films(tmp_path):
    """Three films whose flow files hold (clip, frame)."""
    root, flow = tmp_path / "films", tmp_path / "flow"
    root.mkdir()
    (flow / "sub").mkdir(parents=True)
    (root / "sub").mkdir()
    for n, name in enumerate(("a.npy", "b.npy", "sub/c.npy")):
        np.save(root / name, np.full((FRAMES, SIDE, SIDE, 3), 40 * n, np.uint8))
        for key, factor in (("flow", 1), ("flow3", 3)):
            values = np.zeros((FRAMES, SIDE, SIDE, 2), np.float16)
            values[..., 0], values[..., 1] = factor * n, factor * np.arange(FRAMES)[:, None, None]
            np.save(flow / f"{name}.{key}.npy", values)
    return root, flow


def dataset_of(root, flow, name="folder", size=(SIDE, SIDE), margin=0):
    size = tuple(side + margin for side in size)
    settings = base.Settings(root=str(root), image_size=size, channels=3, flow=str(flow), margin=margin)
    dataset = registry.lookup("dataset", name)(settings)
    dataset.prepare(progress=False)
    return dataset


def test_flow_files_are_read_where_the_frames_are(films):
    dataset = dataset_of(*films)
    batches = batching.training_batches(
        dataset, batch_size=2, length=6, steps_per_epoch=4, seed=3, stride=3, needs=("flow", "flow3")
    )
    numbers = {name: n for n, name in enumerate(("a.npy", "b.npy", "sub/c.npy"))}
    for batch in batches.take(4):
        for row in range(2):
            clip = round(float(batch["video"][row, 0, 0, 0, 0]) * 255 / 40)
            assert clip in numbers.values()
            for key, spacing in (("flow", 1), ("flow3", 3)):
                flow = batch[key][row].numpy()
                assert not flow[:spacing].any()
                assert (flow[spacing:, ..., 0] == spacing * clip).all()
                times = flow[spacing:, 0, 0, 1] / spacing
                assert (np.diff(times) == 3).all() and (flow[spacing:, ..., 1] == flow[spacing:, :1, :1, 1]).all()


def test_flow_files_are_enlarged_by_the_margin_that_is_cropped(films):
    root, flow = films
    for path in flow.rglob("*.flow.npy"):  # one pixel per frame, and all the more the further right
        values = np.load(path).astype(np.float32)
        values[..., 0] += np.linspace(-0.5, 0.5, 2 * SIDE + 1)[1::2]
        np.save(path, values)
    dataset = dataset_of(root, flow, margin=SIDE)
    (batch,) = batching.training_batches(
        dataset, batch_size=2, length=6, steps_per_epoch=1, seed=3, crop_margin=SIDE, needs=("flow",)
    ).take(1)
    assert batch["flow"].shape == (2, 6, SIDE, SIDE, 2) and batch["video"].shape == (2, 6, SIDE, SIDE, 3)
    for video, found in zip(batch["video"].numpy(), batch["flow"].numpy()):
        clip = round(float(video[0, 0, 0, 0]) * 255 / 40)
        times = found[1:, 0, 0, 1] / 2
        assert (np.diff(times) == 1).all() and np.array_equal(
            found[1:, ..., 1], np.broadcast_to(found[1:, :1, :1, 1], found[1:, ..., 1].shape)
        )
        assert np.abs(found[1:, ..., 0] - 2 * clip).max() <= 1
        np.testing.assert_allclose(np.diff(found[1:, 0, 2:-2, 0]), 2 / SIDE / 2, atol=1e-5)


def test_flow_of_another_part_of_the_video_is_refused(films):
    dataset = dataset_of(*films, size=(SIDE, 2 * SIDE), margin=4)
    with pytest.raises(UserError, match="16x32 that are cropped: .* set data.resize=area, data.crop_margin=0"):
        batching.evaluation_batches(dataset, "train", batch_size=1, length=4, needs=("flow",))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "cannot read the flow"),
        (lambda path: path.write_bytes(b"no array"), "cannot read the flow"),
        (lambda path: np.save(path, np.zeros((FRAMES, SIDE, 2 * SIDE, 2), np.float32)), "write floats"),
        (lambda path: np.save(path, np.zeros((FRAMES, SIDE, SIDE, 2), np.int16)), "write floats"),
    ],
)
def test_missing_or_wrong_flow_is_refused_before_training(films, damage, sentence):
    root, flow = films
    dataset = dataset_of(root, flow)
    split = next(split for split in ("train", "validation", "test") if "b.npy" in dataset.store.clip_names(split))
    damage(flow / "b.npy.flow.npy")
    with pytest.raises(UserError, match=sentence) as refusal:
        batching.evaluation_batches(dataset, split, batch_size=1, length=4, needs=("flow",))
    assert "b.npy.flow.npy" in str(refusal.value)


def test_flow_of_nothing_is_refused(films, tmp_path):
    root, _ = films
    with pytest.raises(UserError, match="is not a directory"):
        batching.evaluation_batches(
            dataset_of(root, tmp_path / "nowhere"), "train", batch_size=1, length=4, needs=("flow",)
        )
    with pytest.raises(UserError, match="have no names"):
        batching.evaluation_batches(
            dataset_of("", tmp_path, "shapes"), "train", batch_size=1, length=4, needs=("flow",)
        )
