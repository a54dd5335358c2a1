"""SimVP with the gated spatiotemporal attention (gSTA) translator: all future frames in one pass.

With T observed frames x_1 ... x_T, an encoder E and a decoder D of single frames, whose first
feature map e_t is handed on as a skip, and a translator G with time folded into channels:

    h_t, e_t = E(x_t)
    [d_1; ...; d_T] = G([h_1; ...; h_T])
    y_t = D(d_t, e_t), the prediction of x_{T+t}
    L = 1 / (T H W C) sum_t || y_t - x_{T+t} ||^2

(SimVP, arXiv 2206.05099, which is trained on the mean squared error alone; G here is a stack of
the attention blocks of SimVPv2, arXiv 2211.12509. Arithmetic and settings are those of OpenSTL,
arXiv 2306.11249: openstl/models/simvp_model.py.)
"""

import functools

import numpy as np
import tensorflow as tf

from tfvp.errors import UserError
from tfvp.layers import initializers, noise, recompute, simvp, unroll
from tfvp.layers.convolution import Conv2D
from tfvp.models.base import VideoModel
from tfvp.registry import register


@register("model", "simvp")
class SimVP(VideoModel):
    """SimVP-gSTA (Tan et al. 2022, arXiv 2211.12509; settings of OpenSTL, arXiv 2306.11249).

    The loss is the mean squared error per pixel of the `context` frames after the context (L in
    the equations of this module). Longer rollouts go in blocks of `context` frames, each the
    context of the next one.

    Args:
        image_shape: (height, width, channels); sides divide by 2 ** (depth // 2).
        context: observed frames, and predicted frames of a pass.
        filters: channels per frame.
        depth: units of the encoder and of the decoder.
        hidden: channels of the translator.
        blocks: of the translator.
        ratio: width of the translator's pointwise networks relative to their channels.
        drop_path: stochastic depth (arXiv 1603.09382): the probabilities with which training skips a branch of the
            first and of the last block for an example, linear between them; what is not skipped is divided by its
            own probability. OpenSTL's `drop_path` is the second number; its first one is always .01.
    """

    can_recompute = True
    loss_names = ("loss",)
    paper = "Tan et al. 2022, arXiv 2211.12509"
    small_image_shape = (16, 16, 1)
    _tiny = {"context": 3, "filters": 4, "depth": 2, "hidden": 8, "blocks": 3, "ratio": 2}
    small_variants = {"": {**_tiny, "drop_path": [0.2, 0.1]}}

    def __init__(
        self,
        image_shape,
        context: int = 10,
        filters: int = 64,
        depth: int = 4,
        hidden: int = 512,
        blocks: int = 8,
        ratio: int = 8,
        drop_path: list[float] = (0.0, 0.0),
    ):
        super().__init__(image_shape)
        if len(drop_path) != 2 or not all(0 <= rate < 1 for rate in drop_path):
            raise UserError(
                f"model.drop_path={list(drop_path)} must be two probabilities below 1, of the first and the last block"
            )
        self.keep = 1.0 - np.linspace(*drop_path, blocks, dtype=np.float32)
        if blocks < 2:
            raise UserError(f"model.blocks={blocks} must be at least 2")
        self.context = self.min_context = context
        self.size_multiple = 2 ** (depth // 2)
        self.check_image_size()
        size, strides = context * filters, simvp.strides(depth)
        self.encoder = [simvp.NormedConv(filters, stride) for stride in strides]
        self.decoder = [simvp.NormedConv(filters, upsample=stride == 2) for stride in strides[::-1]]
        widths = [size, *[hidden] * (blocks - 1), size]
        self.translator = [simvp.GatedBlock(a, b, ratio) for a, b in zip(widths[:-1], widths[1:])]
        self.readout = Conv2D(self.image_shape[-1], 1, dtype="float32", **initializers.torch_default(filters))
        channels = self.image_shape[-1]
        for unit in (*self.encoder, *self.decoder):
            unit.build((None, None, None, channels))
            channels = filters
        for block in self.translator:
            block.build(None)
        self.readout.build((None, None, None, filters))

    def forward(self, frames, training=False, factors=None):
        """The `context` frames after [B, context, H, W, C], float32, unclipped.

        Args:
            frames: [B, context, H, W, C] in [0, 1].
            training: whether batch norm takes its statistics from the batch.
            factors: from `branch_factors`. Defaults to 1.
        """
        x = skip = recompute.block(self.encoder[0], tf.reshape(frames, [-1, *self.image_shape]))
        for unit in self.encoder[1:]:
            x = recompute.block(unit, x)
        x = simvp.folded(tf.reshape(x, [-1, self.context, *x.shape[1:]]))
        for i, block in enumerate(self.translator):
            inputs = [x] if factors is None else [x, factors[:, i]]
            x = recompute.block(functools.partial(block, training=training), *inputs)
        x = simvp.unfolded(x, self.context)
        x = tf.reshape(x, [-1, *x.shape[2:]])
        for unit in self.decoder[:-1]:
            x = recompute.block(unit, x)
        x = recompute.block(self.decoder[-1], x + skip)
        return tf.reshape(self.readout(x), [-1, self.context, *self.image_shape])

    def branch_factors(self, seeds):
        """Stochastic depth for examples with the seeds [B, 2]: 0 for a branch that is skipped, [B, blocks, 2]."""
        keep = tf.constant(self.keep)[:, None]
        return tf.where(noise.uniform(seeds, (len(self.keep), 2)) < keep, 1.0 / keep, 0.0)

    def loss_terms(self, batch, training):
        video = tf.cast(batch["video"], tf.float32)
        if video.shape[1] <= self.context:
            raise UserError(
                f"simvp is trained on clips of more than model.context = {self.context} frames; set train.seq_len"
            )
        truth = video[:, self.context : 2 * self.context]
        drops = training and min(self.keep) < 1.0
        factors = self.branch_factors(self.example_seeds(batch, training)) if drops else None
        predicted = self.forward(video[:, : self.context], training, factors)[:, : truth.shape[1]]
        return {"loss": tf.reduce_mean(tf.square(predicted - truth), axis=[1, 2, 3, 4])}

    def observe(self, context, state=None, seed=None):
        context = tf.cast(context, tf.float32)
        if state is not None:
            context = tf.concat([state["frames"], context], axis=1)
        frames = context[:, -self.context :]
        frames.set_shape([None, self.context, *self.image_shape])
        return {
            "frames": frames,
            "planned": tf.zeros_like(frames),
            "left": tf.zeros([tf.shape(frames)[0]], tf.int32),  # frames of `planned` that have not been given out
        }

    def imagine(self, state, horizon, seed=None):
        def step(state, _):
            # Examples may be at different places in their blocks, so each has its own counter.
            due = state["left"] == 0

            def plan():
                return tf.where(due[:, None, None, None, None], self.forward(state["frames"]), state["planned"])

            planned = tf.cond(tf.reduce_any(due), plan, lambda: state["planned"])
            left = tf.where(due, self.context, state["left"])
            frame = tf.gather(planned, self.context - left, axis=1, batch_dims=1)
            return frame, {
                "frames": tf.concat([state["frames"][:, 1:], frame[:, None]], axis=1),
                "planned": planned,
                "left": left - 1,
            }

        return unroll.generate(step, state, horizon, like=tf.TensorSpec([None, *self.image_shape], tf.float32))
