"""Weights by name, in a file that either stack of TensorFlow and Keras reads.

Keras's own `.weights.h5` calls a variable by how that version of Keras tracks layers, so a file of Keras 2 cannot
be loaded by Keras 3. Here a variable is called by the attributes that lead to it from the model, which are tfvp's
own and Keras's public ones: "encoder/convolutions/0/kernel".
"""

import contextlib
import fnmatch
import os
import typing

import h5py
import numpy as np
import tensorflow as tf
from tensorflow import keras

from tfvp import compat, files
from tfvp.errors import UserError

FORMAT = "tfvp weights by name, 1"
SHOWN = 10
_NOT_PARTS = ("optimizer", "optimizers", "metrics")


def named(model) -> dict:
    """{name: variable} of everything that a built model computes with.

    Names are sorted, and the same under Keras 2 and 3. Variables of optimizers, metrics and seed generators are not
    among them.

    Raises:
        ValueError: two variables of one layer have the same name.
    """
    names, layers = {}, set()
    seen = {id(compat.backing_variable(v)) for metric in model.metrics for v in metric.variables}

    def walk(layer, path):
        if id(layer) in layers:
            return
        layers.add(id(layer))
        for part, value in sorted(_parts(layer), key=lambda pair: pair[0]):
            walk(value, f"{path}{part}/")
        for variable in layer.variables:  # those of the layers in it have been seen
            key, leaf = id(compat.backing_variable(variable)), variable.name.split(":")[0].split("/")[-1]
            # What Keras 3 calls its kernel.
            leaf = "kernel" if leaf == "depthwise_kernel" and not hasattr(layer, "pointwise_kernel") else leaf
            if key in seen or leaf == "seed_generator_state":
                continue
            if path + leaf in names:
                raise ValueError(f"two variables are called {path}{leaf}")
            seen.add(key)
            names[path + leaf] = variable

    walk(model, "")
    return dict(sorted(names.items()))


def save(model, path: str | os.PathLike, half: bool = False) -> None:
    """Writes a model's weights by name.

    Args:
        model: a built model.
        path: the file, .weights.h5.
        half: keep float32 as float16, which halves the file.
    """
    with files.atomic_write(path) as temporary, h5py.File(temporary, "w") as file:
        file.attrs["format"] = FORMAT
        for name, variable in named(model).items():
            value = np.array(tf.convert_to_tensor(variable))
            value = value.astype(np.float16) if half and value.dtype == np.float32 else value
            file.create_dataset(name, data=value, track_times=False)


def is_named(path: str | os.PathLike) -> bool:
    """Whether a file was written by `save`, and not by Keras."""
    with contextlib.suppress(OSError), h5py.File(path) as file:
        return file.attrs.get("format") == FORMAT
    return False


def read(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """{name: array} of a file that `save` wrote.

    Raises:
        UserError: it is damaged, or of another kind.
    """
    arrays = {}
    try:
        with h5py.File(path) as file:
            if file.attrs.get("format") != FORMAT:
                raise ValueError("it holds no weights by name")
            file.visititems(
                lambda name, item: arrays.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
            )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{path} is damaged or no file of weights ({' '.join(str(error).split())})") from None
    return arrays


def assign(model, arrays: dict[str, np.ndarray], source: str, skip: typing.Sequence[str] = ()) -> list[str]:
    """Gives a built model the arrays of a file.

    Args:
        model: a built model.
        arrays: {name: array}; see `named`.
        source: where they come from, for the message.
        skip: patterns (`fnmatch`) of names whose variables keep their values.

    Returns:
        The names that were skipped.

    Raises:
        UserError: a sentence for every variable that does not fit, and for every pattern that fits none.
    """
    variables = named(model)
    skipped = [name for name in variables if any(fnmatch.fnmatch(name, pattern) for pattern in skip)]
    wrong = [
        f"the pattern {pattern!r} fits no variable of the model"
        for pattern in skip
        if not fnmatch.filter(variables, pattern)
    ]
    for name, variable in variables.items():
        shape = tuple(variable.shape)
        if name in skipped:
            continue
        if name not in arrays:
            wrong.append(f"{name} {list(shape)} is not in the file")
        elif arrays[name].shape != shape:
            wrong.append(f"{name} is {list(shape)} here and {list(arrays[name].shape)} in the file")
    wrong += [
        f"{name} {list(arrays[name].shape)} of the file is not in the model"
        for name in sorted(arrays.keys() - variables.keys())
        if not any(fnmatch.fnmatch(name, pattern) for pattern in skip)
    ]
    if wrong:
        more = f"\n  and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
        listed = "".join(f"\n  {sentence}" for sentence in wrong[:SHOWN])
        raise UserError(
            f"the weights {source} do not fit the model; choose the options that they were trained with, or leave"
            f" variables out with train.initial_weights_skip:{listed}{more}"
        )
    for name in variables.keys() - set(skipped):
        variables[name].assign(tf.cast(arrays[name], variables[name].dtype))
    return skipped


def _parts(layer):
    """(name, layer) of the layers that a layer's attributes hold."""
    attributes = {key: value for key, value in vars(layer).items() if not key.startswith("_")}
    if isinstance(layer, keras.Sequential):
        attributes["layers"] = layer.layers
    for key, value in attributes.items():
        if key not in _NOT_PARTS:
            yield from _layers(key, value)


def _layers(key, value):
    if isinstance(value, keras.layers.Layer):
        yield key, value
    elif isinstance(value, dict):
        for part, one in value.items():
            yield from _layers(f"{key}/{part}", one)
    elif isinstance(value, (list, tuple)):
        for part, one in enumerate(value):
            yield from _layers(f"{key}/{part:02d}", one)
