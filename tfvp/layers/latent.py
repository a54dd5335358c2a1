"""Diagonal Gaussian latents: divergences and standard deviations, always in float32."""

import tensorflow as tf

MIN_STDDEV = 1e-4
UNIT_OFFSET = 0.5413  # softplus(0.5413) = 1


def kl_diagonal(mean_q, stddev_q, mean_p, stddev_p):
    """KL(N(mean_q, stddev_q^2) || N(mean_p, stddev_p^2)) in nats, summed over the last axis.

    In terms of the ratio r of the deviations: 1/2 sum[(d / s_p)^2 + r^2 - 2 ln r - 1], which is
    also the form that residual posteriors have (NVAE, arXiv 2007.03898, equation 2).
    """
    mean_q, stddev_q, mean_p, stddev_p = (tf.cast(x, tf.float32) for x in (mean_q, stddev_q, mean_p, stddev_p))
    ratio = stddev_q / stddev_p
    shift = (mean_q - mean_p) / stddev_p
    return 0.5 * tf.reduce_sum(tf.square(shift) + tf.square(ratio) - 2.0 * tf.math.log(ratio) - 1.0, axis=-1)


def balanced_kl(q, p, posterior_share=None, legacy=False):
    """KL(q || p) whose gradient is shared out between posterior and prior.

    Args:
        q, p: pairs (mean, stddev).
        posterior_share: fraction of the gradient that the posterior gets; None for all to both.
        legacy: do as CW-VAE's code does, where the posterior's share of the gradient is lost.

    Returns:
        float32 nats, without the last axis; the value does not depend on the share.
    """
    if posterior_share is None:
        return kl_diagonal(*q, *p)
    still_q, still_p = [tf.stop_gradient(x) for x in q], [tf.stop_gradient(x) for x in p]
    to_prior = (1.0 - posterior_share) * kl_diagonal(*still_q, *p)
    if legacy:
        return to_prior + posterior_share * kl_diagonal(*still_q, *still_p)
    return to_prior + posterior_share * kl_diagonal(*q, *still_p)


def soft_clamp(x, limit=5.0):
    """limit * tanh(x / limit): the identity near 0, bounded by `limit` (NVAE)."""
    return limit * tf.tanh(x / limit)
