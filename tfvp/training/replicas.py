"""Graph functions outside of training steps, on all devices at a time, each with its own rows of a batch."""

import functools

import numpy as np
import tensorflow as tf

from tfvp.evaluation import precision, scoring
from tfvp.frames import to_uint8
from tfvp.layers import noise


class Replicas:
    """The devices of a strategy.

    Args:
        strategy: what `strategies.make_strategy` returned.
        worker: what `strategies.this_worker` returned.
        shared: whether the devices of a worker share its batches. Otherwise the first has them whole, for models
            whose predictions depend on the batch: statistics cannot be exchanged within a loop over frames.

    Attributes:
        count: devices of this worker that compute.
    """

    def __init__(self, strategy, worker, shared=True):
        self.strategy = strategy
        self.shared = shared
        self.count = strategy.num_replicas_in_sync // worker.count if shared else 1

    def graph(self, function):
        """`function` as a graph that every device of this worker calls with its own part of the arguments."""
        # Without the partials, TensorFlow takes the traces of many functions for retraces of one.
        return tf.function(functools.partial(self._run, function))

    def _run(self, function, *arguments):
        return self.strategy.run(function, args=arguments) if self.shared else function(*arguments)

    def split(self, values):
        """Arguments for `graph`: a nested structure of tensors [B, ...], device n gets the n-th part of the rows."""
        if self.count == 1:
            return values
        parts = [tf.split(value, self.count) for value in tf.nest.flatten(values)]

        def part(context):
            place = context.replica_id_in_sync_group % self.count
            return tf.nest.pack_sequence_as(values, [pieces[place] for pieces in parts])

        return self.strategy.experimental_distribute_values_from_function(part)

    def join(self, result, rows=None):
        """The array [B, ...] of a tensor that a `graph` returned, or its first rows."""
        parts, missing = [], rows
        for part in self.strategy.experimental_local_results(result):
            parts.append(part[:missing].numpy())
            if rows is not None:
                missing -= len(parts[-1])
                if not missing:
                    break
        return np.concatenate(parts)


class ReplicaScorer(scoring.Scorer):
    """A `Scorer` that rolls out and measures on all devices of a worker, open-loop.

    Args:
        replicas: a `Replicas`.
        *arguments, **options: of `Scorer`; the predictor was made in the scope of the strategy.
    """

    def __init__(self, replicas, *arguments, **options):
        super().__init__(*arguments, **options)
        self.replicas = replicas
        self._observe = replicas.graph(self.predictor.observe_samples)
        self._imagine = replicas.graph(lambda state: self.predictor.imagine(state, self.chunk))
        self._measure = replicas.graph(self._measured)

    def score_samples(self, video, ids, first_sample, samples, keep):
        replicas, parts, shown = self.replicas, [], []
        seeds = noise.sample_seeds(ids, samples, first_sample)
        with precision.predicting():
            state = self._observe(*replicas.split((video[:, : self.context], seeds)))
        for start in range(0, self.horizon, self.chunk):
            with precision.predicting():
                predicted, state = self._imagine(state)
            end = min(start + self.chunk, self.horizon)
            with precision.measuring():
                true = video[:, self.first + start : self.first + end]
                parts.append(self._measure(replicas.split(true), predicted))
            if keep:
                kept = to_uint8(replicas.join(predicted, keep * samples))[:, : end - start]
                shown.append(kept.reshape([-1, samples, *kept.shape[1:]]))
        values = {
            name: np.concatenate([replicas.join(part[name]) for part in parts], axis=2) for name in self.frame_metrics
        }
        nothing = np.zeros([0, samples, self.horizon, *self.predictor.image_shape], np.uint8)
        return values, np.concatenate(shown, axis=2) if shown else nothing, None  # no metric of a set needs the third

    def _measured(self, true, predicted):
        """{metric: [b, S, T]} of true frames [b, T, H, W, C] and predictions [b * S, T or more, H, W, C]."""
        predicted = tf.reshape(predicted, [true.shape[0], -1, *predicted.shape[1:]])
        return self._per_frame(true, predicted[:, :, : true.shape[1]])
