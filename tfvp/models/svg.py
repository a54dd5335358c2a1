"""SVG: stochastic video generation with a learned prior (LP) or a fixed one (FP).

A deterministic LSTM predicts the code of the next frame from the code of this frame and a
latent; the latent's posterior sees the next frame, its prior (LP) only the past. The decoder
gets the feature maps of one of the last observed frames through skip connections.
"""

from typing import Literal

import tensorflow as tf
from tensorflow import keras

from tfvp.errors import UserError
from tfvp.layers.lstm import TwoBiasLSTM
from tfvp.layers.recurrent import Recurrent
from tfvp.layers.svg_coder import FrameDecoder, FrameEncoder, normal_weights
from tfvp.models.latent_video import LatentVideoModel
from tfvp.registry import register


def dense_recurrent(rnn_size, layers, heads):
    """A `Recurrent` of LSTMs over vectors.

    Args:
        rnn_size: units of the first dense layer and of every LSTM.
        layers: LSTMs.
        heads: {name: (units, activation)}.
    """

    def dense(units, activation=None):
        return keras.layers.Dense(units, activation=activation, kernel_initializer=normal_weights(), dtype="float32")

    lstms = [TwoBiasLSTM(rnn_size) for _ in range(layers)]
    return Recurrent(dense(rnn_size), lstms, {name: dense(*head) for name, head in heads.items()}, rnn_size)


@register("model", "svg")
class SVG(LatentVideoModel):
    """SVG-LP and SVG-FP (Denton and Fergus, ICML 2018, arXiv 1802.07687).

    The loss of a clip is the sum over its T - 1 predicted frames of the mean squared error of
    pixels and `beta` times the KL divergence in nats; every prediction is made from true
    frames. Terms: mse and kl, both summed over frames.

    The feature maps that the decoder sees are those of the last frame before `context` frames have
    been seen; from then on they are frozen, in training, too. Each frame is encoded once; the values
    and gradients are those of the reference, whose LP encodes most frames twice and so moves the
    running statistics of batch norm twice as often.

    Args:
        image_shape: (64, 64, C) or (128, 128, C); or (32, 32, C), for which nothing is published.
        prior: learned (LP), fixed at N(0, I) (FP), or none: the deterministic ablation, whose
            latents are zeros and whose KL is 0.
        encoder: dcgan or vgg.
        code_size: of a frame's code.
        latents: size of the latent of a frame.
        rnn_size: units of the LSTMs.
        predictor_layers, posterior_layers, prior_layers: LSTMs in each network.
        width: channels of the first block of the encoder.
        context: frames of a training clip that count as observed, for the frozen feature maps.
        beta: weight of the KL divergence.
        skip_frame: last = frozen feature maps are those of the last observed frame, as the paper says;
            reference = of the one before it, as the released code has it.
        last_frame_skip: take the feature maps of the previous frame, also a predicted one, instead.
        bn_mode: batch norm in prediction. running = running statistics: no example depends on
            its neighbours; batch = statistics of the batch, per time step, as the released
            SVG-LP does: only batches of 2 clips or more are predicted then, in an evaluation, not single clips
            (`tfvp predict`, `tfvp export`, the studio). The weights are the same.
        sample_context: draw the latents of observed frames from the posterior in prediction
            (released LP), instead of taking its mean (released FP).
    """

    size_multiple = 32
    loss_names = ("loss", "mse", "kl")
    # A code is a single value per channel: normalised by the statistics of one clip, it is the same for all clips.
    fewest_training_clips = 2
    fewest_clips_reason = (
        "with model.bn_mode=batch; import or train it with model.bn_mode=running, which predicts each by itself"
    )
    paper = "Denton and Fergus 2018, arXiv 1802.07687"
    small_image_shape = (32, 32, 1)
    _tiny = {"code_size": 6, "latents": 3, "rnn_size": 8, "width": 2, "context": 3}
    small_variants = {
        "lp": {**_tiny, "skip_frame": "reference"},
        "fp": {**_tiny, "prior": "fixed", "encoder": "vgg", "sample_context": False, "last_frame_skip": True},
        "deterministic": {**_tiny, "prior": "none"},
    }

    def __init__(
        self,
        image_shape,
        prior: Literal["learned", "fixed", "none"] = "learned",
        encoder: Literal["dcgan", "vgg"] = "dcgan",
        code_size: int = 128,
        latents: int = 10,
        rnn_size: int = 256,
        predictor_layers: int = 2,
        posterior_layers: int = 1,
        prior_layers: int = 1,
        width: int = 64,
        context: int = 5,
        beta: float = 1e-4,
        skip_frame: Literal["last", "reference"] = "last",
        last_frame_skip: bool = False,
        bn_mode: Literal["running", "batch"] = "running",
        sample_context: bool = True,
    ):
        super().__init__(image_shape)
        self.check_image_size()
        self.stochastic = prior != "none"
        self.latent_shape, self.beta, self.context = (latents,), beta, context
        self.refresh_skips = self.refresh_predicted_skips = last_frame_skip
        self.bn_mode, self.sample_context = bn_mode, sample_context
        self.fewest_clips = 2 if bn_mode == "batch" else 1
        self.skip_lag = 2 if skip_frame == "reference" and not last_frame_skip else 1
        self.min_context = self.skip_lag
        if context < self.skip_lag:
            raise UserError(
                f"model.context={context} is too short for model.skip_frame={skip_frame}; use {self.skip_lag} or more"
            )
        side, channels = self.image_shape[0], self.image_shape[-1]
        gaussian = {"mean": (latents, None), "logvar": (latents, None)}
        self.encoder = FrameEncoder(encoder, side, code_size, width)
        self.decoder = FrameDecoder(encoder, side, channels, code_size, width)
        self.predictor = dense_recurrent(rnn_size, predictor_layers, {"code": (code_size, "tanh")})
        self.posterior = dense_recurrent(rnn_size, posterior_layers, gaussian) if prior != "none" else None
        self.prior = dense_recurrent(rnn_size, prior_layers, gaussian) if prior == "learned" else None
        self.encoder.build((None, None, *self.image_shape))
        self.decoder.build(None)
        self.predictor.build((None, None, code_size + latents))
        for network in self.gaussians:
            network.build((None, None, code_size))

    def check_image_size(self):
        height, width, _ = self.image_shape
        if height != width or height not in (32, 64, 128):
            raise UserError(
                f"data.image_size: svg has networks for 32, 64 or 128 pixels, not {height} x {width}; use 64"
            )

    @property
    def inference_mode(self):
        return self.bn_mode

    def encode(self, frames, mode):
        return self.encoder(frames, mode=mode)

    def skip_terms(self, skips):
        return self.decoder.skip_terms(skips)

    def decode(self, codes, skip_terms, mode):
        return self.decoder(codes, skip_terms, mode=mode)

    def errors(self, decoded, frames):
        return tf.reduce_mean(tf.square(decoded - tf.cast(frames, tf.float32)), axis=[2, 3, 4])
