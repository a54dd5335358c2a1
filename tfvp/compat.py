"""The one place that knows which versions of TensorFlow, Keras and tensorflow-addons run.

Original stack: TensorFlow 2.15 with Keras 2 and tensorflow-addons. Current stack: TensorFlow
2.16 and later with Keras 3. Everything else in tfvp is written once for both.
"""

import inspect
import warnings
import weakref
from importlib import metadata

import tensorflow as tf
from tensorflow import keras

KERAS_3 = hasattr(keras, "ops")


def free_gradients_with_graphs():
    """Makes the functions of `tf.custom_gradient` live as long as the graphs that they were traced in.

    TensorFlow keeps every one for good, in a global registry, and with it the graph, its constants and the graphs that
    it calls. `tf.nn.silu` and `all_reduce` are such functions, too, so that a process that loads model after model, or
    trains one after another, would grow with each. Called once, when this module is imported.
    """
    try:
        from tensorflow.python.framework import ops
        from tensorflow.python.ops import custom_gradient

        entries, original = ops.gradient_registry._registry, custom_gradient._graph_mode_decorator
    except (ImportError, AttributeError):  # another TensorFlow, which may keep them elsewhere
        return

    def decorated(function, args, kwargs):
        result = original(function, args, kwargs)
        first = tf.nest.flatten(result, expand_composites=True)[0]
        graph, name = first.graph, first.op.get_attr("_gradient_op_type").decode()
        if not hasattr(graph, "_tfvp_gradients"):
            graph._tfvp_gradients = {}
        graph._tfvp_gradients[name] = entries[name]["type"]
        entries[name]["type"] = _gradient_of(weakref.ref(graph), name)
        weakref.finalize(graph, entries.pop, name, None).atexit = False
        return result

    custom_gradient._graph_mode_decorator = decorated


def _gradient_of(graph, name):
    # An operation that asks for its gradient is part of the graph, which is alive then.
    return lambda op, *upstream: graph()._tfvp_gradients[name](op, *upstream)


free_gradients_with_graphs()


# Keras 2 would translate the Python of each layer of a step into TensorFlow's control flow, which steps are written in
# anyway; that took a third of the tracing. Keras 3 does not.
as_written = tf.autograph.experimental.do_not_convert


def optimizer_class(name):
    """The optimizer class called `name`, whatever its case and underscores, or None.

    Looks in `keras.optimizers`, then, on the original stack, in tensorflow-addons.
    """
    wanted = name.replace("_", "").lower()
    for module in _optimizer_modules():
        for candidate, cls in _optimizer_classes(module).items():
            if candidate.lower() == wanted:
                return cls
    return None


def optimizer_names():
    """The names that `optimizer_class` knows on this stack."""
    return sorted({name for module in _optimizer_modules() for name in _optimizer_classes(module)})


def _optimizer_modules():
    yield keras.optimizers
    if not KERAS_3:
        yield _addons().optimizers


def _optimizer_classes(module):
    found = {name: getattr(module, name) for name in dir(module) if "Optimizer" not in name}
    return {
        name: cls
        for name, cls in found.items()
        if isinstance(cls, type) and "learning_rate" in inspect.signature(cls).parameters
    }


def build_optimizer(optimizer, variables):
    """Creates the optimizer's variables, so that none is made inside a training step."""
    if hasattr(optimizer, "build"):
        optimizer.build(variables)
    else:  # tensorflow-addons still extends the optimizer class of Keras before 2.11
        optimizer.iterations  # noqa: B018 - the property creates the counter
        optimizer._create_all_weights(variables)


def optimizer_variables(optimizer):
    """The state of a built optimizer, as a list of variables in a stable order."""
    return list(optimizer.variables if KERAS_3 else optimizer.variables())


def apply_reduced_gradients(optimizer, gradients, variables):
    """Applies gradients that are already the same on every replica.

    To be called in a replica context. Keras 2 can be told not to reduce again; Keras 3 always
    adds the replicas' gradients up, so it gets each replica's share of the sum.

    Args:
        optimizer: a built `keras.optimizers.Optimizer`.
        gradients: list of tensors, equal on all replicas.
        variables: the variables that they belong to.
    """
    if not KERAS_3:
        optimizer.apply_gradients(zip(gradients, variables), experimental_aggregate_gradients=False)
        return
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        gradients = [gradient / replicas for gradient in gradients]
    optimizer.apply(gradients, variables)


