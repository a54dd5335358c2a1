"""The pipeline: every window where it should be, nothing from the test split, exact resume, exact parts."""

import collections
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfvp.datasets import base
from tfvp.errors import UserError
from tfvp.pipeline import batching, windows

SPLITS = ("train", "validation", "test")
INFO = base.DatasetInfo("counting", "", "", None, "nothing to download", "no files", 1, 1)


class Counting(base.VideoDataset):
    """A frame is six numbers: split, clip (two bytes), frame (two bytes), 255."""

    info = INFO

    def __init__(self, lengths, endless=False, labels=False):
        super().__init__(base.Settings(image_size=(1, 6)))
        self.lengths = {split: np.array(n, np.int64) for split, n in lengths.items()}
        self.endless, self.labels = endless, labels
        self.asked = []

    def clip_lengths(self, split):
        return self.lengths[split]

    def element_spec(self, length):
        labels = {"labels": tf.TensorSpec([length, 1, 6], tf.uint8)} if self.labels else {}
        return {**super().element_spec(length), **labels}

    def read(self, split, clips, starts, length, stride=1):
        known = len(self.lengths[split])
        assert (clips < known).all() or (self.endless and split == "train")
        frames = starts[:, None] + np.arange(length) * stride
        assert (starts >= 0).all() and (frames[:, -1] < self.lengths[split][clips % known]).all(), "past the end"
        video = np.zeros((len(clips), length, 1, 6, 1), np.uint8)
        video[..., 0, 0, 0], video[..., 0, 5, 0] = SPLITS.index(split), 255
        video[..., 0, 1, 0], video[..., 0, 2, 0] = clips[:, None] // 256, clips[:, None] % 256
        video[..., 0, 3, 0], video[..., 0, 4, 0] = frames // 256, frames % 256
        return {"video": video, **({"labels": video[..., 0]} if self.labels else {})}


def parsed(batch):
    """(split, clip, frame) of float32 batches, each [B, T]; undoes a mirroring."""
    video = np.rint(np.asarray(batch["video"])[..., 0, :, 0] * 255).astype(int)
    mirrored = video[..., 0] == 255
    video = np.where(mirrored[..., None], video[..., ::-1], video)
    assert (video[..., 5] == 255).all()
    return video[..., 0], video[..., 1] * 256 + video[..., 2], video[..., 3] * 256 + video[..., 4], mirrored


def stream(dataset, steps, **options):
    options = {"batch_size": 4, "length": 3, "steps_per_epoch": 5, "seed": 1, **options}
    batches = batching.training_batches(dataset, **options)
    return [{k: v.numpy() for k, v in batch.items()} for batch in batches.take(steps)]


def flat(batches):
    """(clip, first frame) of every example."""
    return [(c[0], f[0]) for b in batches for c, f in zip(*parsed(b)[1:3])]


small = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
clip_lengths = st.lists(st.integers(1, 40), min_size=1, max_size=12)


@small
@given(
    train=clip_lengths,
    validation=clip_lengths,
    test=clip_lengths,
    window=st.sampled_from(windows.KINDS),
    length=st.integers(1, 8),
    stride=st.integers(1, 3),
    batch=st.integers(1, 5),
    seed=st.integers(0, 5),
    flip=st.booleans(),
)
def test_training_windows_lie_within_training_clips(train, validation, test, window, length, stride, batch, seed, flip):
    dataset = Counting({"train": train, "validation": validation, "test": test})
    span = (length - 1) * stride + 1
    if max(train) < span:
        with pytest.raises(UserError, match=f"longest has {max(train)}.*train.seq_len"):
            stream(dataset, 1, length=length, stride=stride, window=window)
        return
    batches = stream(dataset, 8, batch_size=batch, length=length, stride=stride, window=window, seed=seed, flip=flip)
    for found in batches:
        split, clip, frame, mirrored = parsed(found)
        assert (split == 0).all(), "a frame of another split came into training"
        assert (clip == clip[:, :1]).all() and (mirrored == mirrored[:, :1]).all()
        np.testing.assert_array_equal(frame, frame[:, :1] + np.arange(length) * stride)
        if window == "split":
            assert (frame[:, 0] % span == 0).all()
        if window == "first":
            assert (frame[:, 0] == 0).all()


