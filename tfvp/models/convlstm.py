"""ConvLSTM models: three next-frame predictors and the encoder-forecaster.

The next-frame predictors read a frame and predict the one that follows; to go beyond the
context they read their own predictions. The encoder-forecaster of the original paper reads
the context with one stack and unrolls the future with another, without feedback.

The cell's equations are in `tfvp.layers.convlstm`. With y_t the prediction of frame x_t, frames
numbered 1 ... T, N pixels with their colours in a frame, and K frames of context, the losses are

    notebook    1 / (N (T-1)) sum_{t=2..T} || y_t - x_t ||^2, y_t from true x_1 ... x_{t-1}
    keras       -1 / (N (T-1)) sum_{t=2..T} sum_pixels [x_t ln y_t + (1 - x_t) ln(1 - y_t)]
    openstl     1 / (N (T-1)) sum_{t=2..T} || y_t - x_t ||^2, where for t > K + 1 the frame before
                is the true one with probability eta and y_{t-1} otherwise
                (openstl/models/convlstm_model.py; scheduled sampling is of arXiv 1506.03099)
    forecaster  -sum_{t=K+1..T} sum_pixels [x_t ln y_t + (1 - x_t) ln(1 - y_t)]
                (Shi et al. 2015, arXiv 1506.04214, section 4)
"""

import functools
from typing import Literal

import tensorflow as tf
from tensorflow import keras

from tfvp.errors import UserError
from tfvp.layers import initializers, noise, patches, recompute, unroll
from tfvp.layers.batch_norm import BatchNormalization
from tfvp.layers.convlstm import ConvLSTM, KerasConvLSTM
from tfvp.models import input_checks
from tfvp.models.base import VideoModel
from tfvp.registry import register


