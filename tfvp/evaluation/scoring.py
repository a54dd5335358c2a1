"""From a predictor and clips to numbers: rollouts, scored chunk by chunk."""

import dataclasses
import functools
import typing

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvp import registry, weights
from tfvp.errors import UserError
from tfvp.evaluation.per_clip import truth_hash
from tfvp.frames import to_uint8
from tfvp.layers import label_maps
from tfvp.metrics.base import SetMetric

# Frames that one graph call may predict for all samples together; more samples go in groups.
FRAMES_PER_CALL = 3200


@dataclasses.dataclass
class Scores:
    """The scores of one predictor.

    Attributes:
        summaries: {metric: the result of its `summary()`}.
        values: {metric: float32 [clips, samples, horizon]}, per frame, NaN where masked.
        examples: uint8 [clips, samples, horizon, H, W, C], the first few predictions.
    """

    summaries: dict
    values: dict
    examples: np.ndarray


class Outcome(typing.NamedTuple):
    """What `run` returns.

    Attributes:
        scores: {predictor: Scores}.
        truth: uint8 [clips, T, H, W, C], the true frames of the kept clips.
        truth_sha256: of every clip's true frames; see `tfvp.evaluation.per_clip.truth_hash`.
    """

    scores: dict
    truth: np.ndarray
    truth_sha256: list


def usable_metrics(names):
    """Separates metrics whose weights are installed from the others.

    Returns:
        (names of usable metrics, a sentence about each of the others).

    Raises:
        UserError: a name is unknown, or none can be used.
    """
    usable, notes = [], []
    for name in names:
        needed = registry.lookup("metric", name).needs_weights
        try:
            for weight in needed:
                weights.find(weight)
            usable.append(name)
        except UserError as error:
            notes.append(f"{name} is left out: {error}")
    if not usable:
        raise UserError("none of the metrics can run: " + " ".join(notes))
    return usable, notes


def score(
    predictors,
    batches,
    count,
    metrics,
    context,
    horizon,
    samples=1,
    chunk=50,
    mode="open_loop",
    num_examples_kept=4,
    progress=None,
):
    """Scores predictors on the same clips, in memory that does not grow with the number of clips.

    Args:
        predictors: {name: VideoModel}; only stochastic ones are given more than one sample.
        batches, count, progress: as in `run`.
        metrics, context, horizon, samples, chunk, mode, num_examples_kept: as in `Scorer`.

    Returns:
        As `run`.
    """
    scorers = {
        name: Scorer(predictor, metrics, context, horizon, samples, chunk, mode, num_examples_kept)
        for name, predictor in predictors.items()
    }
    return run(scorers, batches, count, progress)


def run(scorers, batches, count, progress=None):
    """Scores the same clips with every scorer.

    Args:
        scorers: {name: Scorer}; they are reset first.
        batches: dataset of {"video": [B, context + horizon, H, W, C], "id": [B], "mask": [B, T]}.
        count: number of clips in `batches`, without padding.
        progress: label of a progress bar; None shows none.

    Returns:
        An `Outcome`.
    """
    kept = max(scorer.kept for scorer in scorers.values())
    truth, hashes = [], []
    for scorer in scorers.values():
        scorer.reset()
    with tqdm(total=count, desc=progress, unit="clip", disable=progress is None) as bar:
        for batch in batches:
            real = int(tf.reduce_sum(tf.cast(tf.reduce_max(batch["mask"], axis=1) > 0, tf.int32)))
            video = to_uint8(batch["video"][:real])
            truth.extend(video[: kept - len(truth)] if len(truth) < kept else ())
            hashes.extend(map(truth_hash, video))
            for scorer in scorers.values():
                scorer.add(batch, real)
            bar.update(real)
    return Outcome({name: scorer.scores() for name, scorer in scorers.items()}, np.stack(truth), hashes)


