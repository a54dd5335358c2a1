"""Models from configurations, and trained ones from runs."""

import contextlib
import pathlib

import tensorflow as tf
from tensorflow import keras

from tfvp import config as configuration
from tfvp import registry
from tfvp import run as runs
from tfvp.errors import UserError
from tfvp.layers import label_maps
from tfvp.models import named_weights
from tfvp.zoo import shelf


def make_model(config, image_shape):
    """A model without weights; see `build_model`."""
    cls = registry.lookup("model", config.model.name)
    dataset = registry.lookup("dataset", config.data.name)
    if "labels" in cls.needs:
        if "labels" not in dataset.provides:
            raise UserError(
                f"model {config.model.name} needs label maps, which data set {config.data.name} does not provide"
            )
        if image_shape[-1] != 3:
            raise UserError(f"model {config.model.name} renders in colour; set data.channels to 3")
        image_shape = (*image_shape[:2], label_maps.CHANNELS)
    options = _model_options(config)
    try:
        model = cls(tuple(image_shape), **options)
    except (ValueError, ArithmeticError) as error:  # a layer was given a size that it cannot have
        reason = " ".join(str(error).split())
        raise UserError(
            f"model {config.model.name} cannot be made with these options ({reason}); look for sizes below 1"
        ) from error
    model.xla_rollouts = config.eval.xla
    return model


def _model_options(config):
    return {k: v.to_dict() if hasattr(v, "to_dict") else v for k, v in config.options("model").items()}


def resolve(config):
    """`config` with the model's options as this machine resolves them; see `VideoModel.resolve_options`."""
    options = registry.lookup("model", config.model.name).resolve_options(_model_options(config))
    values = config.to_dict()
    values["model"] = {**values["model"], **options}
    return configuration.Config(values, config.name)


def build_model(config, image_shape=None, batch_size=1, trace=True):
    """A built model with fresh weights.

    Args:
        config: a path of a YAML file, a nested dict, or a `tfvp.config.Config`.
        image_shape: (height, width, channels). Defaults to what the configuration says.
        batch_size: examples per replica that the model is traced with.
        trace: see `VideoModel.build_on`.

    Returns:
        A `tfvp.models.base.VideoModel`.

    Raises:
        UserError: the configuration, or its fit to the image, is wrong.
    """
    if isinstance(config, dict):
        config = configuration.from_dict(config)
    elif not isinstance(config, configuration.Config):
        config = configuration.load(config)
    model = make_model(config, image_shape or config.frame_shape)
    image_shape = model.image_shape
    length = config.train.seq_len
    spec = {
        "video": tf.TensorSpec([batch_size, length, *image_shape], tf.float32),
        "id": tf.TensorSpec([batch_size], tf.int64),
    }
    for key in model.needs:
        if key.startswith("flow"):
            spec[key] = tf.TensorSpec([batch_size, length, *image_shape[:2], 2], tf.float32)
    model.build_on(spec, trace)
    return model


@contextlib.contextmanager
def precision(policy):
    """Context manager: layers are made with the mixed-precision policy of that name, and the global one stays."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)


def load_run(path, weights="best", policy=None):
    """The trained model of a run.

    Args:
        path: a run, its `model/` folder, or a folder of runs (then the newest).
        weights: "best" or "last".
        policy: "float32" or "mixed_bfloat16", what the model computes in. Defaults to the run's `train.precision`.

    Returns:
        A `tfvp.models.base.VideoModel` with those weights: the moving average where the run keeps one. Its
        `dtype_policy` is `policy`, whatever the global one is; weights are float32 with either.

    Raises:
        UserError: no run, no weights, or weights that do not fit.
    """
    run = runs.find(path)
    return _load(run, run.weights_file(weights), policy or run.config.train.precision)


def _load(run, file, policy):
    """The model of a run with the weights of a file, which computes in a precision."""
    with precision(policy):
        model = build_model(run.config, trace=False)
    if named_weights.is_named(file):
        named_weights.assign(model, named_weights.read(file), str(file))
    else:
        runs.load_weights(model, file)
    return model


def read_weights(source):
    """The weights of a run or of a trained model, by name.

    Args:
        source: the name of a trained model (`tfvp list trained`), a run, a file of weights in its `model/` folder, or
            a file that `named_weights.save` wrote.

    Returns:
        {name: array}; see `named_weights.named`.

    Raises:
        UserError: there is none of that name, or it is damaged.
    """
    path = pathlib.Path(source).expanduser()
    if path.is_file():
        run = path.resolve().parent.parent
        if named_weights.is_named(path) or not (run / "config.yml").is_file():
            return named_weights.read(path)
        model = _load(runs.find(run), path, "float32")
    else:
        model = load_run(path if path.exists() else shelf.find(str(source)).path)
    return {name: tf.convert_to_tensor(v).numpy() for name, v in named_weights.named(model).items()}


def load_trained(name):
    """The trained model of a name; see `load_run`.

    Raises:
        UserError: there is none of that name, or its weights are damaged.
    """
    return load_run(shelf.find(name).path)
