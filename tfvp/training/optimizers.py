"""Optimizers by name, learning-rate schedules, and the moving average of the weights."""

import contextlib
import functools
import inspect
import math

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp import compat, registry
from tfvp.errors import UserError

OWN_CLIPPING = ("clipnorm", "global_clipnorm", "clipvalue")  # Keras's


def build_optimizer(settings, batches, batches_per_epoch, updates_per_batch=1):
    """The optimizer that the section `train` of a configuration asks for.

    Args:
        settings: `config.train`.
        batches: batches in the whole training; one-cycle and cosine end there.
        batches_per_epoch: batches in an epoch, the unit of `warmup_epochs`.
        updates_per_batch: optimizer updates per batch, or a function from updates to batches;
            schedules advance once per batch.

    Returns:
        An unbuilt `keras.optimizers.Optimizer`.

    Raises:
        UserError: an unknown optimizer, an argument that it does not take, a momentum cycle
            for an optimizer without beta_1, or Keras's clipping on several devices.
    """
    cls = compat.optimizer_class(settings.optimizer)
    if cls is None:
        names = compat.optimizer_names()
        raise UserError(
            f"train.optimizer: unknown optimizer {settings.optimizer!r}{registry.nearest(settings.optimizer, names)};"
            f" known: {', '.join(names)}"
        )
    if cls in (keras.optimizers.Adam, keras.optimizers.AdamW):
        cls = _in_one_kernel(cls, settings.adam_rule)
    elif settings.adam_rule != "keras":
        raise UserError(
            f"train.adam_rule={settings.adam_rule} is about adam and adamw, not {settings.optimizer}; set it to keras"
        )
    options = settings.optimizer_options
    options = options.to_dict() if hasattr(options, "to_dict") else dict(options)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    for name in OWN_CLIPPING:
        if replicas > 1 and options.get(name) is not None:
            raise UserError(
                f"train.optimizer_options: {name} would clip the gradients of each of {replicas} devices before their"
                " mean is taken; set train.clip_norm, or train.devices=1"
            )
    rate = _learning_rate(settings, batches, batches_per_epoch, updates_per_batch)
    if settings.schedule == "one_cycle" and settings.cycle_momentum:
        low, high = settings.cycle_momentum
        cycle = OneCycle(low, batches, settings.cycle_warmup, high, high, updates_per_batch)
        cls = _with_momentum_cycle(cls, cycle, settings.optimizer)
    try:
        optimizer = cls(learning_rate=rate, **options)
    except (TypeError, ValueError) as error:
        known = [name for name in inspect.signature(cls).parameters if name not in ("learning_rate", "name", "kwargs")]
        raise UserError(f"train.optimizer_options: {settings.optimizer} takes {', '.join(known)} ({error})") from None
    if settings.adam_rule == "pytorch" and optimizer.amsgrad:
        raise UserError("train.adam_rule=pytorch does not know amsgrad; drop it from train.optimizer_options")
    return optimizer


def _learning_rate(settings, batches, batches_per_epoch, updates_per_batch):
    peak = settings.learning_rate
    warmup = round(settings.warmup_epochs * batches_per_epoch)
    if settings.schedule == "one_cycle":
        start = peak / settings.cycle_initial_div
        return OneCycle(
            peak, batches, settings.cycle_warmup, start, start / settings.cycle_final_div, updates_per_batch
        )
    if settings.schedule == "cosine":
        return Cosine(peak, batches, warmup, settings.final_learning_rate, updates_per_batch)
    if settings.schedule == "linear":
        return Linear(peak, batches, settings.linear_start, settings.final_learning_rate, updates_per_batch)
    if warmup and settings.schedule == "constant":
        return Cosine(peak, math.inf, warmup, peak, updates_per_batch)
    return peak


