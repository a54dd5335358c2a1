"""The one pipeline from any data set to batches.

Training is a list of examples: number k stands for one window of one clip, and the list is a
pure function of the seed. Batches are therefore a map over the numbers of training steps, and a
resumed run starts at its step without having to read what came before.
"""

import numpy as np
import tensorflow as tf

from tfvp import errors
from tfvp.errors import UserError
from tfvp.layers import label_maps
from tfvp.pipeline.optical_flow import FlowFiles, reference_flow
from tfvp.pipeline.windows import TrainingWindows, first


def training_batches(
    dataset,
    *,
    batch_size,
    length,
    steps_per_epoch,
    seed,
    first_step=0,
    window="random",
    stride=1,
    flip=False,
    split="train",
    worker=(0, 1),
    needs=(),
    crop_padding=0,
    crop_margin=0,
):
    """An infinite stream of shuffled training batches.

    Args:
        dataset: a prepared `VideoDataset`.
        batch_size: examples in a batch, over all workers.
        length: frames in a window.
        steps_per_epoch: batches in an epoch. Passes over the windows, each in another order, follow one another
            whatever the length of an epoch: every window has been seen once before any is seen again. Clips that
            are drawn anew begin a new pass in each epoch.
        seed: with the epoch's number it determines order, window starts and flips.
        first_step: number of the first batch; the batches are those that a stream from step 0
            would have from there on.
        window: which windows a pass has; one of `tfvp.pipeline.windows.KINDS`.
        stride: frames of the clip from one frame of the window to the next.
        flip: mirror whole windows left-right with probability 1/2.
        split: the split to draw from.
        worker: (rank, count); each worker gets its own equal part of every batch.
        needs: of the model that takes the batches; see `VideoModel.needs`. With "labels", label
            maps are a fourth channel of the video; "flow" and "flow3" are added.
        crop_margin: pixels by which the data set's frames are larger than those of the batches, which are cut out
            at a random place, the same for a whole window: rows uniformly, columns by a normal distribution
            around the middle with a deviation of `crop_margin` / 6, as Lee et al. (2021) crop KITTI.
        crop_padding: reflect so many pixels at every border, then cut the frame's size out at a
            random place, the same for a whole window.

    Returns:
        tf.data.Dataset of {"video": float32 [B, length, H, W, C] in [0, 1], "id": int64 [B],
        the position in the epoch}; "labels" and other keys where the data set provides them.
        B is batch_size / count.

    Raises:
        UserError: no clip is long enough, or the workers do not divide the batch.
    """
    rank, workers = worker
    if not 0 <= crop_margin < min(dataset.frame_shape[:2]):
        raise UserError(f"data.crop_margin={crop_margin} must be at least 0")
    if not 0 <= crop_padding < min(dataset.frame_shape[:2]):
        raise UserError(f"data.crop_padding={crop_padding} must be at least 0 and smaller than a frame's side")
    if batch_size % workers:
        raise UserError(f"train.batch_size={batch_size} must be a multiple of the {workers} workers")
    epochs = TrainingWindows(dataset, split, length, stride, window, seed, batch_size * steps_per_epoch)
    part = batch_size // workers
    source, spec = _source(dataset, split, length, needs)

    def read(step):
        epoch, within = divmod(int(step), steps_per_epoch)
        positions = np.arange(part) + within * batch_size + rank * part
        windows = epochs.at(epoch, positions)
        arrays = source(split, windows.clips, windows.starts, length, stride)
        return [*(arrays[key] for key in spec), positions, windows.mirrored, windows.places]

    def finish(*values):
        *arrays, positions, mirrored, places = values
        if crop_margin:
            arrays = [_cut(key, array, _margins(places, crop_margin), crop_margin) for key, array in zip(spec, arrays)]
        if crop_padding:
            arrays = [_padded_and_cut(key, array, places, crop_padding) for key, array in zip(spec, arrays)]
        return _as_batch(spec, arrays, positions, mirrored if flip else None, needs)

    steps = tf.data.Dataset.counter(first_step)
    extra = [tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.bool), tf.TensorSpec([2], tf.float64)]
    return _configured(_mapped(steps, read, [*spec.values(), *extra], part, finish))


