"""What SVG and its descendants have in common.

A deterministic recurrent predictor gets the code of a frame and a latent and gives the code of
the next frame. The latent's posterior sees that next frame, its prior the past alone, or
nothing. The decoder gets the feature maps of one observed frame through skip connections.
"""

import functools

import tensorflow as tf

from tfvp.layers import latent, noise, unroll
from tfvp.models.base import VideoModel

POSTERIOR_STREAM, PRIOR_STREAM = 0, 1


class LatentVideoModel(VideoModel):
    """The skeleton of stochastic video generation (Denton and Fergus 2018, arXiv 1802.07687).

    The loss of a clip is the sum over its T - 1 predicted frames of the error of pixels and
    `beta` times the KL divergence in nats; every prediction is made from true frames.

    An author sets the attributes below and writes `encode`, `skip_terms`, `decode`, `errors`
    and, where predictions are fed back in another form, `feedback` and `as_frames`.

    Attributes:
        predictor: a `tfvp.layers.recurrent.Recurrent` with the head "code".
        posterior, prior: the same with heads "mean" and "logvar"; or None.
        latent_shape: of a frame's latent.
        context: frames of a training clip that count as observed, for the frozen feature maps.
        beta: weight of the KL divergence.
        skip_lag: 1 = frozen feature maps are those of the last observed frame; 2 = of the one before it.
        refresh_skips: in training, take the feature maps of the previous frame instead.
        refresh_predicted_skips: in prediction, take the feature maps of the previous, predicted frame.
        sample_context: draw the latents of observed frames in prediction, instead of their means.
        error_name: what the error of pixels is called among the loss terms.
    """

    stochastic = True
    can_recompute = True
    skip_lag, refresh_skips, refresh_predicted_skips, sample_context = 1, False, False, True
    error_name = "mse"

    # What an author writes.

    def encode(self, frames, mode):
        """(codes [B, T, ...] float32, feature maps: list of [B, T, h, w, c]) of frames [B, T, H, W, C]."""
        raise NotImplementedError(f"{type(self).__name__} does not define encode")

    def skip_terms(self, skips):
        """What the decoder makes of feature maps: a list of [B, T, ...], of whatever code they are decoded with."""
        raise NotImplementedError(f"{type(self).__name__} does not define skip_terms")

    def decode(self, codes, skip_terms, mode):
        """What [B, T, ...] is made of codes and the terms of feature maps."""
        raise NotImplementedError(f"{type(self).__name__} does not define decode")

    def errors(self, decoded, frames):
        """[B, T] float32: the error of each decoded frame against the true one."""
        raise NotImplementedError(f"{type(self).__name__} does not define errors")

    def feedback(self, decoded, carried):
        """The frame [B, H, W, C] that a rollout yields and encodes next, for a decoded one."""
        return decoded

    @property
    def inference_mode(self):
        """The `mode` of `encode` and `decode` outside of training."""
        return "running"

    # What the skeleton gives.

    @property
    def gaussians(self):
        """The posterior and the prior, where there are such."""
        return [network for network in (self.posterior, self.prior) if network is not None]

    def loss_terms(self, batch, training):
        seeds = self.example_seeds(batch, training)
        draws = self._draw(seeds, POSTERIOR_STREAM, tf.range(1, batch["video"].shape[1]))
        return self.elbo(batch["video"], draws, "train" if training else self.inference_mode)[0]

    def elbo(self, video, draws, mode):
        """The training loss for given noise.

        With the code h_t = encoder(x_t), z_t from the posterior q, and the prediction x^_t:

            loss = sum_{t=1}^{T-1} error(x^_t, x_t) + beta KL(q(z_t | h_{1:t}) || p(z_t | h_{0:t-1}))
            x^_t = decoder(predictor(h_{t-1}, z_t), feature maps of an observed frame)

        It is the negative of the bound in section 3 of Denton and Fergus 2018, for the fixed prior
        p = N(0, I) and for the learned one, with their weight beta; the error is the model's own,
        for SVG the mean of squared differences over pixels.

        Args:
            video: [B, T, H, W, C] float32 in [0, 1].
            draws: N(0, 1) draws of the posterior at frames 1 ... T - 1: [B, T - 1, *latent_shape].
            mode: of `encode` and `decode`.

        Returns:
            ({"loss", `error_name`, "kl"} [B]; what was decoded for frames 1 ... T - 1; errors and
            KL per frame, [B, T - 1] each).
        """
        frames, batch = video.shape[1], tf.shape(video)[0]
        codes, skips = self.encode(video, mode)
        axes = list(range(2, 2 + len(self.latent_shape)))
        if self.posterior is None:
            latents, divergence = tf.zeros_like(draws), tf.reduce_sum(tf.zeros_like(draws), axes)
        else:
            posterior, _ = self.posterior(codes[:, 1:], self.posterior.zero_state(batch))
            mean, stddev = posterior["mean"], tf.exp(0.5 * posterior["logvar"])
            latents = mean + stddev * draws
            divergence = latent.kl_diagonal(mean, stddev, *self.prior_distribution(codes[:, :-1]))
            divergence = tf.reduce_sum(divergence, axes[:-1])
        zero = self.predictor.zero_state(batch)
        predicted, _ = self.predictor(tf.concat([codes[:, :-1], latents], axis=-1), zero)
        seen = frames - 1 if self.refresh_skips else min(max(self.context - self.skip_lag, 0) + 1, frames - 1)
        terms = [_continued(term, frames - 1) for term in self.skip_terms([s[:, :seen] for s in skips])]
        decoded = self.decode(predicted["code"], terms, mode)
        error = self.errors(decoded, video[:, 1:])
        total, kl = tf.reduce_sum(error, axis=1), tf.reduce_sum(divergence, axis=1)
        return {"loss": total + self.beta * kl, self.error_name: total, "kl": kl}, decoded, (error, divergence)

    def prior_distribution(self, codes):
        """Mean and standard deviation, [B, T, *latent_shape] each, of the latents that follow T true frames.

        Args:
            codes: of frames 0 ... T - 1.
        """
        if self.prior is None:
            shape = tf.concat([tf.shape(codes)[:2], self.latent_shape], axis=0)
            return tf.zeros(shape), tf.ones(shape)
        prior, _ = self.prior(codes, self.prior.zero_state(tf.shape(codes)[0]))
        return prior["mean"], tf.exp(0.5 * prior["logvar"])

    def reconstruct(self, video, seed=None):
        seeds = noise.example_seeds(tf.range(tf.shape(video)[0])) if seed is None else seed
        draws = self._draw(seeds, POSTERIOR_STREAM, tf.range(1, video.shape[1]))
        decoded = self.elbo(video, draws, self.inference_mode)[1]
        return tf.concat([tf.cast(video[:, :1], tf.float32), self.as_frames(decoded, video)], axis=1)

    def as_frames(self, decoded, video):
        """Frames [B, T, H, W, C] of what was decoded for the frames of `video` after the first."""
        return decoded

    def observe(self, context, state=None, seed=None):
        batch = tf.shape(context)[0]
        if state is None:
            seed = noise.example_seeds(tf.range(batch)) if seed is None else seed
        return self._condition(context, *self._encoded(context), state, seed)

    def observe_samples(self, context, seeds):
        """Encodes each context once, whatever the number of samples."""
        samples = tf.shape(seeds)[1]
        parts = (context, *self._encoded(context))
        parts = (tf.nest.map_structure(lambda x: tf.repeat(x, samples, axis=0), part) for part in parts)
        return self._condition(*parts, None, tf.reshape(seeds, [-1, 2]))

    def remember(self, context, state):
        """Further tensors [B, ...] of the state, from frames just observed and the state before them, or None."""
        return {}

    def _encoded(self, context):
        """(codes, terms of the feature maps that may be frozen) of observed frames."""
        codes, skips = self.encode(context, self.inference_mode)
        return codes, self.skip_terms([s[:, -self.skip_lag :] for s in skips])

    def _condition(self, context, codes, terms, state, seeds):
        """Advances the recurrent networks over observed frames, given what `_encoded` made of them."""
        batch = tf.shape(codes)[0]
        frames = codes.shape[1] if codes.shape[1] is not None else tf.shape(codes)[1]
        first = state is None
        remembered = self.remember(context, state)
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
        after = {**state, **remembered, "frame": state["frame"] + frames, "code": codes[:, -1]}
        if targets.shape[1] != 0:
            numbers = tf.range(1, frames) if first else state["frame"][:, None] + tf.range(frames)
            advance = functools.partial(self._advance, state, inputs, targets, numbers)
            if first and targets.shape[1] is None:  # no target in a single frame, and time loops take one step or more
                networks = {k: state[k] for k in ("predictor", "posterior", "prior") if k in state}
                after.update(tf.cond(frames > 1, advance, lambda: networks))
            else:
                after.update(advance())
        after["skip_terms"] = _at(terms, -1)
        if self.skip_lag == 2:  # the frame before the last one may have been observed by an earlier call
            earlier = state.get("newest_terms", _at(terms, 0)).values()
            after["newest_terms"] = after["skip_terms"]
            after["skip_terms"] = _at([tf.concat([e[:, None], t], axis=1) for e, t in zip(earlier, terms)], -2)
        return after

    def _advance(self, state, inputs, targets, numbers):
        """States of the recurrent networks after observed frames `numbers`, whose codes are `targets`."""
        after = {}
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
        return after

    def imagine(self, state, horizon, seed=None):
        seeds = state["seed"] if seed is None else tf.cast(seed, tf.int64)
        like = tf.TensorSpec([None, *self.image_shape], tf.float32)
        draws = self.prior_draws(seeds, state["frame"], horizon)
        video, carried = unroll.scan(lambda d, c: self.predict_next(c, d), draws, self.carried(state), like)
        return video, {**state, **carried, "seed": seeds, "frame": state["frame"] + horizon}

    @staticmethod
    def carried(state):
        """The part of a state that `predict_next` takes and gives."""
        return {k: v for k, v in state.items() if k not in ("seed", "frame", "posterior", "newest_terms")}

    def prior_draws(self, seeds, begin, horizon):
        """N(0, 1) draws [B, horizon, *latent_shape] of the prior, from the frames numbered `begin` [B] on."""
        return self._draw(seeds, PRIOR_STREAM, begin[:, None] + tf.range(horizon))

    def predict_next(self, carried, draws):
        """One predicted frame.

        Args:
            carried: what of the state changes: "code", "skip_terms", the networks' states.
            draws: N(0, 1) draws of the prior at this frame: [B, *latent_shape].

        Returns:
            (the frame [B, H, W, C], `carried` after it).
        """
        z, after = draws[:, None], dict(carried)
        if self.prior is not None:
            prior, after["prior"] = self.prior(carried["code"][:, None], carried["prior"])
            z = prior["mean"] + tf.exp(0.5 * prior["logvar"]) * z
        inputs = tf.concat([carried["code"][:, None], z], axis=-1)
        predicted, after["predictor"] = self.predictor(inputs, carried["predictor"])
        terms = [term[:, None] for term in carried["skip_terms"].values()]
        decoded = self.decode(predicted["code"], terms, self.inference_mode)
        frame = self.feedback(decoded[:, 0], carried)
        codes, skips = self.encode(frame[:, None], self.inference_mode)
        after["code"] = codes[:, 0]
        if self.refresh_predicted_skips:
            after["skip_terms"] = _at(self.skip_terms(skips), 0)
        return frame, after

    def _draw(self, seeds, stream, frames):
        """N(0, 1) draws [B, n, *latent_shape] for the frames numbered [n] or [B, n]; zeros without a posterior."""
        if self.posterior is None:
            return tf.zeros(tf.concat([tf.shape(seeds)[:1], tf.shape(frames)[-1:], self.latent_shape], axis=0))
        return noise.normal_at(seeds, frames, self.latent_shape, stream)


def _at(terms, t):
    """Those of one frame, {"map<n>": [B, h, w, c]}, of a list of [B, T, h, w, c]."""
    return {f"map{n}": term[:, t] for n, term in enumerate(terms)}


def _continued(x, frames):
    """[B, n, ...] -> [B, frames, ...]: the last one is repeated."""
    missing = frames - x.shape[1]
    return tf.concat([x, tf.repeat(x[:, -1:], missing, axis=1)], axis=1) if missing else x