class NextFrameConvLSTM(VideoModel):
    """A stack of ConvLSTM layers that predicts the next frame; base of three variants.

    A variant makes `self.recurrent`, the layers in order, and `self.norms`, the batch norms that
    follow the first of them; it may set `self.patch` and override `head`. The state holds every
    layer's h and c and, as "next", the prediction of the frame after the last one read (patches,
    unclipped).
    """

    can_recompute = True
    patch = 1

    def _build_stack(self):
        """Creates the stack's variables for `image_shape`."""
        height, width, channels = self.image_shape
        self.grid = (height // self.patch, width // self.patch, channels * self.patch**2)
        size = self.grid
        for i, layer in enumerate(self.recurrent):
            layer.build((None, *size))
            size = (*self.grid[:2], layer.filters)
            if i < len(self.norms):
                self.norms[i].build((None, None, *size))

    def head(self, hidden, past, training):
        """The last layer's feature maps [B, T, h, w, F] -> (outputs [B, T, h, w, c] float32, its own state)."""
        return tf.cast(hidden, tf.float32), past

    def head_state(self, batch):
        """What `head` remembers before the first frame."""
        return {}

    def zero_state(self, batch):
        """The state before the first frame is read."""
        height, width, _ = self.grid
        return {
            "layers": {str(i): layer.zero_state(batch, height, width) for i, layer in enumerate(self.recurrent)},
            "head": self.head_state(batch),
            "next": tf.zeros([batch, *self.grid]),
        }

    def read(self, inputs, state, training=False):
        """Reads patches [B, T, h, w, c]: (a prediction after each, [B, T, h, w, c], the state)."""
        layers, hidden = {}, inputs
        for i, layer in enumerate(self.recurrent):
            hidden, layers[str(i)] = recompute.block(layer.sequence, hidden, state["layers"][str(i)])
            if i < len(self.norms):
                hidden = self.norms[i](hidden, training=training)
        outputs, head = self.head(hidden, state["head"], training)
        return outputs, {"layers": layers, "head": head, "next": outputs[:, -1]}

    def read_one(self, frame, state, kernels=None):
        """As `read`, for one frame of patches [B, h, w, c] and without training statistics."""
        layers, hidden = {}, frame
        for i, layer in enumerate(self.recurrent):
            values = [] if kernels is None else [kernels[i]]
            hidden, layers[str(i)] = recompute.block(layer.step, hidden, state["layers"][str(i)], *values)
            if i < len(self.norms):
                hidden = self.norms[i](hidden[:, None], training=False)[:, 0]
        outputs, head = self.head(hidden[:, None], state["head"], training=False)
        return {"layers": layers, "head": head, "next": outputs[:, 0]}

    def observe(self, context, state=None, seed=None):
        state = self.zero_state(tf.shape(context)[0]) if state is None else state
        return self.read(patches.to_patches(context, self.patch), state)[1]

    def imagine(self, state, horizon, seed=None):
        def step(state, t):
            return state["next"], self.read_one(state["next"], state)

        predicted, state = unroll.generate(step, state, horizon, like=state["next"])
        return patches.from_patches(predicted, self.patch), state

    def next_frames(self, video, training=False):
        inputs = patches.to_patches(video[:, :-1], self.patch)
        outputs, _ = self.read(inputs, self.zero_state(tf.shape(video)[0]), training)
        return patches.from_patches(outputs, self.patch)


@register("model", "convlstm_notebook")
class NotebookConvLSTM(NextFrameConvLSTM):
    """The network of the PyTorch-Lightning next-frame notebook: the last ConvLSTM is the output.

    ReLU candidates and outputs, two biases per gate, batch norm (over batch, time and space)
    after every layer but the last. Trained on one-step predictions from true frames.

    Loss: squared error, mean over pixels and time. 745,868 parameters at the defaults.

    Args:
        hidden: channels of the layers before the output layer, which has one per colour.
        kernels: kernel sides of all layers, the output layer's last.
    """

    loss_names = ("loss", "mae_one_step")
    paper = "next-frame variant of Shi et al. 2015, arXiv 1506.04214"
    small_variants = {"": {"hidden": [4, 4], "kernels": [3, 3, 1]}}

    def __init__(self, image_shape, hidden: list[int] = (64, 64, 64), kernels: list[int] = (5, 3, 1, 1)):
        super().__init__(image_shape)
        if len(kernels) != len(hidden) + 1:
            raise UserError(
                f"model.kernels has {len(kernels)} entries; it needs {len(hidden) + 1}, one more than model.hidden"
            )
        self.recurrent = [
            ConvLSTM(filters, kernel, activation="relu", bias="double", initializer="torch")
            for filters, kernel in zip([*hidden, self.image_shape[-1]], kernels)
        ]
        self.norms = [BatchNormalization() for _ in hidden]
        self._build_stack()

    def loss_terms(self, batch, training):
        error = self.next_frames(batch["video"], training) - batch["video"][:, 1:]
        return {"loss": _mean(tf.square(error)), "mae_one_step": _mean(tf.abs(error))}


@register("model", "convlstm_keras")
class KerasExampleConvLSTM(NextFrameConvLSTM):
    """The stack of the keras.io next-frame example, on `keras.layers.ConvLSTM2D`.

    ReLU ConvLSTMs with batch norm between them and a sigmoid 3x3x3 convolution as the head.
    The example's head also reads the hidden state of the frame that it predicts from the one
    after: it sees its target. Here it is causal, unless `legacy_conv3d` asks for the example's.

    Loss: binary cross-entropy, mean over pixels and time (nats). 746,433 parameters and 256 statistics of batch norm.

    Args:
        hidden: channels of the layers.
        kernels: their kernel sides.
        recurrent_activation: of the gates; Keras 2's hard sigmoid is what the example ran with.
        legacy_conv3d: the example's head, which leaks the next frame; for comparison only.
    """

    loss_names = ("loss", "mse_one_step")
    paper = "Joshi 2021, keras.io: Next-Frame Video Prediction with Convolutional LSTMs"
    small_variants = {
        "": {"hidden": [4, 4], "kernels": [3, 3]},
        "sigmoid": {"hidden": [4], "kernels": [3], "recurrent_activation": "sigmoid"},
    }

    def __init__(
        self,
        image_shape,
        hidden: list[int] = (64, 64, 64),
        kernels: list[int] = (5, 3, 1),
        recurrent_activation: Literal["sigmoid", "hard_sigmoid"] = "hard_sigmoid",
        legacy_conv3d: bool = False,
    ):
        super().__init__(image_shape)
        input_checks.check_layers(hidden, kernels)
        self.legacy_conv3d = legacy_conv3d
        self.remembered = 1 if legacy_conv3d else 2
        self.recurrent = [
            KerasConvLSTM(filters, side, recurrent_activation=recurrent_activation)
            for filters, side in zip(hidden, kernels)
        ]
        self.norms = [keras.layers.BatchNormalization(synchronized=True) for _ in hidden[1:]]
        self.output_conv = keras.layers.Conv3D(self.image_shape[-1], 3, activation="sigmoid", dtype="float32")
        self._build_stack()
        self.output_conv.build((None, None, *self.grid[:2], hidden[-1]))

    def head_state(self, batch):
        height, width, _ = self.grid
        filters = self.recurrent[-1].filters
        return {"past": tf.zeros([batch, self.remembered, height, width, filters], self.compute_dtype)}

    def head(self, hidden, past, training):
        so_far = tf.concat([past["past"], hidden], axis=1)
        after = tf.zeros_like(hidden[:, :1]) if self.legacy_conv3d else hidden[:, :0]
        window = tf.pad(tf.concat([so_far, after], axis=1), [[0, 0], [0, 0], [1, 1], [1, 1], [0, 0]])
        past = so_far[:, -self.remembered :]
        past.set_shape([None, self.remembered, *hidden.shape[2:]])
        return self.output_conv(window), {"past": past}

    def loss_terms(self, batch, training):
        predicted, target = self.next_frames(batch["video"], training), batch["video"][:, 1:]
        entropy = keras.losses.binary_crossentropy(target[..., None], predicted[..., None])
        return {"loss": _mean(entropy), "mse_one_step": _mean(tf.square(predicted - target))}


@register("model", "convlstm_openstl")
class OpenSTLConvLSTM(NextFrameConvLSTM):
    """The ConvLSTM of the OpenSTL benchmark: bias-free tanh cells on patches, scheduled sampling.

    In training, the frames after the context are read from the truth with probability eta and
    from the model's own last prediction otherwise; eta falls linearly with the training step.

    Loss: squared error, mean over pixels and all T - 1 predictions, those of context frames
    included. "forecast_mse" is the mean over the frames after the context. 11,675,648
    parameters at the defaults (size S), 26,115,072 with `hidden` 4 x 192 (size L).

    Args:
        hidden: channels of the layers.
        kernel: kernel side of all layers.
        patch: side of the patches that frames are cut into, in pixels.
        context: frames that are always read from the truth in training.
        sampling_rate: what eta loses per training step, from 1.
        legacy_dead: allocate the two convolutions per cell that the benchmark never uses.
    """

    loss_names = ("loss", "forecast_mse")
    paper = "Tan et al. 2023, OpenSTL, arXiv 2306.11249; Shi et al. 2015, arXiv 1506.04214"
    small_variants = {"": {"hidden": [4, 4], "kernel": 3, "patch": 2, "context": 3}}

    def __init__(
        self,
        image_shape,
        hidden: list[int] = (128, 128, 128, 128),
        kernel: int = 5,
        patch: int = 4,
        context: int = 10,
        sampling_rate: float = 2e-5,
        legacy_dead: bool = False,
    ):
        super().__init__(image_shape)
        input_checks.check_layers(hidden, context=context)
        self.patch = self.size_multiple = patch
        self.context, self.sampling_rate = context, sampling_rate
        self.check_image_size()
        self.recurrent = [ConvLSTM(filters, kernel, bias="none", initializer="torch") for filters in hidden]
        self.norms = []
        self._build_stack()
        self.output_conv = keras.layers.Conv2D(
            self.grid[-1], 1, use_bias=False, kernel_initializer=initializers.torch_kernel(), dtype="float32"
        )
        self.output_conv.build((None, *self.grid[:2], hidden[-1]))
        if legacy_dead:
            self.dead = [
                self.add_weight(
                    name=f"dead_{i}_{side}",
                    shape=(side, side, 2 * filters, filters),
                    initializer=initializers.torch_kernel(),
                )
                for i, filters in enumerate(hidden)
                for side in (kernel, 1)
            ]

    def head(self, hidden, past, training):
        flat = tf.reshape(hidden, [-1, *hidden.shape[2:]])
        return tf.reshape(self.output_conv(flat), [*tf.unstack(tf.shape(hidden)[:2]), *self.grid]), past

    def sampling_probability(self, step):
        """eta: the probability of reading a true frame at training step `step` (from 0)."""
        return tf.maximum(0.0, 1.0 - self.sampling_rate * tf.cast(step + 1, tf.float32))

    def predict_sampled(self, video, mask):
        """Predictions of frames 1 ... T-1 where only some future frames are read from the truth.

        Args:
            video: [B, T, H, W, C].
            mask: [B, T - 1 - context], 1 where the true frame is read, 0 for the model's own.

        Returns:
            [B, T - 1, h, w, p * p * C] float32 patches.
        """
        inputs = patches.to_patches(video, self.patch)
        context = min(self.context, video.shape[1] - 1)
        one_step, state = self.read(inputs[:, :context], self.zero_state(tf.shape(video)[0]))

        kernels = [layer.kernels(*self.grid[:2]) for layer in self.recurrent]

        def step(at_t, state):
            true, read_truth = at_t
            read_truth = read_truth[:, None, None, None]
            state = self.read_one(read_truth * true + (1.0 - read_truth) * state["next"], state, kernels)
            return state["next"], state

        future, _ = unroll.scan(step, (inputs[:, context:-1], mask), state, like=state["next"])
        return tf.concat([one_step, future], axis=1)

    def loss_terms(self, batch, training):
        video = batch["video"]
        context = min(self.context, video.shape[1] - 1)
        shape = (video.shape[1] - 1 - context,)
        if training:
            draws = noise.uniform(self.example_seeds(batch, training), shape)
            mask = tf.cast(draws < self.sampling_probability(self.step), tf.float32)
        else:
            mask = tf.zeros([tf.shape(video)[0], *shape])
        error = self.predict_sampled(video, mask) - patches.to_patches(video[:, 1:], self.patch)
        return {"loss": _mean(tf.square(error)), "forecast_mse": _mean(tf.square(error[:, context - 1 :]))}


@register("model", "convlstm_forecaster")
class ForecasterConvLSTM(VideoModel):
    """The encoder-forecaster of the ConvLSTM paper, with peepholes, on patches.

    The encoder reads the context. The forecaster has as many layers, in mirrored order; each
    starts from its twin's final state, the deepest has no input, every other reads the layer
    below. A 1x1 convolution over all their outputs gives the frame. Nothing is fed back.

    Loss: cross-entropy in nats, summed over pixels and predicted frames (Shi et al. 2015,
    table 1). 7,585,296 parameters at the defaults. The paper does not say how weights start;
    kernels start by Glorot's rule here, biases and peepholes at 0.

    Args:
        hidden: channels of the encoder's layers, first to last.
        kernel: kernel side of all layers.
        patch: side of the patches that frames are cut into, in pixels.
        context: frames that are observed in training.
    """

    can_recompute = True
    loss_names = ("loss", "forecast_mse")
    paper = "Shi et al. 2015, arXiv 1506.04214"
    small_variants = {"": {"hidden": [6, 4], "kernel": 3, "patch": 2, "context": 3}}

    def __init__(
        self, image_shape, hidden: list[int] = (128, 64, 64), kernel: int = 5, patch: int = 4, context: int = 10
    ):
        super().__init__(image_shape)
        input_checks.check_layers(hidden, context=context)
        self.patch = self.size_multiple = patch
        self.context = context
        self.check_image_size()
        height, width, channels = self.image_shape
        self.grid = (height // patch, width // patch, channels * patch**2)
        self.encoder = [ConvLSTM(filters, kernel, peephole=True) for filters in hidden]
        self.forecaster = [ConvLSTM(filters, kernel, peephole=True) for filters in reversed(hidden)]
        self.output_conv = keras.layers.Conv2D(self.grid[-1], 1, dtype="float32")
        for layer, inputs in zip(self.encoder, [self.grid[-1], *hidden]):
            layer.build((None, *self.grid[:2], inputs))
        for layer, inputs in zip(self.forecaster, [None, *reversed(hidden)]):
            layer.build(None if inputs is None else (None, *self.grid[:2], inputs))
        self.output_conv.build((None, *self.grid[:2], sum(hidden)))

    def observe(self, context, state=None, seed=None):
        if state is None:
            batch, (height, width, _) = tf.shape(context)[0], self.grid
            encoder = {str(i): layer.zero_state(batch, height, width) for i, layer in enumerate(self.encoder)}
        else:
            encoder = dict(state["encoder"])
        hidden = patches.to_patches(context, self.patch)
        for i, layer in enumerate(self.encoder):
            hidden, encoder[str(i)] = recompute.block(layer.sequence, hidden, encoder[str(i)])
        last = len(self.encoder) - 1
        return {"encoder": encoder, "forecaster": {str(i): encoder[str(last - i)] for i in range(last + 1)}}

    def imagine(self, state, horizon, seed=None):
        logits, state = self.forecast_logits(state, horizon)
        return patches.from_patches(tf.sigmoid(logits), self.patch), state

    def forecast_logits(self, state, horizon):
        """As `imagine`, but patches [B, horizon, h, w, p * p * C] of logits."""
        forecaster, outputs = dict(state["forecaster"]), []
        for i, layer in enumerate(self.forecaster):
            if i == 0:
                hidden, forecaster["0"] = recompute.block(functools.partial(layer.free_run, horizon), forecaster["0"])
            else:
                hidden, forecaster[str(i)] = recompute.block(layer.sequence, hidden, forecaster[str(i)])
            outputs.append(hidden)
        stacked = tf.concat(outputs, axis=-1)
        logits = self.output_conv(tf.reshape(stacked, [-1, *self.grid[:2], stacked.shape[-1]]))
        logits = tf.reshape(logits, [*tf.unstack(tf.shape(stacked)[:2]), *self.grid])
        return logits, {"encoder": state["encoder"], "forecaster": forecaster}

    def loss_terms(self, batch, training):
        video = batch["video"]
        context = min(self.context, video.shape[1] - 1)
        target = patches.to_patches(video[:, context:], self.patch)
        logits, _ = self.forecast_logits(self.observe(video[:, :context]), video.shape[1] - context)
        entropy = tf.nn.sigmoid_cross_entropy_with_logits(target, logits)
        error = tf.sigmoid(logits) - target
        return {"loss": tf.reduce_sum(entropy, axis=[1, 2, 3, 4]), "forecast_mse": _mean(tf.square(error))}


def _mean(values):
    """Mean over all axes but the batch's: [B] float32."""
    return tf.reduce_mean(tf.cast(values, tf.float32), axis=list(range(1, values.shape.rank)))
