"""IAM4VP: the implicit stacked autoregressive model for video prediction.

One pass predicts one future frame. It gets all observed frames, which no prediction ever
replaces, a queue of the predictions so far, filled up with learned tokens, and the number of
the frame that is asked for. With observed frames x_1 ... x_T, future frames x_{T+1} ...
x_{T+T'}, encoders E and Q, tokens m_i, a time embedding e, predictor P, decoder D, and sg for a
stopped gradient, for t = 0 ... T' - 1:

    q_i = Q(sg(y_i)) where i < t, m_i elsewhere         the queue, i = 0 ... T' - 1
    y_t = D(P([E(x_1); ...; E(x_T)], [q_0; ...; q_{T'-1}], e(100 t)), skips of E)
    L_t = 1 / (H W C) || y_t - x_{T+1+t} ||^2
    e(s) = MLP([sin(s f); cos(s f)]), f_k = 10000^(-k / 31), k = 0 ... 31

`updates: per_frame` descends L_0, L_1, ... one after the other, as released; per_clip descends
their mean. The earlier regimes descend L_t for a random t, with true frames in the queue, each
hidden by m_i with probability 1/2. (Released code of arXiv 2303.07849: model.py, and exp.py for
training. The paper's text could not be had, so its numbering of these equations is not given.)
"""

import math
from typing import Literal

import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp.errors import UserError
from tfvp.layers import iam4vp, initializers, noise, recompute, simvp, unroll
from tfvp.layers.convolution import Conv2D
from tfvp.models.base import VideoModel
from tfvp.registry import register

TIME_SIZE, TIME_SCALE = 64, 100.0
KEEP = 0.5  # of a queued frame, in the regimes that queue true frames
BLUR_SIDE, NOISE_STDDEV = 7, 0.1