class Scorer:
    """Rolls out one predictor and accumulates its metrics.

    Create it outside of a strategy's scope, so that its metrics are not mirrored, and reuse it: its
    graphs are traced once.

    Args:
        predictor: a VideoModel.
        metrics: names of registered metrics.
        context: observed frames.
        horizon: predicted frames.
        samples: futures per clip; deterministic predictors have one.
        chunk: predicted frames per graph call.
        mode: "open_loop", or "teacher_forced": every frame is predicted from the true ones
            before it, and all but the first of `context + horizon` frames are scored.
        kept: number of clips whose predictions are kept.
    """

    def __init__(self, predictor, metrics, context, horizon, samples=1, chunk=50, mode="open_loop", kept=4):
        self.predictor = predictor
        self.context = context
        self.mode = mode
        self.kept = kept
        self.samples = samples if predictor.stochastic else 1
        self.first = predictor.fewest_context if mode == "teacher_forced" else context
        self.horizon = context + horizon - self.first
        self.chunk = -(-self.horizon // -(-self.horizon // min(chunk, self.horizon)))
        self.labelled = predictor.image_shape[-1] == label_maps.CHANNELS
        classes = {name: registry.lookup("metric", name) for name in metrics}
        if not self.labelled and any(metric.of_labels for metric in classes.values()):
            raise UserError(
                f"{', '.join(n for n, m in classes.items() if m.of_labels)} compare label maps, which this model does"
                " not predict; leave them out of eval.metrics"
            )
        metrics = {n: self._make(m) for n, m in classes.items() if predictor.predicts_labels or not m.of_labels}
        self.frame_metrics = {n: m for n, m in metrics.items() if not isinstance(m, SetMetric)}
        self.set_metrics = {n: m for n, m in metrics.items() if isinstance(m, SetMetric)}
        self.per_frame = tf.function(functools.partial(self._per_frame))
        self.reset()

    def _make(self, metric):
        whole = issubclass(metric, SetMetric) and metric.with_context
        return metric(horizon=self.first + self.horizon if whole else self.horizon)

    def reset(self):
        """Discards the scores of all clips so far."""
        for metric in (*self.frame_metrics.values(), *self.set_metrics.values()):
            metric.reset_state()
        self.values = {name: [] for name in self.frame_metrics}
        self.examples = []

    def add(self, batch, real):
        """Scores a batch whose first `real` clips are not padding."""
        video, mask = batch["video"], batch["mask"][:, self.first :]
        group = max(1, FRAMES_PER_CALL // (video.shape[0] * self.chunk))
        values, shown = [], []
        for start in range(0, self.samples, group):
            part, frames = self._score_samples(video, batch["id"], start, min(group, self.samples - start))
            values.append(part)
            shown.append(frames)
        for name, metric in self.frame_metrics.items():
            per_frame = tf.concat([part[name] for part in values], axis=1)
            metric.update_values(per_frame, mask)
            masked = tf.where(mask[:, None] > 0, per_frame, np.nan)
            self.values[name].append(masked[:real].numpy())
        first_sample = shown[0]
        if self.set_metrics:
            predicted = tf.cast(first_sample[:, 0], tf.float32) / 255.0
            whole = tf.concat([video[:, : self.first], predicted], axis=1)
            for metric in self.set_metrics.values():
                start = 0 if metric.with_context else self.first
                true, prediction = (self._seen_by(metric, x[:, start:]) for x in (video, whole))
                metric.update_state(true, prediction, batch["mask"][:, start:])
        if len(self.examples) < self.kept:
            self.examples.extend(np.concatenate(shown, axis=1)[:real][: self.kept - len(self.examples)])

    def _score_samples(self, video, ids, first_sample, samples):
        """({metric: [B, samples, T]}, predictions uint8 [b, samples, T, H, W, C] as far as needed)."""
        parts, shown, done = [], [], 0
        keep = video.shape[0] if self.set_metrics else max(0, self.kept - len(self.examples))
        for predicted in self._predict(video, ids, first_sample, samples):
            frames = predicted.shape[2]
            start = self.first + done
            parts.append(self.per_frame(video[:, start : start + frames], predicted))
            shown.append(to_uint8(predicted[:keep]))
            done += frames
        return {name: tf.concat([part[name] for part in parts], axis=2) for name in self.frame_metrics}, np.concatenate(
            shown, axis=2
        )

    def _predict(self, video, ids, first_sample, samples):
        if self.mode == "teacher_forced":
            yield self.predictor.graph("next_frames", self.predictor.next_frames)(video)[:, None]
            return
        yield from self.predictor.rollout(
            video[:, : self.context], self.horizon, samples, self.chunk, ids, first_sample
        )

    def _per_frame(self, true, predicted):
        batch, samples, frames = predicted.shape[:3]
        true = tf.repeat(true, samples, axis=0)
        flat = tf.reshape(predicted, [batch * samples, *predicted.shape[2:]])
        return {
            name: tf.reshape(tf.cast(self._values(metric, true, flat), tf.float32), [batch, samples, frames])
            for name, metric in self.frame_metrics.items()
        }

    def _values(self, metric, true, predicted):
        return metric.per_frame(self._seen_by(metric, true), self._seen_by(metric, predicted))

    def _seen_by(self, metric, frames):
        """The part of frames that a metric is about: colours, or label maps."""
        if not self.labelled:
            return frames
        return label_maps.labels_of(frames) if metric.of_labels else label_maps.rgb_of(frames)

    def scores(self):
        """The `Scores` of the clips since `reset`."""
        metrics = {**self.frame_metrics, **self.set_metrics}
        return Scores(
            summaries={name: metric.summary() for name, metric in metrics.items()},
            values={name: np.concatenate(parts) for name, parts in self.values.items()},
            examples=np.stack(self.examples),
        )