class _PerBatch(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of the batch number, for models that make several updates per batch."""

    def __init__(self, updates_per_batch):
        self.updates_per_batch = updates_per_batch

    def __call__(self, step):
        step, per_batch = tf.cast(tf.convert_to_tensor(step), tf.int64), self.updates_per_batch
        batch = per_batch(step) if callable(per_batch) else step // per_batch
        return tf.cast(self.value(tf.cast(batch, tf.float64)), tf.float32)

    def value(self, batch):
        raise TypeError(f"{type(self).__name__} does not define value")

    def get_config(self):
        return {key: value for key, value in vars(self).items() if not callable(value)}


class OneCycle(_PerBatch):
    """PyTorch's two-phase one-cycle policy with cosine annealing (Smith and Topin 2017).

    From `start` to `peak` in the first `warmup` of training, then down to `end`. Batch b of N
    is at b / (warmup N - 1) of the first phase and (b - warmup N + 1) / (N - warmup N) of the
    second. With `peak` below `start` it is the momentum's cycle.
    """

    def __init__(self, peak, batches, warmup=0.3, start=0.0, end=0.0, updates_per_batch=1):
        super().__init__(updates_per_batch)
        self.peak, self.batches, self.warmup, self.start, self.end = peak, batches, warmup, start, end

    def value(self, batch):
        turn = self.warmup * self.batches - 1.0
        last = max(self.batches - 1.0, turn + 1e-9)
        rising = _cosine_between(self.start, self.peak, batch / turn if turn > 0 else tf.ones_like(batch))
        falling = _cosine_between(self.peak, self.end, (batch - turn) / (last - turn))
        return tf.where(batch <= turn, rising, falling)


class Cosine(_PerBatch):
    """Linear warm-up from 0 over `warmup` batches, then half a cosine down to `end`.

    With an infinite number of batches the rate stays at its peak.
    """

    def __init__(self, peak, batches, warmup=0, end=0.0, updates_per_batch=1):
        super().__init__(updates_per_batch)
        self.peak, self.batches, self.warmup, self.end = peak, batches, warmup, end

    def value(self, batch):
        rising = self.peak * (batch + 1.0) / max(self.warmup, 1)
        if math.isinf(self.batches):
            falling = tf.constant(self.peak, tf.float64)
        else:
            falling = _cosine_between(self.peak, self.end, (batch - self.warmup) / max(self.batches - self.warmup, 1))
        return tf.where(batch < self.warmup, rising, falling)


class Linear(_PerBatch):
    """Constant for a fraction `start` of training, then on a straight line down to `end`."""

    def __init__(self, peak, batches, start=0.5, end=0.0, updates_per_batch=1):
        super().__init__(updates_per_batch)
        self.peak, self.batches, self.start, self.end = peak, batches, start, end

    def value(self, batch):
        turn = self.start * self.batches
        progress = tf.clip_by_value((batch - turn) / max(self.batches - turn, 1e-9), 0.0, 1.0)
        return self.peak + (self.end - self.peak) * progress


def _cosine_between(start, end, progress):
    return end + (start - end) / 2.0 * (1.0 + tf.cos(math.pi * tf.clip_by_value(progress, 0.0, 1.0)))


def _with_momentum_cycle(cls, cycle, name):
    """`cls` with its momentum (Adam's beta_1) read from `cycle` at every update."""
    if "beta_1" not in inspect.signature(cls).parameters or not hasattr(cls, "update_step"):
        raise UserError(f"train.cycle_momentum: {name} has no momentum that could be cycled; set it to []")

    class WithMomentumCycle(cls):
        def update_step(self, *args):
            constant = self.beta_1
            object.__setattr__(self, "beta_1", _once(self, "cycle", lambda: cycle(self.iterations)))
            try:
                return super().update_step(*args)
            finally:
                object.__setattr__(self, "beta_1", constant)

    WithMomentumCycle.__name__ = cls.__name__
    return WithMomentumCycle


def _once(optimizer, key, function):
    """`function()`, scalars that all variables share: within `InOneKernel.masked_by` computed for the first of them."""
    shared = getattr(optimizer, "shared", None)
    if shared is None:
        return function()
    # Keras 2 may compile the update of each variable on a GPU as a graph of its own.
    place = tf.compat.v1.get_default_graph(), key
    if place not in shared:
        shared[place] = function()
    return shared[place]


def _in_one_kernel(cls, rule):
    """`cls`, Adam or AdamW, whose update of a variable is one operation of TensorFlow.

    Keras composes the update of a dozen operations, each of which goes through memory once: with
    one clip in a batch that is a sixth of a step of a model of 30 million weights. The result is
    the same, but for 1 - beta_2 in float32 (1.3e-5 of the second moment).

    With m and v the moments and t the number of updates, the two rules are

        keras     lr * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon)
        pytorch   lr / (1 - beta_1^t) * m / (sqrt(v / (1 - beta_2^t)) + epsilon)

    The second is the first with epsilon * sqrt(1 - beta_2^t), 1/31.6 of it at the first update
    (Kingma and Ba 2015, section 2, has both). PyTorch also counts t for each variable, without
    the updates in which it had no gradient; Keras counts it for all.

    Args:
        cls: `keras.optimizers.Adam` or `AdamW`.
        rule: "keras" or "pytorch".
    """

    class InOneKernel(cls):
        finite = shared = counted = None

        @property
        def masks_itself(self):
            """Whether `masked_by` covers all that an update does to variables that are not scalars."""
            return not self.amsgrad and not self.weight_decay and not self.use_ema

        @contextlib.contextmanager
        def masked_by(self, finite, variables):
            """Within the context updates by gradients of zero leave `variables` as they are, unless `finite`.

            Yields a list of (variable of the optimizer, its value after a finite update of `variables`), which the
            caller assigns.
            """
            advanced = []
            if rule == "pytorch":
                updated = np.zeros(self.counts.shape, np.int64)
                updated[[compat.variable_index(self, v) for v in variables]] = 1
                advanced = [(self.counts, tf.convert_to_tensor(self.counts) + updated)]
                object.__setattr__(self, "counted", advanced[0][1])
            object.__setattr__(self, "finite", finite)
            object.__setattr__(self, "shared", {})
            try:
                yield advanced
            finally:
                for name in ("finite", "shared", "counted"):
                    object.__setattr__(self, name, None)

        def build(self, variables):
            super().build(variables)
            if rule == "pytorch" and not hasattr(self, "counts"):
                self.counts = compat.add_counters(self, len(variables), "updates")

        def update_step(self, gradient, variable, *learning_rate):
            if self.amsgrad or isinstance(gradient, tf.IndexedSlices):
                super().update_step(gradient, variable, *learning_rate)
                return
            cast = functools.partial(tf.cast, dtype=variable.dtype)
            rate, betas, used = _once(self, variable.dtype, lambda: self._scalars(cast, *learning_rate))

            def powers(updates):
                return tf.pow(betas[0], updates), tf.pow(betas[1], updates)

            def of_each_variable():
                powers_1, powers_2 = powers(cast(tf.convert_to_tensor(self.counts if counted is None else counted)))
                epsilons = cast(self.epsilon) * tf.sqrt(1.0 - powers_2)
                return [tf.unstack(values) for values in (powers_1, powers_2, epsilons)]

            if rule == "pytorch":
                place, counted = compat.variable_index(self, variable), self.counted
                if counted is None:
                    self.counts.assign_add(tf.one_hot(place, self.counts.shape[0], dtype=tf.int64))
                power_1, power_2, epsilon = (
                    values[place] for values in _once(self, ("powers", variable.dtype), of_each_variable)
                )
            else:
                power_1, power_2 = _once(self, ("powers", variable.dtype), lambda: powers(cast(self.iterations + 1)))
                epsilon = cast(self.epsilon)
            momentum, velocity = compat.adam_moments(self, variable)
            tf.raw_ops.ResourceApplyAdam(
                var=compat.backing_variable(variable).handle,
                m=compat.backing_variable(momentum).handle,
                v=compat.backing_variable(velocity).handle,
                beta1_power=power_1,
                beta2_power=power_2,
                lr=rate,
                beta1=used[0],
                beta2=used[1],
                epsilon=epsilon,
                grad=cast(gradient),
            )

        def _scalars(self, cast, *learning_rate):
            """(rate, (beta_1, beta_2), the same two as the update takes them)."""
            rate = cast(learning_rate[0] if learning_rate else self.learning_rate)
            betas = used = cast(self.beta_1), cast(self.beta_2)
            if self.finite is not None:  # m += (gradient - m) * (1 - beta_1), and so on: all of it is zero then
                one = tf.ones_like(rate)
                rate, *used = (tf.where(self.finite, x, y) for x, y in ((rate, 0.0 * one), *((b, one) for b in betas)))
            return rate, betas, used

    InOneKernel.__name__ = cls.__name__
    return InOneKernel


class WeightAverage:
    """Exponential moving average of a model's trainable weights.

    To be made in the scope of the strategy that trains the model.

    Args:
        model: a built model.
        decay: weight of the old average in an update.
        every: batches between updates: the average is updated after batches 0, `every`, 2 * `every`, ...
        start: number of the batch, from 0, with which averaging begins; until then the average
            is a plain copy of the weights.
    """

    def __init__(self, model, decay, every=1, start=0):
        self.decay, self.every, self.start = decay, every, start
        self.updates_per_batch = model.updates_per_batch
        self.trained = [compat.backing_variable(v) for v in model.trainable_variables]
        self.variables = [tf.Variable(v, trainable=False, name=f"average_{i}") for i, v in enumerate(self.trained)]

    def update(self, strategy, iterations, finite=True):
        """Takes the weights in, if an update is due after `iterations` optimizer updates.

        To be called in a cross-replica context, or in `maybe_merge_call`.

        Args:
            strategy: a `tf.distribute.Strategy`.
            iterations: optimizer updates so far, int64.
            finite: False leaves the average as it is.
        """
        batch = iterations // self.updates_per_batch - 1
        due = tf.equal(iterations % self.updates_per_batch, 0) & tf.equal(batch % self.every, 0)
        keep = tf.where(batch < self.start, 0.0, self.decay)

        if finite is not True:
            finite = strategy.experimental_local_results(finite)[0]
            keep = tf.where(finite, keep, 1.0)

        def take_in():
            for average, weight in zip(self.variables, self.trained):
                strategy.extended.update(
                    average,
                    lambda a, w: a.assign(tf.cast(keep, a.dtype) * a + tf.cast(1.0 - keep, a.dtype) * w),
                    args=(weight,),
                    group=False,
                )
            return tf.constant(True)

        if self.every * self.updates_per_batch == 1:
            take_in()
        else:
            tf.cond(due, take_in, lambda: tf.constant(False))

    @contextlib.contextmanager
    def in_place(self):
        """Within the context the model has the averaged weights; after it, its own again."""
        own = [tf.identity(v) for v in self.trained]
        _assign_all(self.trained, self.variables)
        try:
            yield
        finally:
            _assign_all(self.trained, own)


def _assign_all(variables, values):
    for variable, value in zip(variables, values):
        variable.assign(tf.convert_to_tensor(value))
