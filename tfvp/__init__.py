"""tfvp: video prediction in TensorFlow 2 and Keras.

`build_model(config, image_shape)` gives a built model, `load_run(path)` a trained one.
"""

__version__ = "0.1.0"


def build_model(config, image_shape=None):
    """A built model with fresh weights.

    Args:
        config: a path of a YAML file, a nested dict, or a `tfvp.config.Config`.
        image_shape: (height, width, channels); what the configuration says where left out.

    Returns:
        A `tfvp.models.base.VideoModel`.

    Raises:
        tfvp.errors.UserError: the configuration, or its fit to the image, is wrong.
    """
    from tfvp import config as configuration
    from tfvp import training

    if isinstance(config, dict):
        config = configuration.from_dict(config)
    elif not isinstance(config, configuration.Config):
        config = configuration.load(config)
    if image_shape is None:
        size = config.data.image_size
        image_shape = (*((size, size) if isinstance(size, int) else size), config.data.channels)
    return training.build_model(config, image_shape)


def load_run(path, weights="best"):
    """The trained model of a run.

    Args:
        path: a run, its `model/` folder, or a folder of runs (then the newest).
        weights: "best" or "last".

    Returns:
        A `tfvp.models.base.VideoModel` with those weights, the moving average where the run
        keeps one.

    Raises:
        tfvp.errors.UserError: no run, no weights, or weights that do not fit.
    """
    from tfvp import run as runs

    found = runs.find(path)
    model = build_model(found.config)
    runs.load_weights(model, found.weights_file(weights))
    return model