@register("model", "iam4vp")
class IAM4VP(VideoModel):
    """IAM4VP (Seo et al. 2023, arXiv 2303.07849), general in context, horizon, channels and size.

    The loss of a clip is the mean squared error per pixel, averaged over its `horizon` predicted
    frames (the mean of L_t in the equations of this module). As released, each frame's error
    makes an update of its own, and the queue holds the model's own predictions, unclipped and
    without gradients.

    Longer rollouts go in blocks of `horizon` frames; the last `context` frames, observed or
    predicted, are the next block's context.

    Args:
        image_shape: (height, width, channels); sides divide by 2 ** (depth // 2).
        context: observed frames, T.
        horizon: frames of a block, T'; also the length of the queue.
        filters: channels per frame.
        depth: units of the encoders and of the decoder.
        blocks: blocks of the predictor that are executed, the first included.
        hidden_ratio: width of the predictor's pointwise layers relative to its channels.
        share_queue_encoder: encode predictions with the encoder of observed frames, as the
            first public code did.
        regime: own_predictions, as released; masked_teacher and noisy_teacher, the earlier
            ones: a random frame of each clip is asked for, given true frames before it, of which
            half are hidden; noisy_teacher blurs them and adds noise.
        updates: per_frame, as released, or per_clip: one update for the mean of all frames.
        legacy_dead_block: allocate the block that the released code never runs.
    """

    can_recompute = True
    loss_names = ("loss",)
    paper = "Seo et al. 2023, arXiv 2303.07849"
    small_image_shape = (16, 16, 1)
    _tiny = {"context": 3, "horizon": 3, "filters": 4, "depth": 2, "blocks": 2}
    small_variants = {
        "": _tiny,
        "uneven": {**_tiny, "context": 4, "horizon": 2, "updates": "per_clip", "share_queue_encoder": True},
        "noisy": {**_tiny, "regime": "noisy_teacher"},
    }

    def __init__(
        self,
        image_shape,
        context: int = 10,
        horizon: int = 10,
        filters: int = 64,
        depth: int = 4,
        blocks: int = 8,
        hidden_ratio: int = 4,
        share_queue_encoder: bool = False,
        regime: Literal["own_predictions", "masked_teacher", "noisy_teacher"] = "own_predictions",
        updates: Literal["per_frame", "per_clip"] = "per_frame",
        legacy_dead_block: bool = False,
    ):
        super().__init__(image_shape)
        if min(context, horizon, filters, depth, blocks) < 1:
            raise UserError("model.context, horizon, filters, depth and blocks must be at least 1")
        self.context = self.min_context = context
        self.horizon = horizon
        self.filters = filters
        self.size_multiple = 2 ** (depth // 2)
        self.regime = regime
        self.per_frame = updates == "per_frame" and regime == "own_predictions"
        self.updates_per_batch = horizon if self.per_frame else 1
        self.check_image_size()
        height, width, channels = self.image_shape
        size, hidden = context * filters, hidden_ratio * context * filters
        grid = (height // self.size_multiple, width // self.size_multiple)
        self.encoder = iam4vp.SpatialEncoder(filters, depth)
        self.queue_encoder = self.encoder if share_queue_encoder else iam4vp.SpatialEncoder(filters, depth)
        self.mask_token = self.add_weight(name="mask_token", shape=(horizon, *grid, filters), initializer="zeros")
        self.time_denses = [
            keras.layers.Dense(4 * TIME_SIZE, **initializers.torch_default(TIME_SIZE)),
            keras.layers.Dense(TIME_SIZE, **initializers.torch_default(4 * TIME_SIZE)),
        ]
        self.bottle = iam4vp.BottleBlock(size, horizon * filters, hidden)
        self.blocks = [iam4vp.QueryBlock(size, hidden) for _ in range(blocks - 1)]
        self.dead_block = iam4vp.QueryBlock(size, hidden) if legacy_dead_block else None
        self.decoder = iam4vp.SpatialDecoder(filters, depth)
        self.merge = Conv2D(filters, 1, **initializers.torch_default(size))
        self.refine = iam4vp.Refinement()
        self.readout = Conv2D(channels, 1, dtype="float32", **initializers.torch_default(filters))
        for encoder in {id(e): e for e in (self.encoder, self.queue_encoder)}.values():
            encoder.build((None, height, width, channels))
        self.time_denses[0].build((None, TIME_SIZE))
        self.time_denses[1].build((None, 4 * TIME_SIZE))
        for block in (self.bottle, *self.blocks, *filter(None, [self.dead_block])):
            block.build(None)
        self.decoder.build(None)
        self.merge.build((None, height, width, size))
        self.refine.build((None, height, width, filters))
        self.readout.build((None, height, width, filters))

    def unreached_variables(self):
        return [] if self.dead_block is None else self.dead_block.trainable_variables

    # One pass.

    def encode(self, frames):
        """What observed frames [B, context, H, W, C] contribute to every pass: a dict of tensors."""
        latents, skips = self.encoder(tf.reshape(frames, [-1, *self.image_shape]))
        mixed, residual = self.bottle.terms(simvp.folded(self._slots(latents, self.context)), 0)
        skip_terms = self._slots(self.decoder.skip_term(skips), self.context)
        return {"mixed": mixed, "residual": residual, "skip_terms": skip_terms}

    def encode_queued(self, frames):
        """Latents [B, n, h, w, filters] of predicted frames [B, n, H, W, C]."""
        return self._slots(self.queue_encoder(tf.reshape(frames, [-1, *self.image_shape]))[0], frames.shape[1])

    def queue_of(self, latents, slots):
        """The queue: `latents` [B, horizon, h, w, filters] where `slots` [B, horizon] is true, else the tokens."""
        return tf.where(slots[:, :, None, None, None], latents, tf.cast(self.mask_token, latents.dtype)[None])

    def time_embedding(self, numbers):
        """Embeddings [B, 64] of the numbers [B] of the frames that are asked for."""
        half = TIME_SIZE // 2
        frequencies = np.exp(-np.arange(half, dtype=np.float32) * np.float32(math.log(10000.0) / (half - 1)))
        angles = TIME_SCALE * tf.cast(numbers, tf.float32)[:, None] * frequencies
        x = tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)
        return self.time_denses[1](simvp.exact_gelu(self.time_denses[0](x)))

    def render(self, observed, queue, numbers):
        """Predicts one frame.

        Args:
            observed: from `encode`.
            queue: from `queue_of`.
            numbers: [B] int32, which frame is asked for, 0 ... horizon - 1.

        Returns:
            [B, H, W, C] float32, unclipped.
        """
        time = self.time_embedding(numbers)
        x = recompute.block(self.bottle, (observed["mixed"], observed["residual"]), simvp.folded(queue), time)
        for block in self.blocks:
            x = recompute.block(block, x, time)
        latents = simvp.unfolded(x, self.context)
        skip_terms = observed["skip_terms"]
        x = self.decoder(_merged(latents), _merged(skip_terms))
        x = self.merge(simvp.folded(self._slots(x, self.context)))
        return self.readout(recompute.block(self.refine, x))

    def _slots(self, x, slots):
        return tf.reshape(x, [-1, slots, *x.shape[1:]])

    # Training.

    @property
    def own_train_function(self):
        return self.per_frame

    def compile(self, optimizer, **kwargs):
        """As `VideoModel.compile`.

        Raises:
            UserError: `steps_per_execution`, which one graph call per future frame cannot follow.
        """
        if self.per_frame and kwargs.get("steps_per_execution", 1) != 1:
            raise UserError(
                "iam4vp with model.updates=per_frame calls its graph once per frame and does not take"
                " train.steps_per_execution; leave it at 1, or set model.updates=per_clip"
            )
        self.compile_frame_step = bool(kwargs.get("jit_compile"))
        super().compile(optimizer, **kwargs)

    def make_train_function(self, force=False):
        """One call of a small graph per future frame.

        A step that holds all of them would be traced `horizon` times over, which takes minutes.
        """
        if not self.per_frame:
            return super().make_train_function(force)
        if self.train_function is None or force:
            strategy = self.distribute_strategy
            step = self.frame_step
            if self.compile_frame_step:
                step = tf.function(step, jit_compile=True, autograph=False)

            def run(batch, queued, number):
                return strategy.run(step, args=(batch, queued, number))

            update = tf.function(run, jit_compile=False, autograph=False)

            def train_function(iterator):
                batch, queued = next(iterator), None
                for number in range(self.horizon):
                    logs, queued = update(batch, queued, tf.constant(number))
                return {name: strategy.experimental_local_results(value)[0] for name, value in logs.items()}

            self.train_function = train_function
        return self.train_function

    def frame_step(self, batch, queued, number):
        """One update, for the error of one future frame.

        Args:
            batch: the batch of this replica.
            queued: predictions so far [B, horizon, H, W, C], zeros behind them; None for the first.
            number: of the frame, an integer scalar.

        Returns:
            (logs, the queue with this frame's prediction).
        """
        inputs = batch if queued is None else {**batch, "queued": queued}
        terms = self.minimize(
            lambda part: self.frame_terms(part, number), self.trainable_variables, self.optimizer, inputs
        )
        if queued is None:
            queued = tf.zeros([tf.shape(terms["loss"])[0], self.horizon, *self.image_shape])
        here = tf.reshape(tf.range(self.horizon) == number, [1, -1, 1, 1, 1])
        queued = tf.where(here, tf.stop_gradient(terms["prediction"])[:, None], queued)
        return self._track({"loss": terms["loss"]}), queued

    def frame_terms(self, batch, number):
        """{"loss" [B], "prediction" [B, H, W, C]} of frame `number`, given batch["queued"], those before it."""
        video = self._clip(batch["video"])
        size = tf.shape(video)[0]
        if "queued" in batch:
            latents = self.encode_queued(batch["queued"])
        else:  # nothing is queued, so that the queue's encoder gets no gradient, not even one of zeros
            latents = tf.zeros([size, self.horizon, *self.mask_token.shape[1:]], self.compute_dtype)
        slots = tf.repeat(tf.range(self.horizon)[None] < number, size, axis=0)
        numbers = tf.zeros([size], tf.int32) + number
        prediction = self.render(self.encode(video[:, : self.context]), self.queue_of(latents, slots), numbers)
        return {"loss": _error(prediction, tf.gather(video, self.context + number, axis=1)), "prediction": prediction}

    def loss_terms(self, batch, training):
        video = self._clip(batch["video"])
        if training and self.regime != "own_predictions":
            return {"loss": self._teacher_loss(video, self.example_seeds(batch, training))}
        context = video[:, : self.context]
        predictions, _ = self._run(self.observe(context), self.horizon)
        if training:
            predictions = self._predictions_given(self.encode(context), tf.stop_gradient(predictions))
        return {"loss": tf.reduce_mean(_error(predictions, video[:, self.context :]), axis=-1)}

    def _predictions_given(self, observed, queued):
        """The predictions of a whole block in one pass, each given those of `queued` before it.

        No gradient flows through what is queued, so that it can be had beforehand; what is
        differentiated is then one batch of passes instead of a loop.

        Args:
            observed: from `encode`.
            queued: [B, horizon, H, W, C].

        Returns:
            [B, horizon, H, W, C] float32.
        """
        size, slot = tf.shape(queued)[0], tf.range(self.horizon)
        latents = tf.zeros([size, 1, *self.mask_token.shape[1:]], self.compute_dtype)  # the last is queued for none
        if self.horizon > 1:
            latents = tf.concat([self.encode_queued(queued[:, :-1]), latents], axis=1)
        observed, latents = tf.nest.map_structure(lambda x: tf.repeat(x, self.horizon, axis=0), (observed, latents))
        numbers = tf.tile(slot, [size])
        queue = self.queue_of(latents, slot[None] < numbers[:, None])
        return self._slots(self.render(observed, queue, numbers), self.horizon)

    def _teacher_loss(self, video, seeds):
        """The loss of a random frame of each clip, given true frames before it."""
        draws = noise.uniform(seeds, (self.horizon + 2,))
        numbers = tf.cast(draws[:, 0] * self.horizon, tf.int32)
        slots = (tf.range(self.horizon)[None] < numbers[:, None]) & (draws[:, 2:] < KEEP)
        future = video[:, self.context :]
        if self.regime == "noisy_teacher":
            blurred = _blurred(future, 0.1 + 1.9 * draws[:, 1])
            added = NOISE_STDDEV * noise.normal(seeds, future.shape[1:], stream=1)
            queued = tf.clip_by_value(blurred + added, 0.0, 1.0)
        else:
            queued = future
        queue = self.queue_of(self.encode_queued(queued), slots)
        prediction = self.render(self.encode(video[:, : self.context]), queue, numbers)
        return _error(prediction, tf.gather(future, numbers, axis=1, batch_dims=1))

    def _clip(self, video):
        frames = self.context + self.horizon
        if video.shape[1] < frames:
            raise UserError(
                f"iam4vp is trained on clips of model.context + model.horizon = {frames} frames, not {video.shape[1]};"
                " set train.seq_len"
            )
        return tf.cast(video[:, :frames], tf.float32)

    # Prediction.

    def observe(self, context, state=None, seed=None):
        context = tf.cast(context, tf.float32)
        if state is not None:
            context = tf.concat([state["frames"], context], axis=1)
        frames = context[:, -self.context :]
        frames.set_shape([None, self.context, *self.image_shape])
        size = tf.shape(frames)[0]
        empty = tf.zeros([size, self.horizon, *self.mask_token.shape[1:]], self.compute_dtype)
        return {**self.encode(frames), "queue": empty, "number": tf.zeros([size], tf.int32), "frames": frames}

    def imagine(self, state, horizon, seed=None):
        return self._run(state, horizon)

    def _run(self, state, horizon):
        """`imagine`, with gradients to the weights but not through the predictions."""

        def step(state, _):
            # Examples may be at different places in their blocks, so each has its own number.
            full = state["number"] >= self.horizon
            state = tf.cond(tf.reduce_any(full), lambda: self._renewed(state, full), lambda: state)
            number, slot = state["number"][:, None], tf.range(self.horizon)[None]
            prediction = self.render(state, self.queue_of(state["queue"], slot < number), state["number"])
            queued = tf.stop_gradient(prediction)[:, None]
            here = (slot == number)[:, :, None, None, None]
            return prediction, {
                **state,
                "queue": tf.where(here, self.encode_queued(queued), state["queue"]),
                "number": state["number"] + 1,
                "frames": tf.concat([state["frames"][:, 1:], queued], axis=1),
            }

        return unroll.generate(step, state, horizon, like=tf.TensorSpec([None, *self.image_shape], tf.float32))

    def _renewed(self, state, full):
        """The state in which the examples that `full` [B] marks begin a new block with their last frames."""

        def choose(new, old):
            return tf.where(tf.reshape(full, [-1] + [1] * (new.shape.rank - 1)), new, old)

        return tf.nest.map_structure(choose, self.observe(state["frames"]), state)


def _merged(x):
    """[B, T, ...] -> [B * T, ...]."""
    return tf.reshape(x, [-1, *x.shape[2:]])


def _error(prediction, truth):
    """Mean squared error over the pixels of each frame."""
    return tf.reduce_mean(tf.square(prediction - truth), axis=[-3, -2, -1])


def _blurred(video, sigmas):
    """Gaussian blur of [B, T, H, W, C] with a deviation [B] in pixels for each clip; borders are mirrored."""
    offsets = np.arange(BLUR_SIDE, dtype=np.float32) - BLUR_SIDE // 2
    kernels = tf.exp(-0.5 * tf.square(offsets[None] / sigmas[:, None]))
    kernels /= tf.reduce_sum(kernels, axis=1, keepdims=True)
    for axis in (2, 3):
        reach, size = BLUR_SIDE // 2, video.shape[axis]
        padded = tf.pad(video, [[reach, reach] if i == axis else [0, 0] for i in range(5)], "REFLECT")
        shifted = [padded[:, :, i : i + size] if axis == 2 else padded[:, :, :, i : i + size] for i in range(BLUR_SIDE)]
        weights = tf.unstack(kernels, axis=1)
        video = tf.add_n([w[:, None, None, None, None] * s for w, s in zip(weights, shifted)])
    return video
