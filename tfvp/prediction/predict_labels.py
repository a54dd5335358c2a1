"""Predicted label maps, as files: `tfvp predict-labels --logdir RUN`.

<run>/structures/<split>/
    index.json                            protocol: windows of clips with their true frames, context, horizon, and so on
    clip_00007/sample_00000/000000.png    the true label maps, as far as there are any
    clip_00007/sample_00001/000000.png    a prediction; observed label maps come first

The files are palette PNGs whose indices are the classes. `tfvp render-labels` turns them into video.
Where the protocol has windows of its own, the folders are numbered by window, not by clip.
"""

import json
import shutil

import numpy as np
import tensorflow as tf
from PIL import Image

from tfvp import files, video_io
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import evaluator, selection
from tfvp.frames import palette
from tfvp.layers import label_maps
from tfvp.models.build import load_run
from tfvp.pipeline import batching
from tfvp.pipeline.windows import SAMPLE

LABELS_ONLY = ("labels",)


def extract(run, horizon=None, samples=10, num_examples=0, split=None, weights="best", protocol=None, progress=print):
    """Predicts the label maps of a split and writes them, in place of those that were predicted before.

    Args:
        run: a `tfvp.run.Run` of a model that predicts label maps.
        horizon: predicted frames. Defaults to those of the protocol. Clips need not be as long: the
            true label maps end where the clip, or the protocol's window, does.
        samples: futures per clip.
        num_examples: clips; 0 = the whole split.
        split: which clips. Defaults to the protocol's.
        weights: "best" or "last".
        protocol: name of the protocol that fixes context, stride and windows. Defaults to the run's `eval.protocol`.
        progress: called with a sentence per clip.

    Returns:
        The folder written.

    Raises:
        UserError: the model predicts no label maps, or its data set has none.
    """
    config = run.config
    protocol = evaluator.choose_protocol(config, protocol)
    context, split = protocol.context, split or protocol.split
    stride = protocol.frame_stride or config.data.frame_stride
    horizon = protocol.seq_len - context if horizon is None else horizon
    if horizon < 1 or samples < 1:
        raise UserError("--horizon and --num-samples must be at least 1")
    model = load_run(run.path, weights)
    if "labels" not in model.needs:
        raise UserError(f"{run.path} is a run of {config.model.name}, which predicts no label maps")
    model.check_context(context)
    dataset = build_dataset(config)
    dataset.prepare()
    if protocol.windows not in ("", SAMPLE) and split == protocol.split:
        clips, starts = dataset.evaluation_windows(protocol.windows, protocol.seq_len, stride)
        numbers, lengths = np.arange(len(clips)), np.full(len(clips), protocol.seq_len)
    else:
        clips = numbers = dataset.usable_clips(split, context, stride, "eval.open_loop_ctx")
        starts = np.zeros_like(clips)
        lengths = np.minimum((dataset.clip_lengths(split)[clips] - 1) // stride + 1, context + horizon)
    chosen = [part[: num_examples or None] for part in (numbers, clips, starts, lengths)]
    folder = files.writable_folder(run.path / "structures" / split)
    # The index first: what is left when this is interrupted is then no prediction, rather than a mixture of two.
    (folder / "index.json").unlink(missing_ok=True)
    for older in folder.glob("clip_*"):
        shutil.rmtree(older)
    windows = {}
    for number, clip, start, video in zip(
        *(part.tolist() for part in chosen[:3]), _read(dataset, split, *chosen[1:], stride)
    ):
        name = clip_name(number)
        windows[name] = {"clip": clip, "start": start, "true_frames": video.shape[1]}
        write_label_maps(folder / name / sample_name(0), label_maps.labels_of(video[0]).numpy())
        observed = label_maps.labels_of(video[:, :context]).numpy()
        chunks = model.rollout(video[:, :context], horizon, samples, config.eval.chunk, tf.constant([number], tf.int64))
        predicted = np.concatenate([label_maps.labels_of(chunk).numpy()[0] for chunk in chunks], axis=1)
        for sample in range(samples):
            labels = np.concatenate([observed[0], predicted[sample]])
            write_label_maps(folder / name / sample_name(sample + 1), labels)
        progress(f"clip {number}: {samples} futures of {horizon} frames")
    index = {
        "run": run.path.name,
        "protocol": protocol.name,
        "split": split,
        "clips": len(windows),
        "windows": windows,
        "context": context,
        "horizon": horizon,
        "samples": samples,
        "frame_stride": stride,
        **model.prediction_options,
    }
    files.write_json(folder / "index.json", index)
    return folder


def _read(dataset, split, clips, starts, lengths, stride):
    """Yields windows with their label maps, float32 [1, T, H, W, C], each as long as it is."""
    ends = [*(np.flatnonzero(np.diff(lengths)) + 1), len(lengths)]
    for first, end in zip([0, *ends], ends):  # one pipeline for neighbours of one length, which most data sets have
        windows = {"length": int(lengths[first]), "windows": (clips[first:end], starts[first:end])}
        batches, _ = batching.evaluation_batches(
            dataset, split, batch_size=1, stride=stride, needs=LABELS_ONLY, **windows
        )
        for batch in batches:
            yield batch["video"]


def clip_name(number):
    """The folder of a clip or window."""
    return f"clip_{number:05d}"


def sample_name(number):
    """The folder of a future of a clip; number 0 has the true label maps."""
    return f"sample_{number:05d}"


def write_label_maps(folder, labels):
    """Writes classes [T, H, W] as palette PNGs 000000.png, 000001.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = palette().tobytes()
    for number, classes in enumerate(labels):
        image = Image.fromarray(classes.astype(np.uint8), "P")
        image.putpalette(colours)
        with files.atomic_write(folder / f"{number:06d}.png") as temporary:
            image.save(temporary, "PNG")


def read_label_maps(folder):
    """The label maps in a folder of PNGs: int32 [T, H, W].

    Raises:
        UserError: there are none, one is unreadable, or one has colours instead of classes.
    """
    labels = [video_io.read_classes(path) for path in sorted(folder.glob("*.png"))]
    if not labels:
        raise UserError(f"{folder} holds no PNG files; write label maps with tfvp predict-labels")
    return np.stack(labels).astype(np.int32)


def read_index(folder):
    """What index.json says.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        return json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no index.json that can be read ({error}); run tfvp predict-labels") from None


def observed_frames(config, index, name, count):
    """The first frames of a clip that label maps were predicted for.

    Args:
        config: of the run that renders them, with the same data set.
        index: what `read_index` returned.
        name: the clip's folder.
        count: how many frames.

    Returns:
        float32 [count, height, width, 3] in [0, 1].
    """
    window = index.get("windows", {}).get(name) or {"clip": int(name.split("_")[1]), "start": 0}
    dataset = build_dataset(selection.data_config(config, None, count))
    dataset.prepare()
    place = np.array([window["clip"]]), np.array([window["start"]])
    arrays = dataset.read(index["split"], *place, count, index["frame_stride"])
    return tf.cast(arrays["video"][0], tf.float32) / 255.0
