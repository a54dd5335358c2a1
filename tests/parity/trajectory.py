"""Recorded training runs of the references: their weights, batches and noise, and what a run of ours is held against.

tests/golden_values/trajectory/README.md describes the records.
"""

import numpy as np
import tensorflow as tf

from tests import golden
from tfvp import compat, config, devices
from tfvp.training import loop

HELD_BACK = 40  # number of the batch that no update sees
SNAPSHOTS = (1, 10, 30)  # updates after which the norms of the parameters are recorded


class Trajectory:
    """A recorded run, and ours.

    Args:
        name: of the record.
        model: a built model with the recorded weights.
        settings: path of the published configuration, below `configs`.
        overrides: options of `train` that the record has otherwise, "key=value".
        batches: of the whole training run, which schedules end with.
    """

    def __init__(self, name, model, settings, overrides, batches):
        self.case, self.model = golden.case("trajectory", name), model
        overrides = [f"train.{option}" for option in (*overrides, f"epochs={batches}", "steps_per_epoch=1")]
        self.config = config.load(golden.ROOT / "configs" / settings, overrides)
        self.average = loop.compile_model(self.config, model, 1)
        self.logs, self.rates = [], []

    def run(self, video_shape, parameters, before_batch=None, factor=1.0, places=None):
        """Trains as `fit` does, batch by batch, and checks how far every parameter moved.

        Args:
            video_shape: (B, T, H, W, C).
            parameters: () -> {name in the reference: array or list of arrays}, whose norms are recorded.
            before_batch: called with the number of each batch.
            factor, places: as in `check`, for the norms.
        """
        per_batch = self.model.updates_per_batch
        start, norms, moved = parameters(), [], []
        self.model.make_train_function()
        for number in range(self.case.hyper["updates"] // per_batch):
            if before_batch is not None:
                before_batch(number)
            self.rates += [compat.learning_rate(self.model.optimizer)] * per_batch
            self.model.reset_metrics()
            batch = tf.data.Dataset.from_tensors({"video": self.video(number, video_shape)})
            logs = self.model.train_function(iter(batch))
            self.logs.append({name: float(value) for name, value in logs.items()})
            if (number + 1) * per_batch in SNAPSHOTS:
                now = parameters()
                norms.append([norm(value) for value in now.values()])
                moved.append([norm(value, start[name]) for name, value in now.items()])
        missing = len(SNAPSHOTS) - len(norms)  # inside of a batch of several updates
        for name, values in (("norm", norms), ("moved", moved)):
            recorded = self.case.outputs[name]
            self.check(name, [*recorded[:missing], *values], factor, places)
        return start

    def video(self, number, shape):
        """The batch `number` of rolling blocks, float32 [B, T, H, W, C]."""
        batch, frames, height, width, channels = shape
        random = np.random.RandomState(self.case.seed * 1000 + 900 + number)
        base = random.uniform(0, 1, (batch, height // 4, width // 4, channels)).astype(np.float32)
        image = base.repeat(4, axis=1).repeat(4, axis=2)
        return np.stack([np.roll(image, 2 * t, axis=2) for t in range(frames)], axis=1)

    def random(self, number):
        """Where noise and masks of the batch `number` are drawn from."""
        return np.random.RandomState(self.case.seed * 1000 + 940 + number)

    def logged(self, name):
        """The values of a loss term in every batch, [batches]."""
        return [logs[name] for logs in self.logs]

    def check(self, name, values, factor=1.0, places=None):
        """Asserts that values agree with the record `name` within its tolerance.

        Args:
            name: of the record.
            values: what was computed.
            factor: widens the tolerance.
            places: indices of the last axis that count. Defaults to all.
        """
        values = np.asarray(values, np.float64)
        expected, tolerance = (self.case.outputs[key] for key in (name, f"tol.{name}"))
        assert values.shape == expected.shape, f"{name} has shape {values.shape}, not {expected.shape}"
        ratio = np.abs(values - expected) / np.maximum(tolerance, 1e-30)
        worst = np.max(ratio if places is None else ratio[..., places])
        assert worst <= factor, f"{name} is off by {worst:.3g} times the tolerance"


def elsewhere(factor):
    """By how much to widen tolerances: measured with AVX-512, without which sums have another order."""
    return 1.0 if devices.avx512() else factor


def norm(value, other=None):
    """The norm of an array, or of several that are one parameter of the reference; or of a difference."""
    values = value if isinstance(value, list) else [value]
    others = [0.0] * len(values) if other is None else other if isinstance(other, list) else [other]
    return np.sqrt(sum(np.sum(np.square(np.float64(v) - np.float64(o))) for v, o in zip(values, others)))


def array(variable):
    """The value of a Keras or TensorFlow variable, copied."""
    return np.array(compat.backing_variable(variable))


def latent_options(hyper):
    """Options of SVG, and of the structure generator, that their references name alike."""
    names = {"code_size": "g_dim", "latents": "z_dim", "context": "n_past"}
    same = ("rnn_size", "predictor_layers", "posterior_layers", "prior_layers", "beta")
    return {ours: hyper[theirs] for ours, theirs in [*names.items(), *((name, name) for name in same)]}
