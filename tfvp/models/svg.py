"""SVG: stochastic video generation with a learned prior (LP) or a fixed one (FP).

A deterministic LSTM predicts the code of the next frame from the code of this frame and a
latent; the latent's posterior sees the next frame, its prior (LP) only the past. The decoder
gets the maps of one of the last observed frames through skip connections.
"""

from typing import Literal

import tensorflow as tf
from tensorflow import keras

from tfvp.errors import UserError
from tfvp.layers import latent, noise, unroll
from tfvp.layers.lstm import TwoBiasLSTM
from tfvp.layers.svg_coder import FrameDecoder, FrameEncoder, normal_weights
from tfvp.models.base import VideoModel
from tfvp.registry import register

POSTERIOR_STREAM, PRIOR_STREAM = 0, 1


class Recurrent(keras.layers.Layer):
    """Dense, a stack of LSTMs, and dense heads: float32, over [B, T, D].

    Args:
        rnn_size: units of the first dense layer and of every LSTM.
        layers: LSTMs.
        heads: {name: (units, activation)}.
    """

    def __init__(self, rnn_size, layers, heads, **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        dense = lambda units, activation=None: keras.layers.Dense(  # noqa: E731
            units, activation=activation, kernel_initializer=normal_weights(), dtype="float32"
        )
        self.rnn_size = rnn_size
        self.embed = dense(rnn_size)
        self.lstms = [TwoBiasLSTM(rnn_size) for _ in range(layers)]
        self.head_names = list(heads)
        self.heads = [dense(units, activation) for units, activation in heads.values()]

    def build(self, input_shape):
        self.embed.build((None, input_shape[-1]))
        for layer in [*self.lstms, *self.heads]:
            layer.build((None, None, self.rnn_size) if layer in self.lstms else (None, self.rnn_size))
        self.built = True

    def zero_state(self, batch):
        """{"layer<n>": {"h", "c"}}."""
        return {f"layer{n}": lstm.zero_state(batch) for n, lstm in enumerate(self.lstms)}

    def call(self, inputs, state):
        """({head: [B, T, units]}, the state after the last step)."""
        x, after = self.embed(inputs), {}
        for n, lstm in enumerate(self.lstms):
            x, after[f"layer{n}"] = lstm(x, state[f"layer{n}"])
        return {name: head(x) for name, head in zip(self.head_names, self.heads)}, after


@register("model", "svg")
class SVG(VideoModel):
    """SVG-LP and SVG-FP (Denton and Fergus, ICML 2018, arXiv 1802.07687).

    The loss of a clip is the sum over its T - 1 predicted frames of the mean squared error of
    pixels and `beta` times the KL divergence in nats; every prediction is made from true
    frames. Terms: mse and kl, both summed over frames.

    The maps that the decoder sees are those of the last frame before `context` frames have been
    seen; from then on they are frozen, in training, too. Each frame is encoded once; the values
    and gradients are those of the reference, whose LP encodes most frames twice and so moves the
    running statistics of batch norm twice as often.

    Args:
        image_shape: (64, 64, C) or (128, 128, C).
        prior: learned (LP), fixed at N(0, I) (FP), or none: the deterministic ablation, whose
            latents are zeros and whose KL is 0.
        encoder: dcgan or vgg.
        code_size: of a frame's code.
        latents: size of the latent of a frame.
        rnn_size: units of the LSTMs.
        predictor_layers, posterior_layers, prior_layers: LSTMs in each network.
        width: channels of the first block of the encoder.
        context: frames of a training clip that count as observed, for the frozen maps.
        beta: weight of the KL divergence.
        skip_frame: last = frozen maps are those of the last observed frame, as the paper says;
            reference = of the one before it, as the released code has it.
        last_frame_skip: take the maps of the previous frame, also a predicted one, instead.
        bn_mode: batch norm in prediction. running = running statistics: no example depends on
            its neighbours; batch = statistics of the batch, per time step, as the released
            SVG-LP does.
        sample_context: draw the latents of observed frames from the posterior in prediction
            (released LP), instead of taking its mean (released FP).
    """

    stochastic = True
    size_multiple = 64
    paper = "Denton and Fergus 2018, arXiv 1802.07687"
    small_image_shape = (64, 64, 1)
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
        self.code_size, self.latents, self.beta, self.context = code_size, latents, beta, context
        self.last_frame_skip, self.bn_mode, self.sample_context = last_frame_skip, bn_mode, sample_context
        self.skip_lag = 2 if skip_frame == "reference" else 1
        self.min_context = self.skip_lag
        if context < self.skip_lag:
            raise UserError(
                f"model.context={context} is too short for model.skip_frame={skip_frame}; use {self.skip_lag} or more"
            )
        side, channels = self.image_shape[0], self.image_shape[-1]
        gaussian = {"mean": (latents, None), "logvar": (latents, None)}
        self.encoder = FrameEncoder(encoder, side, code_size, width)
        self.decoder = FrameDecoder(encoder, side, channels, code_size, width)
        self.predictor = Recurrent(rnn_size, predictor_layers, {"code": (code_size, "tanh")})
        self.posterior = Recurrent(rnn_size, posterior_layers, gaussian) if prior != "none" else None
        self.prior = Recurrent(rnn_size, prior_layers, gaussian) if prior == "learned" else None
        self.encoder.build((None, None, *self.image_shape))
        self.decoder.build(None)
        self.predictor.build((None, None, code_size + latents))
        for network in self.gaussians:
            network.build((None, None, code_size))

    @property
    def gaussians(self):
        """The posterior and the prior, where there are such."""
        return [network for network in (self.posterior, self.prior) if network is not None]

    def check_image_size(self):
        height, width, _ = self.image_shape
        if (height, width) not in ((64, 64), (128, 128)):
            raise UserError(f"data.image_size: svg has networks for 64 or 128 pixels, not {height} x {width}; use 64")

    # Training.

    def loss_terms(self, batch, training):
        seeds = self.example_seeds(batch, training)
        draws = self._draw(seeds, POSTERIOR_STREAM, tf.range(1, batch["video"].shape[1]))
        return self.elbo(batch["video"], draws, "train" if training else self.bn_mode)[0]

    def elbo(self, video, draws, mode):
        """The training loss for given noise.

        Args:
            video: [B, T, H, W, C] float32 in [0, 1].
            draws: N(0, 1) draws of the posterior at frames 1 ... T - 1: [B, T - 1, latents].
            mode: of batch norm, see `tfvp.layers.timed_norm`.

        Returns:
            ({"loss", "mse", "kl"} [B]; predictions [B, T - 1, H, W, C]; squared errors and KL per
            frame, [B, T - 1] each).
        """
        frames, batch = video.shape[1], tf.shape(video)[0]
        codes, skips = self.encoder(video, mode=mode)
        if self.posterior is None:
            latents, divergence = tf.zeros_like(draws), tf.zeros_like(draws[..., 0])
        else:
            posterior, _ = self.posterior(codes[:, 1:], self.posterior.zero_state(batch))
            mean, stddev = posterior["mean"], tf.exp(0.5 * posterior["logvar"])
            latents = mean + stddev * draws
            divergence = latent.kl_diagonal(mean, stddev, *self.prior_distribution(codes[:, :-1]))
        zero = self.predictor.zero_state(batch)
        predicted, _ = self.predictor(tf.concat([codes[:, :-1], latents], axis=-1), zero)
        last = max(self.context - self.skip_lag, 0)
        chosen = [t if self.last_frame_skip else min(t, last) for t in range(frames - 1)]
        decoded = self.decoder(predicted["code"], [tf.gather(s, chosen, axis=1) for s in skips], mode=mode)
        error = tf.reduce_mean(tf.square(decoded - tf.cast(video[:, 1:], tf.float32)), axis=[2, 3, 4])
        mse, kl = tf.reduce_sum(error, axis=1), tf.reduce_sum(divergence, axis=1)
        return {"loss": mse + self.beta * kl, "mse": mse, "kl": kl}, decoded, (error, divergence)

    def prior_distribution(self, codes):
        """Mean and standard deviation, [B, T, latents] each, of the latent that follows each of T true frames.

        Args:
            codes: of frames 0 ... T - 1, [B, T, code_size].
        """
        if self.prior is None:
            shape = tf.concat([tf.shape(codes)[:2], [self.latents]], axis=0)
            return tf.zeros(shape), tf.ones(shape)
        prior, _ = self.prior(codes, self.prior.zero_state(tf.shape(codes)[0]))
        return prior["mean"], tf.exp(0.5 * prior["logvar"])

    def reconstruct(self, video, seed=None):
        seeds = noise.example_seeds(tf.range(tf.shape(video)[0])) if seed is None else seed
        draws = self._draw(seeds, POSTERIOR_STREAM, tf.range(1, video.shape[1]))
        return tf.concat([tf.cast(video[:, :1], tf.float32), self.elbo(video, draws, self.bn_mode)[1]], axis=1)

    # Prediction.

    def observe(self, context, state=None, seed=None):
        batch = tf.shape(context)[0]
        if state is None:
            seed = noise.example_seeds(tf.range(batch)) if seed is None else seed
        codes, skips = self.encoder(context, mode=self.bn_mode)
        return self._condition(codes, skips, state, seed)

    def observe_samples(self, context, seeds):
        """Encodes each context once, whatever the number of samples."""
        samples = seeds.shape[1]
        codes, skips = self.encoder(context, mode=self.bn_mode)
        codes, skips = (tf.nest.map_structure(lambda x: tf.repeat(x, samples, axis=0), part) for part in (codes, skips))
        return self._condition(codes, skips, None, tf.reshape(seeds, [-1, 2]))

    def _condition(self, codes, skips, state, seeds):
        """Advances the LSTMs over observed frames, whose codes and maps are given."""
        batch = tf.shape(codes)[0]
        frames = codes.shape[1] if codes.shape[1] is not None else tf.shape(codes)[1]
        first = state is None
        if first:
            state = {
                "predictor": self.predictor.zero_state(batch),
                "seed": tf.cast(seeds, tf.int64),
                "frame": tf.zeros([batch], tf.int32),
            }
            for name, network in (("posterior", self.posterior), ("prior", self.prior)):
                if network is not None:
                    state[name] = network.zero_state(batch)
        inputs = codes[:, :-1] if first else tf.concat([state["code"][:, None], codes[:, :-1]], axis=1)
        targets = codes[:, 1:] if first else codes
        begin = 0 if first else tf.reduce_max(state["frame"])
        after = {**state, "frame": state["frame"] + frames, "code": codes[:, -1]}
        if targets.shape[1] != 0:
            numbers = tf.range(begin + 1 if first else begin, begin + frames)
            draws = self._draw(state["seed"], POSTERIOR_STREAM, numbers)
            latents = tf.zeros_like(draws)
            if self.posterior is not None:
                posterior, after["posterior"] = self.posterior(targets, state["posterior"])
                latents = posterior["mean"]
                if self.sample_context:
                    latents += tf.exp(0.5 * posterior["logvar"]) * draws
            _, after["predictor"] = self.predictor(tf.concat([inputs, latents], axis=-1), state["predictor"])
            if self.prior is not None:
                _, after["prior"] = self.prior(inputs, state["prior"])
        after["skips"] = _at(skips, -1)
        if self.skip_lag == 2:  # the frame before the last one may have been observed by an earlier call
            earlier = state.get("newest_skips", _at(skips, 0))
            after["newest_skips"] = after["skips"]
            after["skips"] = _at([tf.concat([e[:, None], s], axis=1) for e, s in zip(earlier.values(), skips)], -2)
        return after

    def imagine(self, state, horizon, seed=None):
        seeds = state["seed"] if seed is None else tf.cast(seed, tf.int64)
        begin = tf.reduce_max(state["frame"])
        carried = {key: state[key] for key in ("code", "skips", "predictor", "prior") if key in state}

        def step(carried, t):
            z, after = self._draw(seeds, PRIOR_STREAM, tf.reshape(begin + t, [1])), dict(carried)
            if self.posterior is None:
                z = tf.zeros_like(z)
            if self.prior is not None:
                prior, after["prior"] = self.prior(carried["code"][:, None], carried["prior"])
                z = prior["mean"] + tf.exp(0.5 * prior["logvar"]) * z
            inputs = tf.concat([carried["code"][:, None], z], axis=-1)
            predicted, after["predictor"] = self.predictor(inputs, carried["predictor"])
            frame = self.decoder(predicted["code"], [s[:, None] for s in carried["skips"].values()], mode=self.bn_mode)
            codes, skips = self.encoder(frame, mode=self.bn_mode)
            after["code"] = codes[:, 0]
            if self.last_frame_skip:
                after["skips"] = _at(skips, 0)
            return frame[:, 0], after

        like = tf.TensorSpec([None, *self.image_shape], tf.float32)
        video, carried = unroll.generate(step, carried, horizon, like)
        return video, {**state, **carried, "seed": seeds, "frame": state["frame"] + horizon}

    def _draw(self, seeds, stream, frames):
        """N(0, 1) draws [B, n, latents] for numbered frames."""
        return noise.normal_at(noise.fold_in(seeds, stream), frames, (self.latents,))


def _at(skips, t):
    """The maps of one frame, {"map<n>": [B, h, w, c]}, of a list of [B, T, h, w, c]."""
    return {f"map{n}": s[:, t] for n, s in enumerate(skips)}
