"""The convolutions and matrix products of a piece of code: how much arithmetic, and how long alone."""

import collections
import contextlib
import time

import numpy as np

REPEATS, SECONDS = 5, 0.2  # the shortest of so many, within so many seconds per kind of operation


def _multiplications(kind, inputs, attributes, outputs):
    """Multiply-accumulates of an operation; 0 for all but convolutions and matrix products."""

    def size(tensor):
        return int(np.prod(tensor.shape))

    if kind == "Conv2D":
        return size(outputs[0]) * int(np.prod(inputs[1].shape[:3]))
    if kind == "Conv2DBackpropInput":
        return size(inputs[2]) * int(np.prod(inputs[1].shape[:3]))
    if kind == "Conv2DBackpropFilter":
        return size(inputs[2]) * int(np.prod(outputs[0].shape[:3]))
    if kind.startswith("DepthwiseConv2dNative"):
        whole = inputs[2] if "Backprop" in kind else outputs[0]
        kernel = outputs[0] if "Filter" in kind else inputs[1]
        return size(whole) * int(np.prod(kernel.shape[:2]))
    if kind in ("MatMul", "BatchMatMulV2"):
        turned = attributes.get("transpose_a", attributes.get("adj_x", False))
        return size(outputs[0]) * inputs[0].shape[-2 if turned else -1]
    return 0


class Operations:
    """Eager operations that multiply, as they were called.

    Attributes:
        calls: {description of an operation: how often it was called}.
        macs: multiply-accumulates of all calls.
        sizes: (kind, multiply-accumulates, numbers read and written) of each call, in order.
    """

    def __init__(self):
        self.calls, self.macs, self.sizes = collections.Counter(), 0, []

    def add(self, kind, inputs, attributes, outputs, op_name=None, graph=None):
        """What TensorFlow calls after every eager operation."""
        kind = _text(kind)
        names = [_text(name) for name in attributes[0::2]]
        macs = _multiplications(kind, inputs, dict(zip(names, attributes[1::2])), outputs)
        if macs:
            self.macs += macs
            numbers = sum(int(np.prod(t.shape)) for t in (*inputs, *outputs) if t.dtype.is_floating)
            self.sizes.append((kind, macs, numbers))
            values = tuple(tuple(v) if isinstance(v, list) else v for v in attributes[1::2])
            self.calls[kind, tuple(zip(names, values)), tuple(_signature(tensor) for tensor in inputs)] += 1

    def seconds_alone(self):
        """Seconds that all calls take when each is made again by itself, on noise, at its best."""
        from tensorflow.python.eager import context, execute

        total = 0.0
        for (kind, attributes, signatures), count in self.calls.items():
            inputs = [_tensor(signature) for signature in signatures]
            flat = tuple(
                part
                for name, value in attributes
                for part in (name, list(value) if isinstance(value, tuple) else value)
            )
            times = []
            while len(times) < REPEATS and (len(times) < 2 or sum(times) < SECONDS):
                began = time.perf_counter()
                execute.execute(kind.encode(), 1, inputs, flat, context.context())
                times.append(time.perf_counter() - began)
            total += count * min(times)
        return total


def of_a_step(model, batch):
    """The `Operations` of one training step of a compiled model, forward and backward, noted while it runs eagerly.

    Each replica of the model's strategy takes the whole batch.

    Its convolutions are ordinary ones, as the convention is, not those of `tfvp.layers.winograd`.
    """
    import tensorflow as tf

    from tfvp.layers import winograd

    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")  # it warns that running a strategy eagerly is slow
    tf.config.run_functions_eagerly(True)
    try:
        step = model.make_train_function(force=True) if model.own_train_function else None
        data = iter(tf.data.Dataset.from_tensors(batch).repeat())
        with winograd.direct(), recorded() as operations:
            if step is not None:
                step(data)
            else:
                model.distribute_strategy.run(model.train_step, args=(next(data),))
    finally:
        tf.config.run_functions_eagerly(False)
        logger.setLevel(level)
    return operations


@contextlib.contextmanager
def recorded():
    """Yields `Operations` to which every eager operation within the context is added."""
    from tensorflow.python.framework import op_callbacks  # the debugger's hook; there is no public one

    operations = Operations()
    op_callbacks.add_op_callback(operations.add)
    try:
        yield operations
    finally:
        op_callbacks.remove_op_callback(operations.add)


def _text(name):
    return name.decode() if isinstance(name, bytes) else name


def _signature(tensor):
    """Shape and type of a tensor of noise, or the values of one of sizes."""
    if tensor.dtype.is_integer:
        return ("values", tuple(int(n) for n in tensor.numpy()))
    return ("noise", tuple(tensor.shape), tensor.dtype.name)


def _tensor(signature):
    import tensorflow as tf

    if signature[0] == "values":
        return tf.constant(signature[1], tf.int32)
    return tf.cast(tf.random.normal(signature[1]), signature[2])
