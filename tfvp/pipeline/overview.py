"""What `tfvp data` shows of a data set: a table, a contact sheet, the speed of its pipeline."""

import time

import numpy as np

from tfvp import video_io
from tfvp.frames import as_rgb, to_uint8
from tfvp.pipeline import batching

_MARGIN = 72  # pixels for the names of the splits
_LARGEST_FRAME = 96  # pixels of a frame's longer side on the sheet, at most


def describe(dataset):
    """The facts about a data set that need no files, as lines of text."""
    info = dataset.info
    facts = [
        ("homepage", info.homepage),
        ("licence", info.licence),
        ("files", info.layout),
        ("usual task", f"{info.context} frames observed, {info.horizon} predicted"),
    ]
    lines = [f"  {key + ':':<12}{value}" for key, value in facts if value]
    return "\n".join([f"{dataset.name}: {info.description}", *lines])


def table(dataset):
    """The splits of a prepared data set as text: clips, frames in a clip, frames in all."""
    rows = [["split", "clips", "frames per clip", "frames"]]
    for split in dataset.splits:
        lengths = dataset.clip_lengths(split)
        if not len(lengths):
            rows.append([split, "0", "-", "0"])
            continue
        low, middle, high = lengths.min(), int(np.median(lengths)), lengths.max()
        span = f"{low}" if low == high else f"{low} to {high}, median {middle}"
        renewed = " (new ones each epoch)" if dataset.endless and split == "train" else ""
        rows.append([split + renewed, f"{len(lengths):,}", span, f"{lengths.sum():,}"])
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = ["  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:]))]) for row in rows]
    height, width, channels = dataset.frame_shape
    title = f"frames of {height}x{width}, {channels} channel{'s' * (channels > 1)}"
    return "\n".join([title, lines[0], "-" * len(lines[0]), *lines[1:]])


def contact_sheet(dataset, clips=4, columns=10):
    """Some clips of every split of a prepared data set, a row each, from their first to their last frame.

    Returns:
        uint8 [H, W, 3].
    """
    from PIL import Image, ImageDraw

    rows, labels = [], []
    for split in dataset.splits:
        lengths = dataset.clip_lengths(split)
        numbers = np.unique(np.linspace(0, len(lengths) - 1, clips).astype(np.int64)) if len(lengths) else ()
        for i, clip in enumerate(numbers):
            starts = np.linspace(0, lengths[clip] - 1, columns).astype(np.int64)
            video = dataset.read(split, np.full(columns, clip), starts, 1)["video"][:, 0]
            rows.append(video_io.strip(as_rgb(to_uint8(video)), gap=1))
            labels.append(split if i == 0 else "")
    height = rows[0].shape[0]
    factor = max(1, min(_LARGEST_FRAME // max(dataset.frame_shape[:2]), 4))
    frames = np.concatenate([np.pad(row, ((0, 1), (0, 0), (0, 0)), constant_values=255) for row in rows])
    frames = frames.repeat(factor, axis=0).repeat(factor, axis=1)
    image = Image.fromarray(np.pad(frames, ((0, 0), (_MARGIN, 0), (0, 0)), constant_values=255))
    pen = ImageDraw.Draw(image)
    for i, label in enumerate(labels):
        pen.text((4, (i * (height + 1) + 2) * factor), label, fill=(0, 0, 0))
    return np.asarray(image)


def speed(dataset, config, seconds=3.0):
    """Reads training batches for some seconds.

    Args:
        dataset: a prepared `VideoDataset`.
        config: a `tfvp.config.Config`; its sections `data` and `train` say what a batch is.
        seconds: how long.

    Returns:
        (clips per second, frames per second).

    Raises:
        UserError: no clip is long enough for train.seq_len.
    """
    train = config.train
    batches = iter(
        batching.training_batches(
            dataset,
            batch_size=train.batch_size,
            length=train.seq_len,
            steps_per_epoch=1000,
            seed=train.seed,
            window=config.data.window,
            stride=config.data.frame_stride,
            flip=config.data.flip,
        )
    )
    next(batches)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        next(batches)
        count += 1
    clips = count * train.batch_size / (time.perf_counter() - start)
    return clips, clips * train.seq_len
