"""Two logical CPU devices for every test, so that several replicas can be tried anywhere."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# `make test` runs a process per core; with more threads each, they wait for one another.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")  # as tfvp's commands do on x86

import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp import compat

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


def pytest_collection_modifyitems(items):
    if not compat.KERAS_3:
        skipped = pytest.mark.skip(reason="does not depend on TensorFlow's version: tried on the current stack")
        for item in items:
            if item.get_closest_marker("current_stack"):
                item.add_marker(skipped)


@pytest.fixture(autouse=True)
def fresh_state():
    """Every test starts from the same seed and precision, whatever ran before it."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("float32")
    yield
    keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def plain_graphs():
    """Graphs as they are traced, for modules of many small graphs that run once or twice.

    Rewriting them takes a fifth of such a module's time; graphs of the commands, of serving and of the demo are
    rewritten as users' are.
    """
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