@small
@given(
    train=clip_lengths,
    window=st.sampled_from(windows.KINDS),
    length=st.integers(1, 8),
    stride=st.integers(1, 3),
    batch=st.integers(1, 4),
    seed=st.integers(0, 5),
)
def test_a_pass_has_every_window_once(train, window, length, stride, batch, seed):
    dataset, span = Counting({"train": train}), (length - 1) * stride + 1
    if max(train) < span:
        return
    usable = [(c, n) for c, n in enumerate(train) if n >= span]
    expected = [c for c, n in usable for _ in range(n // span if window == "by_length" else 1)]
    if window == "split":
        expected = [(c, s * span) for c, n in usable for s in range(n // span)]
    steps = batching.steps_in_one_pass(dataset, batch, length, window, stride)
    assert steps == len(expected) // batch
    passes = 3
    total = passes * len(expected)
    batches = stream(
        dataset,
        -(-total // batch),
        batch_size=batch,
        length=length,
        stride=stride,
        window=window,
        seed=seed,
        steps_per_epoch=-(-total // batch),
    )
    found = flat(batches)[:total]
    for number in range(passes):
        part = found[number * len(expected) : (number + 1) * len(expected)]
        assert len(part) == len(set(part))
        assert sorted(part if window == "split" else [c for c, _ in part]) == expected


@pytest.mark.parametrize("steps_per_epoch", [1, 3, 7])
def test_passes_go_on_across_epochs(steps_per_epoch):
    """Short epochs must not leave clips out: ten epochs of a tenth of a pass are a pass."""
    dataset = Counting({"train": [9] * 20})
    order = [c for c, _ in flat(stream(dataset, 10, steps_per_epoch=steps_per_epoch))]
    assert sorted(order[:20]) == sorted(order[20:40]) == list(range(20))
    assert order[:20] != order[20:40]


def test_passes_and_epochs_are_shuffled_differently():
    dataset = Counting({"train": [20] * 40})
    found = flat(stream(dataset, 40, steps_per_epoch=20))
    orders = [found[i * 40 : (i + 1) * 40] for i in range(4)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))
    assert all([c for c, _ in order] != sorted(c for c, _ in order) for order in orders)


def test_random_windows_reach_both_ends():
    dataset = Counting({"train": [10]})
    starts = {f for _, f in flat(stream(dataset, 60, length=4, stride=2))}
    assert starts == {0, 1, 2, 3}


@pytest.mark.parametrize("endless", [False, True])
@pytest.mark.parametrize("window", windows.KINDS)
@pytest.mark.parametrize("steps_per_epoch", [2, 5, 13])
def test_resuming_gives_the_same_batches(window, endless, steps_per_epoch):
    dataset = Counting({"train": [9, 12, 30, 7, 15, 8, 11]}, endless)
    options = {"window": window, "flip": True, "steps_per_epoch": steps_per_epoch}
    whole = stream(dataset, 4 * steps_per_epoch, **options)
    for first in (0, 1, steps_per_epoch, 2 * steps_per_epoch + 1):
        rest = stream(dataset, steps_per_epoch, first_step=first, **options)
        for expected, found in zip(whole[first:], rest):
            for key in expected:
                np.testing.assert_array_equal(found[key], expected[key])


def test_the_seed_decides():
    dataset = Counting({"train": [30] * 10})
    first, again, other = (flat(stream(dataset, 5, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_workers_share_every_batch(count):
    dataset = Counting({"train": [20, 25, 30, 9, 14, 16, 18]})
    options = {"batch_size": 6, "steps_per_epoch": 3, "flip": True}
    whole = stream(dataset, 7, **options)
    parts = [stream(dataset, 7, worker=(rank, count), **options) for rank in range(count)]
    for step, expected in enumerate(whole):
        for key in expected:
            together = np.concatenate([part[step][key] for part in parts])
            np.testing.assert_array_equal(together, expected[key])


def test_workers_that_do_not_divide_a_batch():
    with pytest.raises(UserError, match="multiple of the 3 workers"):
        stream(Counting({"train": [9]}), 1, worker=(0, 3))


def test_ids_count_positions_in_the_epoch():
    batches = stream(Counting({"train": [9, 9, 9]}), 10)
    ids = np.concatenate([b["id"] for b in batches])
    assert ids.tolist() == list(range(20)) * 2


def test_mirroring_is_of_whole_windows_and_of_half_of_them():
    batches = stream(Counting({"train": [9] * 50}, labels=True), 50, flip=True)
    share = np.mean([parsed(b)[3][:, 0] for b in batches])
    assert 0.35 < share < 0.65
    for batch in batches:
        np.testing.assert_array_equal(batch["labels"], np.rint(batch["video"][..., 0] * 255).astype(np.int32))
        assert batch["labels"].dtype == np.int32
    assert not any(parsed(b)[3].any() for b in stream(Counting({"train": [9] * 50}), 20))


@pytest.mark.parametrize("steps", [3, 5, 11])
def test_endless_clips_are_never_repeated(steps):
    dataset = Counting({"train": [6] * 10}, endless=True)
    clips = [c for c, _ in flat(stream(dataset, 5 * steps, batch_size=4, length=6, steps_per_epoch=steps))]
    assert len(set(clips)) == len(clips) == 20 * steps
    if steps == 5:
        epochs = [sorted(clips[e * 20 : (e + 1) * 20]) for e in range(5)]
        assert epochs == [list(range(e * 20, (e + 1) * 20)) for e in range(5)]


def test_endless_clips_are_not_drawn_anew_outside_of_training():
    dataset = Counting({"train": [6] * 10, "validation": [6] * 3}, endless=True)
    batches = stream(dataset, 10, split="validation", length=6)
    assert collections.Counter(c for c, _ in flat(batches)).keys() == {0, 1, 2}


def test_batches_have_static_shapes_and_unit_range():
    batches = batching.training_batches(Counting({"train": [9]}), batch_size=4, length=3, steps_per_epoch=2, seed=1)
    assert batches.element_spec == {
        "video": tf.TensorSpec([4, 3, 1, 6, 1], tf.float32),
        "id": tf.TensorSpec([4], tf.int64),
    }
    assert batches.cardinality() == tf.data.INFINITE_CARDINALITY
    video = next(iter(batches))["video"].numpy()
    assert video.min() == 0.0 and video.max() == 1.0


@small
@given(
    lengths=clip_lengths,
    length=st.integers(1, 8),
    stride=st.integers(1, 3),
    batch=st.integers(1, 5),
    wanted=st.integers(0, 15),
)
def test_evaluation_takes_the_first_frames_of_each_clip_once(lengths, length, stride, batch, wanted):
    dataset, span = Counting({"train": [50] * 3, "test": lengths}), (length - 1) * stride + 1
    usable = [c for c, n in enumerate(lengths) if n >= span]
    options = {"batch_size": batch, "length": length, "num_examples": wanted, "stride": stride}
    if not usable:
        with pytest.raises(UserError, match=f"longest has {max(lengths)}; lower eval.eval_seq_len"):
            batching.evaluation_batches(dataset, "test", **options)
        return
    batches, count = batching.evaluation_batches(dataset, "test", **options)
    assert count == (min(wanted, len(usable)) if wanted else len(usable))
    assert batches.cardinality() == -(-count // batch)
    clips = []
    for found in batches:
        assert found["video"].shape == (batch, length, 1, 6, 1) and found["mask"].shape == (batch, length)
        split, clip, frame, _ = parsed(found)
        assert (split == 2).all() and (frame == np.arange(length) * stride).all()
        np.testing.assert_array_equal(clip[:, 0], found["id"])
        mask = found["mask"].numpy()
        assert ((mask == 0) | (mask == 1)).all() and (mask == mask[:, :1]).all()
        clips += clip[mask[:, 0] == 1, 0].tolist()
    assert clips == usable[:count]


def test_an_empty_split_is_an_error():
    with pytest.raises(UserError, match="the validation split of .* is empty"):
        batching.evaluation_batches(Counting({"validation": []}), "validation", batch_size=1, length=1)
    with pytest.raises(UserError, match="did you mean 'validation'"):
        Counting({}).usable_clips("valdation", 1)


def test_short_clips_are_counted_once(capsys):
    dataset = Counting({"train": [3, 30, 4, 50, 31]})
    for _ in range(2):
        batching.training_batches(dataset, batch_size=1, length=29, steps_per_epoch=1, seed=1)
    said = capsys.readouterr().out
    assert said.count("2 of 5 train clips") == 1 and "shorter than 29 frames" in said


def test_an_unknown_window_is_an_error():
    with pytest.raises(UserError, match="data.window='all' is none of random, by_length, split"):
        stream(Counting({"train": [9]}), 1, window="all")


def test_replicas_get_the_halves_of_a_batch():
    devices = [d.name for d in tf.config.list_logical_devices("CPU")][:2]
    if len(devices) < 2:
        pytest.skip("needs two logical devices")
    strategy = tf.distribute.MirroredStrategy(devices)
    dataset = Counting({"train": [9, 12, 30, 7]})
    batches = batching.training_batches(dataset, batch_size=4, length=3, steps_per_epoch=3, seed=1)
    distributed = iter(strategy.experimental_distribute_dataset(batches))
    for expected in stream(dataset, 6, steps_per_epoch=3):
        parts = strategy.experimental_local_results(next(distributed))
        assert len(parts) == 2
        for key in expected:
            assert parts[0][key].shape[0] == 2
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), expected[key])


def test_load_gives_single_clips():
    dataset = Counting({"train": [9], "validation": [3, 8, 2, 5], "test": [4]})
    clips = list(dataset.load("validation", 2, stride=2).as_numpy_iterator())
    assert [int(c["id"]) for c in clips] == [0, 1, 3]
    assert all(c["video"].shape == (2, 1, 6, 1) and c["video"].dtype == np.uint8 for c in clips)
    assert [c["video"][:, 0, 4, 0].tolist() for c in clips] == [[0, 2]] * 3


def test_reflected_flow_points_the_other_way():
    """A crop at the top left corner has two reflected rows and columns; there a thing moves as in a mirror."""
    flow = tf.tile(tf.constant([3.0, 5.0]), [1 * 1 * 6 * 7])
    flow = tf.reshape(flow, [1, 1, 6, 7, 2])
    cut = batching._padded_and_cut("flow", flow, tf.zeros([1, 2], tf.float64), 2)[0, 0].numpy()
    assert cut.shape == (6, 7, 2)
    assert (cut[:, :2, 0] == -3).all() and (cut[:, 2:, 0] == 3).all()
    assert (cut[:2, :, 1] == -5).all() and (cut[2:, :, 1] == 5).all()
