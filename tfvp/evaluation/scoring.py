"""From a predictor and clips to numbers: rollouts, scored chunk by chunk."""

import dataclasses
import functools
import typing

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfvp import registry, weights
from tfvp.errors import UserError
from tfvp.evaluation import precision
from tfvp.evaluation.sharding import Team, merged, parts
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
        values: {metric: float32 [clips, samples, horizon]}, per frame, NaN where a prediction is not finite.
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


def usable_metrics(names, image_shape=None, context=0, horizon=0):
    """Separates metrics that can run from the others: their weights are installed, and they are defined on the frames.

    Args:
        names: of metrics.
        image_shape: (height, width, channels) of the frames. Defaults to frames that any metric takes.
        context, horizon: observed and predicted frames. Default to as many as any metric takes.

    Returns:
        (names of usable metrics, a sentence about each of the others).

    Raises:
        UserError: a name is unknown, or none can be used.
    """
    usable, notes = [], []
    for name in names:
        metric = registry.lookup("metric", name)
        try:
            for weight in metric.needs_weights:
                weights.find(weight)
            if image_shape and not metric.of_labels:
                metric.check_frames((*image_shape[:2], min(image_shape[2], 3)))
            if horizon and issubclass(metric, SetMetric):
                _check_length(metric, horizon + (context if metric.with_context else 0))
            usable.append(name)
        except UserError as error:
            notes.append(f"{name} is left out: {error}")
    if not usable:
        raise UserError("none of the metrics can run: " + " ".join(notes))
    return usable, notes


def _check_length(metric, frames):
    if frames < metric.fewest_frames:
        raise UserError(f"it takes videos of at least {metric.fewest_frames} frames, and these have {frames}")


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
    """Scores predictors on the same clips.

    Args:
        predictors: {name: VideoModel}; only stochastic ones are given more than one sample.
        batches, count, progress: as in `run`.
        metrics, context, horizon, samples, chunk, mode, num_examples_kept: as in `make_scorers`.

    Returns:
        As `run`.
    """
    scorers = make_scorers(predictors, metrics, context, horizon, samples, chunk, mode, num_examples_kept)
    return run(scorers, batches, count, progress)


def make_scorers(predictors, metrics, context, horizon, samples=1, chunk=50, mode="open_loop", num_examples_kept=4):
    """{name: Scorer} of predictors that are scored on the same frames.

    Args:
        predictors: {name: VideoModel}.
        metrics, context, horizon, samples, chunk, mode, num_examples_kept: as in `Scorer`.

    Raises:
        UserError: a metric cannot be used, or the predictors leave no frame to score.
    """
    first = first_scored(predictors, context, mode)
    if first >= context + horizon:
        raise UserError(
            f"the model observes {first} frames before it predicts one, which leaves none of {context + horizon} to"
            " score; raise --eval-seq-len"
        )
    return {
        name: Scorer(predictor, metrics, context, horizon, samples, chunk, mode, num_examples_kept, first)
        for name, predictor in predictors.items()
    }


def first_scored(predictors, context, mode):
    """How many frames come before the first that is scored, for all predictors of an evaluation alike."""
    return context if mode == "open_loop" else max(p.fewest_context for p in predictors.values())


def run(scorers, batches, count, progress=None, journal=None, others=()):
    """Scores the same clips with every scorer, in memory that does not grow with the number of clips.

    Args:
        scorers: {name: Scorer}; they are reset first.
        batches: dataset of {"video": [B, context + horizon, H, W, C], "id": [B], "mask": [B, T]}, or a function that
            takes the numbers of batches to leave out and returns one.
        count: number of clips in all batches, without padding.
        progress: label of a progress bar; None shows none.
        journal: an open `tfvp.evaluation.journal.Journal`. Batches that it holds are not scored again, and the
            others are added to it.
        others: more `tfvp.evaluation.sharding.Team`s, which share the batches with `scorers`.

    Returns:
        An `Outcome`.
    """
    for scorer in scorers.values():
        scorer.reset()
    done = journal.done() if journal else []
    batches = batches(done) if callable(batches) else batches
    teams = [Team(None, scorers), *others]
    truth, hashes = [], []
    with tqdm(total=count, desc=progress, unit="clip", disable=progress is None) as bar:
        for number, part, new in merged(done, journal, parts(teams, batches, done)):
            if new and journal:
                journal.write(number, part)
            truth.extend(part["truth"])
            hashes.extend(part["truth_sha256"].tolist())
            for name, scorer in scorers.items():
                scorer.add({key.split("/", 1)[1]: v for key, v in part.items() if key.startswith(f"{name}/")})
            bar.update(len(part["truth_sha256"]))
    return Outcome({name: scorer.scores() for name, scorer in scorers.items()}, np.stack(truth), hashes)


