"""PyTorch's running variance, with any number of replicas."""

import numpy as np
import pytest
import tensorflow as tf

from tfvp.layers.batch_norm import BatchNormalization
from tfvp.training import strategies


@pytest.mark.parametrize("devices", [1, 2])
def test_the_running_variance_is_unbiased(devices):
    x = np.random.default_rng(0).normal(2.0, 3.0, (4, 2, 3)).astype(np.float32)
    strategy = strategies.make_strategy(devices)
    with strategy.scope():
        layer = BatchNormalization()
        layer.build((None, 2, 3))
    parts = strategy.experimental_distribute_values_from_function(
        lambda context: tf.split(tf.constant(x), devices)[context.replica_id_in_sync_group]
    )
    train = tf.function(lambda part: layer(part, training=True))
    outputs = strategy.run(train, args=(parts,))
    outputs = np.concatenate([np.array(y) for y in strategy.experimental_local_results(outputs)])
    flat = x.reshape(-1, 3)
    np.testing.assert_allclose(outputs, (x - flat.mean(0)) / np.sqrt(flat.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(np.array(layer.moving_mean), 0.1 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(np.array(layer.moving_variance), 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-5)
