"""tfvp: video prediction in TensorFlow 2 and Keras.

`build_model(config, image_shape)` gives a built model, `load_run(path)` a trained one, and `load_pretrained(name)`
one of those that come with the package.
"""

from __future__ import annotations

import os
import typing

if typing.TYPE_CHECKING:
    from tfvp.config import Config
    from tfvp.models.base import VideoModel

__version__ = "0.2.0"

__all__ = ["__version__", "build_model", "load_pretrained", "load_run"]

# TensorFlow takes seconds to import; it is imported by the first call, so that `import tfvp` and the command's help
# are quick.


def build_model(
    config: str | os.PathLike | dict | Config, image_shape: tuple[int, int, int] | None = None
) -> VideoModel:
    """A built model with fresh weights.

    Args:
        config: a path of a YAML file, the name of a shipped one ("svg/smmnist"), a nested dict, or a
            `tfvp.config.Config`.
        image_shape: (height, width, channels). Defaults to what the configuration says.

    Returns:
        A `tfvp.models.base.VideoModel`.

    Raises:
        tfvp.errors.UserError: the configuration, or its fit to the image, is wrong.
    """
    from tfvp.models import build

    return build.build_model(config, image_shape)


def load_run(path: str | os.PathLike, weights: str = "best") -> VideoModel:
    """The trained model of a run.

    Args:
        path: a run, its `model/` folder, or a folder of runs (then the newest).
        weights: "best" or "last".

    Returns:
        A `tfvp.models.base.VideoModel` with those weights: the moving average where the run keeps one.

    Raises:
        tfvp.errors.UserError: no run, no weights, or weights that do not fit.
    """
    from tfvp.models import build

    return build.load_run(path, weights)


def load_pretrained(name: str) -> VideoModel:
    """A trained model by its name.

    Args:
        name: one of `tfvp list models --trained`, such as "cwvae-long-mmnist-64".

    Returns:
        A `tfvp.models.base.VideoModel`.

    Raises:
        tfvp.errors.UserError: there is none of that name, or its weights are damaged.
    """
    from tfvp.models import build

    return build.load_trained(name)