def check_labels(predictor, metrics):
    """Refuses metrics of label maps for a predictor of frames alone.

    Args:
        predictor: a VideoModel.
        metrics: names of registered metrics.

    Raises:
        UserError: there are such metrics.
    """
    of_labels = [name for name in metrics if registry.lookup("metric", name).of_labels]
    if of_labels and not _has_labels(predictor):
        fitting = " and ".join(n for n in registry.names("model") if "labels" in registry.lookup("model", n).needs)
        name, several = getattr(predictor, "registered_name", "this model"), len(of_labels) > 1
        raise UserError(
            f"{' and '.join(of_labels)} compare{'' if several else 's'} label maps, which {name} does not predict, only"
            f" {fitting} do; choose metrics, or a protocol, without {'them' if several else 'it'}"
        )


def _has_labels(predictor):
    return predictor.image_shape[-1] == label_maps.CHANNELS


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
            before it, and all but the first `first` of `context + horizon` frames are scored.
        kept: number of clips whose predictions are kept.
        first: of "teacher_forced"; at least the predictor's fewest context, its default.
    """

    def __init__(self, predictor, metrics, context, horizon, samples=1, chunk=50, mode="open_loop", kept=4, first=None):
        self.predictor = predictor
        self.context = context
        self.mode = mode
        self.kept = kept
        self.samples = samples if predictor.stochastic else 1
        self.first = context
        if mode == "teacher_forced":
            self.first = predictor.fewest_context if first is None else first
        self.horizon = context + horizon - self.first
        self.chunk = -(-self.horizon // -(-self.horizon // min(chunk, self.horizon)))
        check_labels(predictor, metrics)
        self.labelled = _has_labels(predictor)
        classes = {name: registry.lookup("metric", name) for name in metrics}
        metrics = {n: self._make(m) for n, m in classes.items() if predictor.predicts_labels or not m.of_labels}
        self.frame_metrics = {n: m for n, m in metrics.items() if not isinstance(m, SetMetric)}
        self.set_metrics = {n: m for n, m in metrics.items() if isinstance(m, SetMetric)}
        # Metrics whose state is a sum of counts score a batch in a copy of their own, which is then added.
        self._counting = {n: self._make(type(m)) for n, m in self.set_metrics.items() if m.feature_key is None}
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
        self.voided = 0  # clips whose predictions are not finite

    def score(self, batch, real, keep=0, shared=None):
        """Scores a batch, without adding it.

        Args:
            batch: as `run` takes it.
            real: how many of its clips, the first ones, are not padding.
            keep: of how many the predictions are returned.
            shared: a dict in which the scorers of one batch keep the features of its true frames, or None.

        Returns:
            {"mask": float32 [real, T], "values/<metric>": float32 [real, samples, T], NaN where masked,
            "true/<metric>" and "pred/<metric>": features [real, D], "count/<metric>/<n>": what the n-th variable of
            a counting metric gains, "finite": bool [real], whether what set metrics compare is, "examples": uint8
            [keep, samples, T, H, W, C]}.
        """
        video, mask = batch["video"], batch["mask"][:, self.first :]
        group = max(1, FRAMES_PER_CALL // (video.shape[0] * self.chunk))
        values, shown, finite = [], [], []
        for start in range(0, self.samples, group):
            futures = (start, min(group, self.samples - start), keep)
            part, frames, is_finite = self.score_samples(video, batch["id"], *futures)
            values.append(part)
            shown.append(frames)
            finite.append(is_finite)
        scored = {"mask": mask[:real].numpy(), "examples": np.concatenate(shown, axis=1)[: min(real, keep)]}
        for name in self.frame_metrics:
            per_frame = tf.concat([part[name] for part in values], axis=1)
            scored[f"values/{name}"] = tf.where(mask[:, None] > 0, per_frame, np.nan)[:real].numpy()
        if self.set_metrics:
            predicted = tf.cast(shown[0][:, 0], tf.float32) / 255.0
            with precision.measuring():
                scored.update(self._score_sets(video, predicted, batch["mask"], real, {} if shared is None else shared))
            self._void(scored, finite[0][:real])  # they compare one sample per clip
        return scored

    def _void(self, scored, finite):
        """Puts NaN in place of what set metrics made of predictions that are not finite, which are black as bytes."""
        for key, value in scored.items():
            kind, *named = key.split("/")
            if kind == "pred":
                scored[key] = np.where(finite[:, None], value, np.float32(np.nan))
            elif kind == "count" and not finite.all():
                metric, number = self.set_metrics[named[0]], int(named[1])
                scored[key] = value if metric.variables[number] is metric.clips else value + np.nan
        scored["finite"] = finite

    def _score_sets(self, video, predicted, mask, real, shared):
        """What set metrics make of a batch: entries of `score`. Metrics of the same features share them."""
        scored, whole = {}, tf.concat([video[:, : self.first], predicted], axis=1)
        own = {}
        for name, metric in self.set_metrics.items():
            start = 0 if metric.with_context else self.first
            if name in self._counting:
                counting = self._counting[name]
                counting.reset_state()
                true, prediction = (self._seen_by(metric, x[:, start:]) for x in (video, whole))
                counting.update_state(true, prediction, mask[:, start:])
                gained = {f"count/{name}/{n}": np.asarray(v) for n, v in enumerate(counting.variables)}
                scored.update(gained)
                continue
            metric.check_frames(self._seen_by(metric, video).shape[-3:])
            for side, frames, cache in (("true", video, shared), ("pred", whole, own)):
                key = (metric.feature_key, start)
                if key not in cache:
                    cache[key] = metric.video_features(self._seen_by(metric, frames[:real, start:]))
                scored[f"{side}/{name}"] = cache[key]
        return scored

    def add(self, scored):
        """Adds what `score` returned for a batch."""
        for name, metric in self.frame_metrics.items():
            values = scored[f"values/{name}"]
            metric.update_values(values, scored["mask"])
            self.values[name].append(values)
        for name, metric in self.set_metrics.items():
            if name in self._counting:
                for n, variable in enumerate(metric.variables):
                    variable.assign_add(scored[f"count/{name}/{n}"])
            else:
                metric.update_features(scored[f"true/{name}"], scored[f"pred/{name}"])
        self.voided += int(np.sum(~scored["finite"])) if self.set_metrics else 0
        self.examples.extend(scored["examples"])

    def score_samples(self, video, ids, first_sample, samples, keep):
        """Rolls out and scores futures number `first_sample`, `first_sample` + 1, ... of a batch.

        Returns:
            ({metric: [B, samples, T]}, predictions uint8 [b, samples, T, H, W, C], at least the first `keep` clips',
            bool [B], whether the first of these futures is finite; only with metrics of sets).
        """
        parts, shown, done, finite = [], [], 0, True
        keep = video.shape[0] if self.set_metrics else keep
        chunks = self._predict(video, ids, first_sample, samples)
        while (predicted := self._next(chunks)) is not None:
            frames = predicted.shape[2]
            start = self.first + done
            with precision.measuring():
                parts.append(self.per_frame(video[:, start : start + frames], predicted))
            shown.append(to_uint8(predicted[:keep]))
            if self.set_metrics:
                finite &= tf.reduce_all(tf.math.is_finite(predicted[:, 0]), axis=[1, 2, 3, 4]).numpy()
            done += frames
        values = {name: tf.concat([part[name] for part in parts], axis=2) for name in self.frame_metrics}
        return values, np.concatenate(shown, axis=2), finite

    @staticmethod
    def _next(chunks):
        with precision.predicting():
            return next(chunks, None)

    def _predict(self, video, ids, first_sample, samples):
        if self.mode == "teacher_forced":
            predicted = self.predictor.graph("next_frames", self.predictor.next_frames)(video)[:, None]
            yield predicted[:, :, predicted.shape[2] - self.horizon :]
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
        summaries = {n: metric.summary() for n, metric in (*self.frame_metrics.items(), *self.set_metrics.items())}
        for name in self.set_metrics if self.voided else ():
            summaries[name]["note"] = f"{name} is no number, as predictions are not finite (clips: {self.voided})."
        return Scores(
            summaries=summaries,
            values={name: np.concatenate(parts) for name, parts in self.values.items()},
            examples=np.stack(self.examples),
        )
