"""Label maps of the future, as files: `tfvp predict-labels --logdir RUN`.

<run>/structures/<split>/
    index.json                            protocol: clips, context, horizon, samples, stride
    clip_00007/sample_00000/000000.png    the true label maps, as far as there are any
    clip_00007/sample_00001/000000.png    a prediction; observed label maps come first

The files are palette PNGs whose indices are the classes. `tfvp render-labels` turns them into video.
"""

import json

import numpy as np
import tensorflow as tf
from PIL import Image

from tfvp import files, video_io
from tfvp.datasets.build import build_dataset
from tfvp.errors import UserError
from tfvp.evaluation import evaluator
from tfvp.frames import palette
from tfvp.layers import label_maps
from tfvp.models.build import load_run
from tfvp.pipeline import batching

LABELS_ONLY = ("labels",)


def extract(run, horizon=None, samples=10, num_examples=0, split="test", weights="best", progress=print):
    """Predicts the label maps of a split and writes them.

    Args:
        run: a `tfvp.run.Run` of a model that predicts label maps.
        horizon: predicted frames; those of the run's evaluation where left out. Clips need not be
            as long: the true label maps end where the clip does.
        samples: futures per clip.
        num_examples: clips; 0 = the whole split.
        split: which clips.
        weights: "best" or "last".
        progress: called with a sentence per clip.

    Returns:
        The folder written.

    Raises:
        UserError: the model predicts no label maps, or its data set has none.
    """
    config = run.config
    context = config.eval.open_loop_ctx
    horizon = horizon or config.eval.eval_seq_len - context
    if horizon < 1 or samples < 1:
        raise UserError("--horizon and --num-samples must be at least 1")
    model = load_run(run.path, weights)
    if "labels" not in model.needs:
        raise UserError(f"{run.path} is a run of {config.model.name}, which predicts no label maps")
    model.check_context(context)
    dataset = build_dataset(config)
    dataset.prepare()
    known = min(context + horizon, int(dataset.clip_lengths(split).max()) // config.data.frame_stride)
    batches, count = batching.evaluation_batches(
        dataset,
        split,
        batch_size=1,
        length=known,
        num_examples=num_examples,
        stride=config.data.frame_stride,
        needs=LABELS_ONLY,
    )
    folder = files.writable_folder(run.path / "structures" / split)
    for batch in batches:
        clip, video = int(batch["id"][0]), batch["video"]
        place = folder / f"clip_{clip:05d}"
        write_maps(place / "sample_00000", label_maps.labels_of(video[0]).numpy())
        seen = label_maps.labels_of(video[:, :context]).numpy()
        chunks = model.rollout(video[:, :context], horizon, samples, config.eval.chunk, batch["id"])
        maps = np.concatenate([label_maps.labels_of(chunk).numpy()[0] for chunk in chunks], axis=1)
        for sample in range(samples):
            write_maps(place / f"sample_{sample + 1:05d}", np.concatenate([seen[0], maps[sample]]))
        progress(f"clip {clip}: {samples} futures of {horizon} frames")
    index = {
        "run": run.path.name,
        "split": split,
        "clips": count,
        "context": context,
        "horizon": horizon,
        "samples": samples,
        "frame_stride": config.data.frame_stride,
        "true_frames": known,
        "refresh_predicted_skips": bool(getattr(model, "structure", model).refresh_predicted_skips),
    }
    files.write_json(folder / "index.json", index)
    return folder


def write_maps(folder, maps):
    """Writes classes [T, H, W] as palette PNGs 000000.png, 000001.png, ..."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = palette().tobytes()
    for number, classes in enumerate(maps):
        image = Image.fromarray(classes.astype(np.uint8), "P")
        image.putpalette(colours)
        with files.atomic_write(folder / f"{number:06d}.png") as temporary:
            image.save(temporary, "PNG")


def read_maps(folder):
    """The classes in a folder of PNGs: int32 [T, H, W].

    Raises:
        UserError: there are none, one is unreadable, or one has colours instead of classes.
    """
    maps = [video_io.read_classes(path) for path in sorted(folder.glob("*.png"))]
    if not maps:
        raise UserError(f"{folder} holds no PNG files; write label maps with tfvp predict-labels")
    return np.stack(maps).astype(np.int32)


def read_index(folder):
    """What index.json says.

    Raises:
        UserError: it is missing or broken.
    """
    try:
        return json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} has no index.json that can be read ({error}); run tfvp predict-labels") from None


def frames_of_clip(config, clip, length, split):
    """The first `length` frames of a clip, float32 [length, H, W, 3] in [0, 1]."""
    dataset = build_dataset(evaluator.data_config(config, None, length))
    dataset.prepare()
    arrays = dataset.read(split, np.array([clip]), np.array([0]), length, config.data.frame_stride)
    return tf.cast(arrays["video"][0], tf.float32) / 255.0
