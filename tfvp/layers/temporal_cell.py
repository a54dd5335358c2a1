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
            noise: [B, T, stoch], N(0, 1).
            state: as from `zero_state`.

        Returns:
            (a dict of [B, T, ...] with "prior_mean", "prior_stddev", "mean", "stddev", "z" and
            "h", the state after the last tick).
        """
        offset = self.deter
        features = tf.matmul(embeddings, self._kernel(self.posterior_h1)[offset:]) + self._bias(self.posterior_h1)

        def step(inputs, state):
            context, feature, eps = inputs
            mean_p, stddev_p, h = self._prior(context, state)
            hidden = tf.nn.relu(tf.matmul(h, self._kernel(self.posterior_h1)[:offset]) + feature)
            mean, stddev = self._posterior(self.posterior_h2(hidden), mean_p, stddev_p)
            z = mean if self.mean_only else mean + stddev * eps
            return tf.concat([mean_p, stddev_p, mean, stddev, z, h], axis=-1), {"z": z, "h": h}

        names = ["prior_mean", "prior_stddev", "mean", "stddev", "z", "h"]
        return self._scan(step, (self._projected(contexts), features, noise), state, names)

    def imagine(self, contexts, noise, state, temperature=1.0):
        """Runs the prior over ticks whose frames are not known; see `observe`.

        Args:
            temperature: factor of the prior's standard deviation in sampling.

        Returns:
            (a dict of [B, T, ...] with "mean", "stddev", "z" and "h", the state after them).
        """

        def step(inputs, state):
            context, eps = inputs
            mean, stddev, h = self._prior(context, state)
            z = mean if self.mean_only else mean + temperature * stddev * eps
            return tf.concat([mean, stddev, z, h], axis=-1), {"z": z, "h": h}

        return self._scan(step, (self._projected(contexts), noise), state, ["mean", "stddev", "z", "h"])

    def _scan(self, step, inputs, state, names):
        sizes = [self.deter if name == "h" else self.stoch for name in names]
        like = tf.TensorSpec([None, sum(sizes)], tf.float32)
        outputs, state = unroll.scan(step, inputs, state, like)
        return dict(zip(names, tf.split(outputs, sizes, axis=-1))), state

    def _projected(self, contexts):
        """The contexts' share of u, bias included."""
        if self.context_dense is not None:
            contexts = self.context_dense(contexts) + 0.1 * contexts
        return tf.matmul(contexts, self._kernel(self.prior_h1)[self.stoch :]) + self._bias(self.prior_h1)

    def _prior(self, projected_context, state):
        hidden = tf.nn.relu(tf.matmul(state["z"], self._kernel(self.prior_h1)[: self.stoch]) + projected_context)
        h, _ = self.gru(hidden, [state["h"]])
        features = self.prior_h2(h)
        return self.prior_mean(features), self._stddev(self.prior_stddev, features) + latent.MIN_STDDEV, h

    def _posterior(self, features, mean_p, stddev_p):
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
    def _kernel(layer):
        return tf.convert_to_tensor(layer.kernel)

    @staticmethod
    def _bias(layer):
        return tf.convert_to_tensor(layer.bias)
