"""What the comparisons with the references share."""

import pytest
import tensorflow as tf


@pytest.fixture(scope="module")
def plain_graphs():
    """Graphs as they are traced: rewriting them takes longer than thirty updates."""
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    yield
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": False})
