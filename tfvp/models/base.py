"""The contract that every video prediction model keeps, and what it gets in return.

An author writes `loss_terms`, `observe` and `imagine`; `VideoModel` adds training steps,
gradient handling under any number of replicas, rollouts of any length and serialisation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator

import tensorflow as tf
from tensorflow import keras

from tfvp import compat
from tfvp.layers import noise
from tfvp.models import input_checks
from tfvp.models.updates import Untracked, accumulated_gradients, apply_if_finite


class VideoModel(keras.Model):
    """A model that observes frames and imagines those that follow.

    Three methods make a model; AutoGraph does not read them, so where tensors decide, take `tf.where` or `tf.cond`:

    * `loss_terms(batch, training)` -> {"loss": [B], ...}: float32, per example. The sum or mean over pixels and
      time is the model's own and is stated in its docstring.
    * `observe(context, state=None, seed=None)` -> state: reads frames [B, T, H, W, C] in [0, 1]. The state is a
      nested dict of tensors [B, ...] with everything needed from past frames; given one, observation continues.
    * `imagine(state, horizon, seed=None)` -> (video [B, horizon, H, W, C], state): the next `horizon` frames (an
      integer or a scalar int32 tensor), and the state after them, from which another call continues.

    Options are the constructor's keyword arguments: plain JSON types, annotated, with defaults.

    Attributes:
        stochastic: whether futures differ from seed to seed.
        min_context: the fewest frames that `observe` needs.
        context_multiple: contexts must be a multiple of this many frames.
        context_multiple_reason: why, in the words of the options ("model.factor**(model.levels-1)").
        fewest_clips: of how many clips at once predictions are made; above 1 each depends on the other clips.
        fewest_clips_reason: when that is so and what to do about it, in the words of the options.
        fewest_training_clips: the fewest clips of a micro-batch, those of all devices together.
        size_multiple: heights and widths must be a multiple of this many pixels.
        needs: what else of a data set the model reads. "labels": frames come as RGB with the label map as a
            fourth channel (see `tfvp.layers.label_maps`), in training and in prediction, and `image_shape` has four
            channels; "flow", "flow3": batches have the reference flow [B, T, H, W, 2] to the frame 1 or 3 before.
        loss_names: terms of `loss_terms`, of a model whose constructor makes all variables; () if calls make some.
        predicts_labels: whether label maps in its frames are predictions worth scoring.
        renders_labels: whether `tfvp.prediction.render_labels` can use it (its `window` and `render`).
        use_obs: whether each level of a hierarchical model observes contexts, bottom first; may be set.
        discriminator_count: networks with an optimizer of their own, `discriminator_optimizers` of `compile`.
        updates_per_batch: optimizer updates that one `train_step` makes.
        own_train_function: whether a step is several graph calls, made by its own `make_train_function`.
        steps_per_epoch: batches in an epoch, set before training, for schedules that count epochs.
        paper: the publication that the model reimplements.
        xla_rollouts: whether XLA compiles observation and imagination; set it before the first rollout.
        can_recompute: whether the model's blocks are those of `tfvp.layers.recompute`.
        recompute: whether training steps compute the activations of these blocks again; set it before training.
        small_variants: {label: options} that make small models, for tests and first tries.
        small_image_shape: (height, width, channels) that they take.

    Args:
        image_shape: (height, width, channels) of the frames.
    """

    stochastic = False
    min_context = 1
    context_multiple = 1
    context_multiple_reason = ""
    fewest_clips = fewest_training_clips = 1
    fewest_clips_reason = ""
    size_multiple = 1
    needs = ()
    loss_names = ()
    predicts_labels = True
    renders_labels = False
    use_obs = ()
    discriminator_count = 0
    updates_per_batch = 1
    own_train_function = False
    steps_per_epoch = 1
    xla_rollouts = False
    can_recompute = False
    recompute = False
    paper = ""
    small_variants = {}
    small_image_shape = (16, 16, 1)

    def __new__(cls, *args, **kwargs):
        instance = super().__new__(cls, *args, **kwargs)
        bound = inspect.signature(cls.__init__).bind(instance, *args, **kwargs)
        bound.apply_defaults()
        arguments = dict(list(bound.arguments.items())[1:])
        object.__setattr__(instance, "_arguments", Untracked(arguments))
        return instance

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.image_shape = tuple(int(n) for n in image_shape)
        self._settings = Untracked({"clip_norm": 0.0, "accumulate": 1, "average": None, "seed": 0})
        self._trackers = Untracked({})
        self._graphs = Untracked({})

    def get_config(self) -> dict:
        """The constructor's arguments, as plain JSON types."""
        arguments = dict(self._arguments.values)
        return {key: list(value) if isinstance(value, tuple) else value for key, value in arguments.items()}

    @classmethod
    def from_config(cls, config: dict) -> VideoModel:
        return cls(**config)

    @classmethod
    def resolve_options(cls, options: dict) -> dict:
        """All options, with values that depend on what is installed replaced by those that are taken."""
        return options

    # What an author writes.

    def loss_terms(self, batch: dict, training: bool) -> dict:
        raise NotImplementedError(f"{type(self).__name__} does not define loss_terms")

    def observe(self, context: tf.Tensor, state: dict | None = None, seed: tf.Tensor | None = None) -> dict:
        raise NotImplementedError(f"{type(self).__name__} does not define observe")

    def imagine(self, state: dict, horizon: int | tf.Tensor, seed: tf.Tensor | None = None) -> tuple[tf.Tensor, dict]:
        raise NotImplementedError(f"{type(self).__name__} does not define imagine")

    # What the base gives.

    def next_frames(self, video: tf.Tensor, training: bool = False) -> tf.Tensor:
        """One-step predictions from true frames only (teacher forcing).

        Args:
            video: [B, T, H, W, C] float32 in [0, 1].
            training: whether layers behave as in training.

        Returns:
            [B, T - fewest_context, H, W, C]; entry i is predicted from the frames before it, up
            to the last multiple of `context_multiple`.
        """
        multiple, frames = self.context_multiple, video.shape[1]
        first = self.fewest_context
        blocks = -(-(frames - first) // multiple)
        state = self.observe(video[:, :first])
        predictions = tf.TensorArray(tf.float32, blocks).write(0, self.imagine(state, multiple)[0])

        def body(block, state, predictions):
            start = first + (block - 1) * multiple
            state = self.observe(video[:, start : start + multiple], state)
            return block + 1, state, predictions.write(block, self.imagine(state, multiple)[0])

        _, _, predictions = tf.while_loop(
            lambda block, *_: block < blocks, body, (1, state, predictions), maximum_iterations=blocks - 1
        )
        predictions = tf.concat(tf.unstack(predictions.stack(), num=blocks), axis=1)
        return predictions[:, : frames - first]

    def reconstruct(self, video: tf.Tensor, seed: tf.Tensor | None = None) -> tf.Tensor | None:
        """What the posterior makes of frames that it sees: as `video`, or None for models without one."""
        return None

    @property
    def prediction_options(self) -> dict:
        """{option: value} of the options that change predictions and no weights; written beside predictions."""
        return {}

    def unreached_variables(self) -> list:
        """Trainable variables that the published model has although no gradient reaches them."""
        return []

    @property
    def has_posterior(self) -> bool:
        """Whether `reconstruct` is defined."""
        return type(self).reconstruct is not VideoModel.reconstruct

    @property
    def fewest_context(self) -> int:
        """The shortest context that `observe` takes, in frames."""
        return -(-self.min_context // self.context_multiple) * self.context_multiple

    def check_context(self, frames: int, name: str = "open_loop_ctx") -> None:
        """Refuses a context length that the model cannot observe.

        Raises:
            UserError: too few frames, or not a multiple of `context_multiple`.
        """
        input_checks.check_context(self, frames, name)

    def check_image_size(self) -> None:
        """Refuses frames whose sides the model cannot divide.

        Raises:
            UserError: a side is not a multiple of `size_multiple`.
        """
        input_checks.check_image_size(self)

    def build_on(self, spec: dict[str, tf.TensorSpec], trace: bool = True) -> None:
        """Creates all variables, by tracing the loss on inputs of the given kind.

        Call it inside the scope of the strategy that trains the model.

        Args:
            spec: {batch key: tf.TensorSpec with a batch dimension}.
            trace: whether to do so even if the constructor has made them all (`loss_names`): this finds settings that
                do not go together, and takes seconds that a trained model need not.

        Raises:
            UserError: the image size does not fit the model.
        """
        self.check_image_size()
        if self.loss_names and not trace:
            self._finish_build(self.loss_names)
            return
        loss = tf.function(lambda batch: self.loss_terms(batch, training=True), autograph=False)
        self._finish_build(loss.get_concrete_function(spec).structured_outputs)

    def _finish_build(self, term_names):
        """To be called once all variables exist."""
        self.built = True
        self._trackers.values = {name: keras.metrics.Mean(name=name) for name in term_names}
        self._trackers.values["grad_norm"] = keras.metrics.Mean(name="grad_norm")
        self._trackers.values["skipped"] = keras.metrics.Sum(name="skipped")

    def compile(self, optimizer, clip_norm=0.0, accumulate=1, average=None, seed=0, **kwargs):
        """Sets up training.

        Args:
            optimizer: a `keras.optimizers.Optimizer`; it is built here.
            clip_norm: largest global norm of an update's gradient; 0 turns clipping off.
            accumulate: micro-batches that each batch is cut into.
            average: a `tfvp.training.optimizers.WeightAverage`, or None.
            seed: of the noise and the masks that training steps draw.
            **kwargs: `jit_compile`, `steps_per_execution` and the like, as Keras takes them.
        """
        super().compile(optimizer=optimizer, **kwargs)
        self.distribute_reduction_method = "first"  # metrics are over all replicas already
        self._settings.values = {"clip_norm": clip_norm, "accumulate": accumulate, "average": average, "seed": seed}
        compat.build_optimizer(self.optimizer, self.main_variables)

    @property
    def term_names(self) -> list[str]:
        """Names of the loss terms, known once built."""
        return [name for name in self._trackers.values if name not in ("grad_norm", "skipped")]

    @property
    def metrics(self):
        return list(self._trackers.values.values())

    @property
    def step(self) -> tf.Tensor:
        """Batches trained on so far, int64; 0 before `compile`."""
        if getattr(self, "optimizer", None) is None:
            return tf.zeros([], tf.int64)
        return self.batches_after(tf.cast(tf.convert_to_tensor(self.optimizer.iterations), tf.int64))

    def example_seeds(self, batch: dict, training: bool) -> tf.Tensor:
        """Seeds [B, 2] int64 for sampling, one per example, new at every training step.

        They depend on the example's "id", the step and the seed given to `compile` alone, so
        neither the batch size nor the number of replicas changes what is drawn. Outside of
        training they depend on the "id" alone, so that runs are compared on the same noise.
        """
        ids = batch["id"] if "id" in batch else tf.range(tf.shape(batch["video"])[0])
        if not training:
            return noise.example_seeds(ids)
        return noise.example_seeds(ids, self.step, self._settings.values["seed"])

    @property
    def main_variables(self) -> list:
        """The variables of the optimizer that `compile` is given."""
        return self.trainable_variables

    @property
    def optimizers(self) -> list:
        """All optimizers, for backups; the first is the one that `compile` is given."""
        return [self.optimizer]

    @property
    def pretrained(self) -> dict[str, str]:
        """{attribute: run} of sub-models that are taken from runs of their own when training begins."""
        return {}

    def batches_after(self, updates: int | tf.Tensor) -> int | tf.Tensor:
        """How many batches make that many updates of the first optimizer."""
        return updates // self.updates_per_batch

    @compat.as_written
    def train_step(self, batch: dict) -> dict:
        loss_fn = functools.partial(self.loss_terms, training=True)
        return self._track(self.minimize(loss_fn, self.trainable_variables, self.optimizer, batch))

    @compat.as_written
    def test_step(self, batch: dict) -> dict:
        return self._track(self.loss_terms(batch, training=False), batch.get("mask"))

    def minimize(self, loss_fn: Callable, variables: list, optimizer, batch: dict) -> dict:
        """One update of `variables` against the mean of `loss_fn` over all examples.

        The gradient is the mean over micro-batches and replicas; it is clipped by its global
        norm after that mean, so the update is the same for any number of replicas. An update
        whose gradient is not finite is skipped and counted, and leaves weights, optimizer,
        average and batch-norm statistics as they were.

        Args:
            loss_fn: batch -> {"loss": [b], ...} per example.
            variables: the variables to update; those that the loss does not reach are left out.
            optimizer: a built optimizer.
            batch: dict of tensors [B, ...]; B must be a multiple of `accumulate`.

        Returns:
            The terms of `loss_fn`, [B] each.
        """
        settings = self._settings.values
        fixed = {id(v) for part in self.pretrained for v in getattr(self, part).variables}
        statistics = [(v, tf.identity(v)) for v in self.non_trainable_variables if id(v) not in fixed]
        terms, gradients = accumulated_gradients(loss_fn, variables, batch, settings["accumulate"], self.recompute)
        pairs = [(g, v) for g, v in zip(gradients, variables) if g is not None]
        context = tf.distribute.get_replica_context()
        gradients = context.all_reduce(tf.distribute.ReduceOp.MEAN, [g for g, _ in pairs])
        norm = tf.linalg.global_norm(gradients)
        finite = tf.math.is_finite(norm)
        scale = settings["clip_norm"] / tf.maximum(norm, settings["clip_norm"]) if settings["clip_norm"] else 1.0
        scale = tf.where(finite, scale, 0.0)
        gradients = [tf.math.multiply_no_nan(gradient, tf.cast(scale, gradient.dtype)) for gradient in gradients]
        for variable, before in statistics:
            variable.assign(tf.where(finite, variable, before))
        apply_if_finite(finite, gradients, optimizer, [v for _, v in pairs], settings["average"])
        share = 1.0 / context.num_replicas_in_sync  # running means may go on with another number of devices
        self._trackers.values["grad_norm"].update_state(
            tf.where(finite, norm, 0.0), tf.cast(finite, tf.float32) * share
        )
        self._trackers.values["skipped"].update_state(tf.cast(~finite, tf.float32) * share)
        return terms

    def rollout(
        self, context: tf.Tensor, horizon: int, samples: int = 1, chunk: int = 50, ids=None, first_sample: int = 0
    ) -> Iterator[tf.Tensor]:
        """Observes a context and yields the frames that follow, a chunk at a time.

        Memory does not grow with the horizon. Sample s of example i depends on ids[i] and s
        alone, not on the batch, the chunk or the number of samples.

        Args:
            context: [B, T, H, W, C] float32 in [0, 1].
            horizon: frames to predict.
            samples: futures per example; only stochastic models take more than 1.
            chunk: frames per graph call.
            ids: [B] int64, seeds of the sampling. Defaults to 0 ... B-1.
            first_sample: number of the first of the samples, to draw them in groups.

        Yields:
            Tensors [B, samples, n, H, W, C] float32, unclipped, with n <= chunk, in order.
        """
        self.check_context(context.shape[1])
        batch = context.shape[0]
        input_checks.check_clips(self, batch, f"a batch of {batch}")
        ids = tf.range(batch) if ids is None else ids
        chunk = min(chunk, horizon)
        seeds = noise.sample_seeds(ids, samples, first_sample)
        state = self.graph("observe", self.observe_samples)(context, seeds)
        imagine = self.graph("imagine", self.imagine)
        for start in range(0, horizon, chunk):
            video, state = imagine(state, chunk)
            video = tf.reshape(video, [batch, samples, chunk, *self.image_shape])
            yield video[:, :, : horizon - start]

    def observe_samples(self, context: tf.Tensor, seeds: tf.Tensor) -> dict:
        """The state of S futures of each context; a model may share work between them.

        Args:
            context: [B, T, H, W, C].
            seeds: [B, S, 2].

        Returns:
            A state of B * S examples, those of one context together.
        """
        if seeds.shape[1] != 1:
            context = tf.repeat(context, tf.shape(seeds)[1], axis=0)
        return self.observe(context, seed=tf.reshape(seeds, [-1, 2]))

    def graph(self, name, function):
        """`function` as a tf.function, made once and kept under `name` as long as the model lives."""
        if name not in self._graphs.values:
            # Without the partial, TensorFlow takes many models' first traces for retraces of one.
            options = {"jit_compile": self.xla_rollouts, "autograph": False}
            self._graphs.values[name] = tf.function(functools.partial(function), **options)
        return self._graphs.values[name]

    def _track(self, terms, mask=None):
        weight = 1.0 if mask is None else tf.cast(tf.reduce_max(mask, axis=1), tf.float32)
        finite = tf.math.is_finite(terms["loss"])
        for name, values in terms.items():
            self._trackers.values[name].update_state(
                tf.where(finite, values, tf.zeros_like(values)), sample_weight=weight * tf.cast(finite, tf.float32)
            )
        return {metric.name: metric.result() for metric in self.metrics}
