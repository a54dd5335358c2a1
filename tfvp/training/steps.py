"""Training steps on the devices: k of them in one graph call, under any strategy."""

import functools

import tensorflow as tf

from tfvp import compat
from tfvp.errors import UserError


class Stepper:
    """Runs training steps of a compiled model, and keeps on the device what is read of them now and then.

    One graph call makes any number of steps. A model with `own_train_function` makes each step in
    several calls of its own, which the host then follows.

    Args:
        model: a built and compiled model.
        batches: the dataset of training batches, distributed if the strategy has several replicas.
        patience: steps in a row without a finite gradient after which `check` raises.
        xla: whether XLA compiles a replica's step.
    """

    def __init__(self, model, batches, patience, xla=False):
        self.model = model
        self.strategy = model.distribute_strategy
        self.iterator = iter(batches)
        self.patience = patience
        self.xla = xla
        self.skipped, self.streak, self.longest = (tf.Variable(0.0, trainable=False) for _ in range(3))
        self.own = model.make_train_function() if model.own_train_function else None
        # Without the partials, TensorFlow takes the traces of many models for retraces of one.
        self._run = tf.function(functools.partial(self._steps), reduce_retracing=True)
        self._note = tf.function(functools.partial(self._count_skipped))
        self._read = tf.function(functools.partial(self._results))

    def run(self, steps):
        """Makes so many steps; returns before the devices have finished them."""
        if self.own is None:
            self._run(self.iterator, tf.constant(steps))
            return
        for _ in range(steps):
            self._note(self.own(self.iterator)["skipped"])

    def read(self):
        """The running means of the losses and the gradient norm since `reset`, {name: float}; waits for the devices."""
        names = [metric.name for metric in self.model.metrics]
        return dict(zip(names, map(float, self._read())))

    def check(self, step):
        """Stops training whose gradients have not been finite for `patience` steps in a row.

        Raises:
            UserError: they have not, before step number `step`.
        """
        if float(self.longest) >= self.patience:
            raise UserError(
                f"training stopped before step {step}: the gradient was not finite for {float(self.longest):.0f} steps"
                " in a row; lower train.learning_rate, set train.clip_norm, or look for broken clips with `tfvp data`;"
                " the last good weights are kept"
            )

    def reset(self):
        """Forgets the running means, at the beginning of an epoch."""
        for metric in self.model.metrics:
            for variable in metric.variables:
                variable.assign(tf.zeros(variable.shape, variable.dtype))
        self.skipped.assign(0.0)

    def resume(self):
        """Counts on from running means that were restored."""
        self.skipped.assign(self.read()["skipped"])

    def _steps(self, iterator, steps):
        step = tf.function(self.model.train_step, jit_compile=True) if self.xla else self.model.train_step
        for _ in tf.range(steps):
            logs = self.strategy.run(step, args=(next(iterator),))
            self._count_skipped(logs["skipped"])

    def _count_skipped(self, skipped):
        """Notes a step after which `skipped` updates of the epoch were skipped."""
        skipped = compat.total_over_replicas(self.strategy, skipped)
        bad = skipped - self.skipped > 0.5 * self.model.updates_per_batch
        self.skipped.assign(skipped)
        self.streak.assign(tf.where(bad, self.streak + 1.0, 0.0))
        self.longest.assign(tf.maximum(self.longest, self.streak))

    def _results(self):
        return tf.stack([tf.cast(metric.result(), tf.float32) for metric in self.model.metrics])
