"""Predictions in files in the place of a model, and true clips in files in the place of a data set."""

import hashlib
import json

import numpy as np
import tensorflow as tf

from tfvp.errors import UserError

BATCH_BYTES = 2**26  # of true frames as float32; what bounds memory
BATCH_CLIPS = 16


class GivenPredictions:
    """Predictions in files, in the place of a model: `scoring.Scorer` rolls them out.

    Args:
        clips: the predictions, a `tfvp.evaluation.clip_files.ClipFiles`.
        names: of the clips; the ids of batches count them.
        horizon: predicted frames.
        image_shape: (height, width, channels).
        samples: futures per clip; every clip has as many at least.
        context: observed frames, for messages.
    """

    registered_name = "predictions in files"
    predicts_labels = True

    def __init__(self, clips, names, horizon, image_shape, samples, context):
        self.clips = clips
        self.names = names
        self.horizon = horizon
        self.image_shape = tuple(image_shape)
        self.samples = samples
        self.stochastic = samples > 1
        self.context = context
        self._digests = {}

    def digest(self):
        """The SHA-256 of all predictions that were read: of the list of (clip, sample, SHA-256 of its frames)."""
        return hashlib.sha256(json.dumps(sorted(self._digests.items())).encode()).hexdigest()

    def rollout(self, context, horizon, samples=1, chunk=50, ids=None, first_sample=0):
        """Yields what the files hold of the clips `ids`, as `VideoModel.rollout` yields predictions."""
        videos = [self._read(self.names[int(i)], first_sample, samples) for i in ids]
        for start in range(0, horizon, chunk):
            yield tf.stack([as_float(video[:, start : min(start + chunk, horizon)]) for video in videos])

    def _read(self, name, first, count):
        video = self.clips.read(name, first, count)
        check_length(f"{self.clips.path}: {name}", video.shape[1], self.horizon, self.context)
        if video.shape[2:] != self.image_shape:
            raise UserError(
                f"{self.clips.path}: {name} has frames of {size_text(video.shape[2:])}, its truth of"
                f" {size_text(self.image_shape)}; bring both to one size and one number of channels"
            )
        for sample, frames in enumerate(video, first):
            data = np.ascontiguousarray(frames).tobytes()
            self._digests[f"{name}/{sample}"] = hashlib.sha256(f"{frames.dtype} ".encode() + data).hexdigest()
        return video


def batches_of(clips, names, length, image_shape):
    """Yields batches of true clips as `scoring.run` takes them.

    Args:
        clips: a `ClipFiles`.
        names: of the clips.
        length: frames of each.
        image_shape: (height, width, channels).

    Yields:
        {"video": float32 [B, length, H, W, C], "mask": [B, length], "id": int64 [B], the position in
        `names`}; the last batch is filled up with the first clips, under a mask of 0.

    Raises:
        UserError: a clip differs in length or size.
    """
    clip_bytes = 4 * length * int(np.prod(image_shape))
    size = min(len(names), BATCH_CLIPS, max(1, BATCH_BYTES // clip_bytes))
    for start in range(0, len(names), size):
        rows = np.arange(start, start + size)
        ids = rows % len(names)
        videos = [as_float(_true_clip(clips, names[i], length, image_shape)) for i in ids]
        mask = np.repeat((rows < len(names)).astype(np.float32)[:, None], length, axis=1)
        yield {"video": tf.stack(videos), "mask": tf.constant(mask), "id": tf.constant(ids, tf.int64)}


def _true_clip(clips, name, length, image_shape):
    video = clips.read(name)
    if video.shape != (1, length, *image_shape):
        raise UserError(
            f"{clips.path}: {name} has {video.shape[1]} frames of {size_text(video.shape[2:])}, the first clip {length}"
            f" of {size_text(image_shape)}; all clips must be of one length and size"
        )
    return video[0]


def as_float(video):
    """float32 in [0, 1] of uint8; floats unchanged."""
    return video.astype(np.float32) / np.float32(255.0) if video.dtype == np.uint8 else video


def check_length(where, frames, horizon, context):
    """Refuses a prediction that is not of `horizon` frames.

    Raises:
        UserError: it is not; where it seems to begin with the observed frames, the message says so.
    """
    if frames != horizon:
        hint = f"; drop the {context} observed frames before them" if context and frames == context + horizon else ""
        raise UserError(f"{where} has {frames} predicted frames, but {horizon} are expected{hint}")


def size_text(shape):
    """Words for (height, width, channels)."""
    return f"{shape[0]} x {shape[1]} pixels with {shape[2]} channel{'s' if shape[2] != 1 else ''}"
