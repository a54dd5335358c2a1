"""One level of a clockwork VAE: a GRU with a Gaussian prior and posterior per tick."""

import tensorflow as tf
from tensorflow import keras

from tfvp.layers import latent, unroll


class TemporalCell(keras.layers.Layer):
    """The recurrent state-space cell of CW-VAE, and its residual variants (HTSR).

    Per tick, with the previous sample z, the deterministic state h, the context c from the level
    above and the embedding e of the observed frames:

        u = relu(W1 [z; c]),  h' = GRU(u, h),  v = relu(W2 h')
        prior      N(Wm v, softplus(Ws v)^2)
        w = relu(W4 relu(W3 [h'; e]))
        posterior  plain:    N(W'm w, softplus(W's w)^2)
                   additive: N(prior mean + W'm w, (prior stddev + softplus(W's w))^2)
                   nvae:     N(prior mean + W'm w, (prior stddev * exp(5 tanh(W's w / 5)))^2)

    The products with c and e, which are known beforehand, are done for all ticks at once. All
    of the cell is float32, whatever the precision policy.

    Args:
        stoch, deter, hidden: sizes of z, h and the hidden layers.
        embed: size of e.
        posterior: "plain" (CW-VAE), "additive" (HTSR as released) or "nvae".
        context_residual: use relu(Wc c) + 0.1 c in the place of c.
        legacy_offset: add the 0.54 that should make deviations start at 1 to the features
            before the last layer, as the references do, and not to its output.
        mean_only: use the mean in the place of every sample.
    """

    def __init__(
        self,
        stoch,
        deter,
        hidden,
        embed,
        posterior="plain",
        context_residual=False,
        legacy_offset=False,
        mean_only=False,
        **kwargs,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.stoch, self.deter, self.embed = stoch, deter, embed
        self.posterior_kind, self.legacy_offset, self.mean_only = posterior, legacy_offset, mean_only
        head = {"kernel_initializer": "zeros"} if posterior == "nvae" else {}

        def dense(units, **options):
            return keras.layers.Dense(units, dtype="float32", **options)

        self.context_dense = dense(stoch + deter, activation="relu") if context_residual else None
        self.prior_h1 = dense(hidden)
        self.gru = keras.layers.GRUCell(deter, reset_after=True, recurrent_activation="sigmoid", dtype="float32")
        self.prior_h2 = dense(hidden, activation="relu")
        self.prior_mean = dense(stoch)
        self.prior_stddev = dense(stoch)
        self.posterior_h1 = dense(hidden)
        self.posterior_h2 = dense(hidden, activation="relu")
        self.posterior_mean = dense(stoch, **head)
        self.posterior_stddev = dense(stoch, **head)
        output, width = stoch + deter, hidden
        if self.context_dense is not None:
            self.context_dense.build((None, output))
        self.prior_h1.build((None, stoch + output))
        self.gru.build((None, hidden))
        self.posterior_h1.build((None, deter + embed))
        for layer, size in (
            (self.prior_h2, deter),
            (self.prior_mean, width),
            (self.prior_stddev, width),
            (self.posterior_h2, width),
            (self.posterior_mean, width),
            (self.posterior_stddev, width),
        ):
            layer.build((None, size))
        self.built = True

    def zero_state(self, batch):
        """The state before the first tick: {"z": [B, stoch], "h": [B, deter]}."""
        return {"z": tf.zeros([batch, self.stoch]), "h": tf.zeros([batch, self.deter])}

    def observe(self, contexts, embeddings, noise, state):
        """Runs the posterior over ticks whose frames are known.

        Args:
            contexts: [B, T, stoch + deter], the outputs of the level above at each tick.
            embeddings: [B, T, embed].
            noise: [B, T, stoch], N(0, 1); None for the means in the place of samples.
            state: as from `zero_state`.

        Returns:
            (a dict of [B, T, ...] with "prior_mean", "prior_stddev", "mean", "stddev", "z" and
            "h", the state after the last tick).
        """
        kernel_h, kernel_e = self._split(self.posterior_h1, self.deter)
        features = tf.matmul(embeddings, kernel_e) + self._bias(self.posterior_h1)
        advance = self._transition()
        residual = self.posterior_kind != "plain"  # only then does the posterior, so the recurrence, need the prior

        def step(inputs, state):
            context, feature, *eps = inputs
            h = advance(context, state)
            prior = self._prior(h) if residual else ()
            hidden = tf.nn.relu(tf.matmul(h, kernel_h) + feature)
            mean, stddev = self._posterior(self.posterior_h2(hidden), *prior)
            z = mean + stddev * eps[0] if eps else mean
            return tf.concat([*prior, mean, stddev, z, h], axis=-1), {"z": z, "h": h}

        names = ["prior_mean", "prior_stddev"] if residual else []
        inputs = (self._projected(contexts), features, *self._samples(noise))
        outputs, state = self._scan(step, inputs, state, [*names, "mean", "stddev", "z", "h"])
        if not residual:
            outputs["prior_mean"], outputs["prior_stddev"] = self._prior(outputs["h"])
        return outputs, state

    def imagine(self, contexts, noise, state, temperature=1.0):
        """Runs the prior over ticks whose frames are not known.

        Args:
            contexts, noise, state: as in `observe`.
            temperature: factor of the prior's standard deviation in sampling.

        Returns:
            (a dict of [B, T, ...] with "mean", "stddev", "z" and "h", the state after them).
        """
        advance = self._transition()

        def step(inputs, state):
            context, *eps = inputs
            h = advance(context, state)
            mean, stddev = self._prior(h)
            z = mean + temperature * stddev * eps[0] if eps else mean
            return tf.concat([mean, stddev, z, h], axis=-1), {"z": z, "h": h}

        inputs = (self._projected(contexts), *self._samples(noise))
        return self._scan(step, inputs, state, ["mean", "stddev", "z", "h"])

    def _samples(self, noise):
        """The noise as further inputs of a scan; none where means are taken."""
        return () if self.mean_only or noise is None else (noise,)

    def _scan(self, step, inputs, state, names):
        sizes = [self.deter if name == "h" else self.stoch for name in names]
        like = tf.TensorSpec([None, sum(sizes)], tf.float32)
        outputs, state = unroll.scan(step, inputs, state, like)
        return dict(zip(names, tf.split(outputs, sizes, axis=-1))), state

    def _projected(self, contexts):
        """The contexts' share of u, bias included."""
        if self.context_dense is not None:
            contexts = self.context_dense(contexts) + 0.1 * contexts
        return tf.matmul(contexts, self._split(self.prior_h1, self.stoch)[1]) + self._bias(self.prior_h1)

    def _transition(self):
        """(projected context, state) -> the next h, with the kernel sliced once for all ticks."""
        kernel_z, _ = self._split(self.prior_h1, self.stoch)

        def advance(projected_context, state):
            hidden = tf.nn.relu(tf.matmul(state["z"], kernel_z) + projected_context)
            return self.gru(hidden, [state["h"]])[0]

        return advance

    def _prior(self, h):
        features = self.prior_h2(h)
        return self.prior_mean(features), self._stddev(self.prior_stddev, features) + latent.MIN_STDDEV

    def _posterior(self, features, mean_p=None, stddev_p=None):
        mean = self.posterior_mean(features)
        if self.posterior_kind == "plain":
            return mean, self._stddev(self.posterior_stddev, features) + latent.MIN_STDDEV
        if self.posterior_kind == "additive":
            return mean_p + mean, stddev_p + self._stddev(self.posterior_stddev, features)
        return mean_p + mean, stddev_p * tf.exp(latent.soft_clamp(self.posterior_stddev(features)))

    def _stddev(self, head, features):
        if self.legacy_offset:
            return tf.nn.softplus(head(features + 0.54))
        return tf.nn.softplus(head(features) + latent.UNIT_OFFSET)

    @staticmethod
    def _split(layer, size):
        """The kernel's rows for the first `size` inputs, and for the rest."""
        kernel = tf.convert_to_tensor(layer.kernel)
        return kernel[:size], kernel[size:]

    @staticmethod
    def _bias(layer):
        return tf.convert_to_tensor(layer.bias)