def learning_rate(optimizer):
    """The learning rate of the optimizer's next update, a float.

    Keras 2's `learning_rate` is the last update's under a schedule, Keras 3's the next one's.
    """
    rate = getattr(optimizer, "_learning_rate", None)
    if rate is None:  # tensorflow-addons
        rate = optimizer.learning_rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return float(tf.convert_to_tensor(rate(optimizer.iterations)))
    return float(tf.convert_to_tensor(optimizer.learning_rate))


def plain_learning_rate(optimizer):
    """The learning rate that was assigned to an optimizer, a float; None under a schedule."""
    rate = getattr(optimizer, "_learning_rate", None)
    rate = optimizer.learning_rate if rate is None else rate
    if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule):
        return None
    return float(tf.convert_to_tensor(rate))


def total_over_replicas(strategy, logged):
    """The total over all replicas of a sum that a replica's step returned, where each replica has an equal share.

    Keras 2's metrics return the total within a replica, too; Keras 3's return the replica's share.
    """
    local = strategy.experimental_local_results(logged)[0]
    return local * strategy.num_replicas_in_sync if KERAS_3 else local


def variable_index(optimizer, variable):
    """The place of a variable among those that an optimizer was built with."""
    return optimizer._get_variable_index(variable) if KERAS_3 else optimizer._index_dict[optimizer._var_key(variable)]


def adam_moments(optimizer, variable):
    """The variables in which a built Adam or AdamW keeps the two moments of a variable's gradient."""
    place = variable_index(optimizer, variable)
    return optimizer._momentums[place], optimizer._velocities[place]


def add_counters(optimizer, count, name):
    """An int64 variable [count] of an optimizer, 0 at first, which its state includes."""
    if KERAS_3:
        return optimizer.add_variable((count,), dtype="int64", name=name)
    return optimizer.add_variable((count,), dtype=tf.int64, name=name)


def depthwise_kernel(layer):
    """The kernel of a built `DepthwiseConv2D`, [height, width, C, multiplier]."""
    return layer.kernel if KERAS_3 else layer.depthwise_kernel


def backing_variable(variable):
    """The `tf.Variable` (mirrored, under a strategy) behind a Keras variable."""
    return variable.value if KERAS_3 and isinstance(variable, keras.Variable) else variable


def warp(image, flow):
    """Samples an image where a flow points.

    Bilinear, with borders continued and pixel centres at whole numbers ("align corners"): no
    flow gives the image back exactly. tensorflow-addons does it on the original stack.

    Args:
        image: [B, H, W, C] float32.
        flow: [B, H, W, 2] float32, (x, y) in pixels.

    Returns:
        [B, H, W, C]: at p, the image at p + flow(p).
    """
    if KERAS_3:
        return bilinear_warp(image, flow)
    return _addons().image.dense_image_warp(image, -flow[..., ::-1])


def bilinear_warp(image, flow):
    """`warp` in TensorFlow's own operations."""
    shape = tf.shape(image)
    height, width = shape[1], shape[2]
    rows, columns = tf.meshgrid(tf.range(height), tf.range(width), indexing="ij")

    def corners(place, size):
        """The lower of the two pixels around each place, and the weight of the upper one."""
        place = tf.clip_by_value(place, 0.0, tf.cast(size - 1, tf.float32))
        low = tf.clip_by_value(tf.floor(place), 0.0, tf.cast(tf.maximum(size - 2, 0), tf.float32))
        return tf.cast(low, tf.int32), (place - low)[..., None]

    top, down = corners(tf.cast(rows, tf.float32) + flow[..., 1], height)
    left, right = corners(tf.cast(columns, tf.float32) + flow[..., 0], width)
    pixels = tf.reshape(image, [shape[0], height * width, shape[3]])

    def at(row, column):
        place = tf.minimum(row, height - 1) * width + tf.minimum(column, width - 1)
        found = tf.gather(pixels, tf.reshape(place, [shape[0], -1]), axis=1, batch_dims=1)
        return tf.reshape(found, shape)

    upper = at(top, left) * (1.0 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1.0 - right) + at(top + 1, left + 1) * right
    warped = upper * (1.0 - down) + lower * down
    warped.set_shape(image.shape)
    return warped


def _addons():
    """tensorflow-addons, which greets with a page of warnings and so is imported where it is needed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_addons
    return tensorflow_addons


def library_versions():
    """{package: version} of the libraries that results depend on."""
    packages = [
        "tensorflow",
        "keras",
        "tf-keras",
        "tensorflow-probability",
        "tensorflow-addons",
        "numpy",
        "av",
        "imageio",
    ]
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
