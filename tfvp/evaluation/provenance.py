"""Where the numbers of an evaluation come from: clips, data, weights, networks, device."""

import json

import numpy as np
import tensorflow as tf

from tfvp import registry, weights
from tfvp import run as runs
from tfvp.evaluation.per_clip import Clips, clip_id
from tfvp.files import sha256


def describe_clips(dataset, split, clips, starts, length, truth_sha256=()):
    """The `Clips` of windows of a data set.

    Args:
        dataset: a prepared `VideoDataset`.
        split: the split.
        clips, starts: int64 [N], as `tfvp.pipeline.batching.evaluation_windows` returns them.
        length: frames of a window.
        truth_sha256: [N], of the windows' frames, where they are known.
    """
    ids = [clip_id(name, int(start)) for name, start in zip(dataset.clip_names(split, clips), starts)]
    return Clips(ids, dataset.clip_sources(split, clips), np.asarray(starts), length, list(truth_sha256))


def describe_data(config, dataset, split, stride, clips):
    """The section "data" of metrics.json.

    Args:
        config: the `tfvp.config.Config` that the data set was built from.
        dataset: a prepared `VideoDataset`.
        split: the split that was evaluated.
        stride: frames of a clip from one frame of a window to the next.
        clips: the `Clips`.

    Returns:
        The options of the data set, "split", the clips' and the truth's hashes, "windows", the list of (clip, first
        frame), and "notes", what the data set says of itself: whether it is the published one or drawn, and how many
        files could not be read.
    """
    section = {**config.data.to_dict(), "frame_stride": int(stride), "split": split}
    return {**section, **clips.digests(), "windows": clips.windows(), "notes": dataset.notes()}


def describe_networks(metrics):
    """[{"name", "file", "sha256"}] of the pretrained weights that metrics use, user-named files included."""
    names = dict.fromkeys(name for metric in metrics for name in registry.lookup("metric", metric).needs_weights)
    paths = {name: weights.find(name) for name in names}
    return [{"name": name, "file": str(path), "sha256": weights.checksum(path)} for name, path in paths.items()]


def describe_run(run, model, which, devices):
    """The section "run" of metrics.json.

    Args:
        run: a `tfvp.run.Run`.
        model: its model, loaded.
        which: "best" or "last", its weights.
        devices: names of the logical devices that predicted.
    """
    path = run.weights_file(which)
    environment = {k: v for k, v in runs.describe_environment([]).items() if k != "devices"}
    return {
        "path": run.path.name,
        "model": run.config.model.name,
        "data": run.config.data.name,
        "weights": which,
        "weights_file": path.relative_to(run.path).as_posix(),
        "weights_sha256": sha256(path),
        "epoch": epoch_of(run, which),
        "parameters": int(sum(np.prod(v.shape) for v in model.weights)),
        "device": ", ".join(device_label(name) for name in devices),
        "precision": model.dtype_policy.name,
        "tf32": tf32(devices),
        **environment,
    }


def identity(run, origin, clips, devices):
    """What the scores depend on beside the protocol and the options: scores of another identity are not resumed.

    Args:
        run: a `tfvp.run.Run`.
        origin: what `describe_run` returned.
        clips: the `Clips`.
        devices: names of the devices. Their number does not matter, their kind does.
    """
    mean_frame = run.path / "model" / "mean_frame.npy"
    return {
        **{key: origin[key] for key in ("weights_sha256", "precision", "tf32", "commit", "versions")},
        "clips_sha256": clips.digests()["clips_sha256"],
        "mean_frame_sha256": sha256(mean_frame) if mean_frame.is_file() else "",
        "device": device_label(devices[0]),
    }


def epoch_of(run, which):
    """The epoch after which the "best" or "last" weights were saved, from 1; None where that is not recorded."""
    if which == "last":
        lines = run.read_metrics()
        return lines[-1]["epoch"] if lines else None
    path = run.path / "model" / "status.json"
    return json.loads(path.read_text(encoding="utf-8")).get("best_epoch") if path.is_file() else None


def tf32(devices):
    """Whether the model's float32 products are rounded to TF32: GPUs that have it do, unless it is turned off."""
    return tf.config.experimental.tensor_float_32_execution_enabled() and any("GPU" in name for name in devices)


def device_label(name):
    """What people call a logical device: its name, and that of its hardware ("GPU:0 (NVIDIA H100)")."""
    short = name.split("device:")[-1].lstrip("/")
    kind, _, index = short.partition(":")
    physical = tf.config.list_physical_devices(kind)
    if kind != "GPU" or int(index or 0) >= len(physical):
        return f"{short} ({runs.processor()})"
    details = tf.config.experimental.get_device_details(physical[int(index or 0)])
    return f"{short} ({details.get('device_name', 'unknown')})"