def steps_in_one_pass(dataset, batch_size, length, window="random", stride=1, split="train"):
    """Full batches in one pass over the windows of a split; 0 if there are fewer windows than a batch."""
    return TrainingWindows(dataset, split, length, stride, window, 0, 1).windows // batch_size


def evaluation_windows(dataset, split, length, num_examples=0, stride=1, windows=None, positions=None):
    """The windows that `evaluation_batches` reads, in order.

    Args:
        dataset, split, length, num_examples, stride, windows, positions: as there.

    Returns:
        (clips, starts, ids), int64 [N] each.

    Raises:
        UserError: no clip is long enough, or the split is empty.
    """
    if windows is None:
        windows = first(dataset, split, length, stride)
    elif len(windows) == 2:
        windows = *windows, np.arange(len(windows[0]))
    parts = (part[: num_examples or None] for part in windows)
    return tuple(part if positions is None else part[np.asarray(positions)] for part in parts)


def evaluation_batches(
    dataset, split, *, batch_size, length, num_examples=0, stride=1, needs=(), windows=None, positions=None, skip=()
):
    """Windows of a split, in order, once.

    Args:
        dataset: a prepared `VideoDataset`.
        split: the split.
        batch_size: rows in every batch. The last is filled up with rows whose mask is 0, which
            repeat clips from the beginning (zeros would upset batch statistics).
        length: frames.
        num_examples: how many windows, from the first; 0 = all.
        stride: frames of the clip from one frame of the window to the next.
        needs: as in `training_batches`.
        windows: (clips, starts) or (clips, starts, ids), int64 [N] each; without ids they are called by their
            positions. Defaults to the first `length` frames of each clip that is long enough, called by their clips.
        positions: of the windows to read, among all of the above; their ids are what they are among all. Defaults
            to every window.
        skip: numbers of batches that are left out.

    Returns:
        (dataset, count): batches {"video": float32 [B, length, H, W, C] in [0, 1], "mask":
        float32 [B, length], "id": int64 [B]}, and how many windows there are in all.

    Raises:
        UserError: no clip is long enough, or the split is empty.
    """
    clips, starts, names = evaluation_windows(dataset, split, length, num_examples, stride, windows, positions)
    source, spec = _source(dataset, split, length, needs)

    def read(batch):
        rows = np.arange(batch_size) + batch * batch_size
        index = rows % len(clips)
        arrays = source(split, clips[index], starts[index], length, stride)
        return [*(arrays[key] for key in spec), names[index], (rows < len(clips)).astype(np.float32)]

    def finish(*values):
        *arrays, ids, real = values
        return {**_as_batch(spec, arrays, ids, None, needs), "mask": tf.repeat(real[:, None], length, axis=1)}

    numbers = np.setdiff1d(np.arange(-(-len(clips) // batch_size)), np.asarray(skip, np.int64))
    numbers = tf.data.Dataset.from_tensor_slices(numbers)
    extra = [tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float32)]
    return _configured(_mapped(numbers, read, [*spec.values(), *extra], batch_size, finish)), len(clips)


def first_windows(dataset, split, clips, length, stride):
    """The first `length` frames of given clips, one by one: {"video": uint8, ..., "id": int64}."""
    spec = dataset.element_spec(length)

    def read(number):
        clip = clips[number : number + 1]
        arrays = dataset.read(split, clip, np.zeros_like(clip), length, stride)
        return [*(arrays[key] for key in spec), clip]

    def finish(*values):
        return {key: value[0] for key, value in zip([*spec, "id"], values)}

    return _mapped(tf.data.Dataset.range(len(clips)), read, [*spec.values(), tf.TensorSpec([], tf.int64)], 1, finish)


def _mapped(numbers, read, specs, rows, finish):
    """`finish` of what `read` (NumPy) makes of each number; in parallel, in order, with static shapes."""

    def noting(number):
        try:
            return read(number)
        except UserError as error:
            errors.note(error)
            raise

    def call(number):
        values = tf.numpy_function(noting, [number], [spec.dtype for spec in specs])
        for value, spec in zip(values, specs):
            value.set_shape([rows, *spec.shape])
        return finish(*values)

    return numbers.map(call, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def _source(dataset, split, length, needs):
    """(a function like `dataset.read`, the spec of what it returns), with the reference flow that is needed."""
    spec = dict(dataset.element_spec(length))
    if "labels" in needs and "labels" not in spec:
        raise UserError(
            f"the model needs label maps, but data.labels={dataset.options.get('labels', 'none')} provides none;"
            f" data sets with label maps have the option data.labels, see `{dataset.name}`"
        )
    spacings = {key: int(key[len("flow") :] or 1) for key in needs if key.startswith("flow")}
    for key in spacings:
        spec[key] = tf.TensorSpec([length, *dataset.frame_shape[:2], 2], tf.float32)

    files = FlowFiles(dataset.settings.flow, dataset, split, spacings) if spacings and dataset.settings.flow else None

    def read(*request):
        arrays = dataset.read(*request)
        if files is not None:
            return {**arrays, **{key: files.read(key, *request[1:]) for key in spacings}}
        return {**arrays, **{key: reference_flow(arrays["video"], n) for key, n in spacings.items()}}

    return read, spec


def _as_batch(spec, arrays, ids, mirrored=None, needs=()):
    """Turns windows into what models take; the only place where bytes become floats."""
    batch = dict(zip(spec, arrays))
    for key in batch if mirrored is not None else ():
        if _is_image(key):
            condition = tf.reshape(mirrored, [-1] + [1] * (len(batch[key].shape) - 1))
            turned = tf.reverse(batch[key], axis=[3])
            if key.startswith("flow"):
                turned *= tf.constant([-1.0, 1.0])
            batch[key] = tf.where(condition, turned, batch[key])
    if batch["video"].dtype == tf.uint8:
        batch["video"] = tf.cast(batch["video"], tf.float32) / 255.0
    if "labels" in needs:
        batch["video"] = label_maps.pack(batch["video"], batch.pop("labels"))
    elif "labels" in batch:
        batch["labels"] = tf.cast(batch["labels"], tf.int32)
    return {**batch, "id": ids}


def _is_image(key):
    return key in ("video", "labels") or key.startswith("flow")


def _margins(places, margin):
    """First rows and columns [B, 2] of the crops at `places` [B, 2] in [0, 1); see `training_batches`."""
    columns = margin / 2 + margin / 6 * tf.math.ndtri(tf.maximum(places[:, 1], 1e-9))
    columns = tf.clip_by_value(tf.cast(columns, tf.int32), 0, margin)
    return tf.stack([tf.cast(places[:, 0] * (margin + 1), tf.int32), columns], axis=1)


def _cut(key, array, starts, excess):
    """Windows [B, T, H + excess, W + excess, ...] cut to H x W from `starts` [B, 2] on; other keys as they are."""
    if not _is_image(key):
        return array
    for axis in (2, 3):
        size = array.shape[axis] - excess
        array = tf.gather(array, starts[:, axis - 2, None] + tf.range(size), axis=axis, batch_dims=1)
    return array


def _padded_and_cut(key, array, places, padding):
    """Windows [B, T, H, W, ...] reflected by `padding` and cut at `places` [B, 2] in [0, 1); other keys as they are."""
    if not _is_image(key):
        return array
    pads = [[padding] * 2 if axis in (2, 3) else [0, 0] for axis in range(array.shape.rank)]
    padded = tf.pad(array, pads, "REFLECT")
    if key.startswith("flow"):  # what moves towards a border is seen to come from it in the mirror
        across, down = (tf.where(_outside(array.shape[axis], padding), -1.0, 1.0) for axis in (3, 2))
        signs = tf.stack(tf.meshgrid(across, down), axis=-1)
        padded *= signs
    starts = tf.cast(places * (2 * padding + 1), tf.int32)
    return tf.ensure_shape(_cut(key, padded, starts, 2 * padding), array.shape)


def _outside(size, padding):
    """Whether each of `size + 2 * padding` places along an axis is reflected, boolean."""
    places = tf.range(size + 2 * padding)
    return (places < padding) | (places >= size + padding)


def _configured(batches):
    options = tf.data.Options()
    # Workers get their parts from `worker`; sharding by TensorFlow on top would take parts of parts.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    return batches.with_options(options).prefetch(tf.data.AUTOTUNE)
