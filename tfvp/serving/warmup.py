"""Requests with which TF Serving warms up a model before it serves it: assets.extra/tf_serving_warmup_requests.

The file is a TFRecord of `PredictionLog` messages (tensorflow_serving/apis/prediction_log.proto),
written here byte by byte, since the package of these messages pins its own TensorFlow.
"""

import pathlib

import numpy as np
import tensorflow as tf

FILE = pathlib.PurePosixPath("assets.extra/tf_serving_warmup_requests")


def write(saved_model, name, requests):
    """Writes the warm-up file of a SavedModel.

    Args:
        saved_model: its folder.
        name: of the model, as it will be served.
        requests: list of (signature name, {input name: array}).

    Returns:
        The path written.
    """
    path = pathlib.Path(saved_model) / FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs in requests:
            writer.write(prediction_log(name, signature, inputs))
    return path


def requests_for(served, context, horizon):
    """Requests of batch 1 with black frames for every signature; see `write`.

    Args:
        served: a `tfvp.serving.signatures.ServedModel`.
        context: frames to observe.
        horizon: frames to predict.
    """
    functions = served.functions()
    black = np.zeros((1, context, *served.image_shape), np.uint8)
    values = {
        "context": black,
        "horizon": np.array([horizon]),
        "samples": np.ones([1]),
        "seed": np.zeros([1]),
    }
    observed = functions["observe"][1]
    values.update(served.observe(**{key: tf.constant(values[key], spec.dtype) for key, spec in observed.items()}))
    requests = []
    for name, (_, specs) in functions.items():
        files = {"context": tf.io.encode_png(black)} if name == "serving_encoded" else {}
        given = {**values, **files}
        inputs = {key: np.asarray(given[key], spec.dtype.as_numpy_dtype) for key, spec in specs.items()}
        requests.append((name, inputs))
    return requests


def prediction_log(name, signature, inputs):
    """A serialised `PredictionLog` with one `PredictRequest`."""
    spec = _field(1, name.encode()) + _field(3, signature.encode())  # ModelSpec.name, .signature_name
    request = _field(1, spec)  # PredictRequest.model_spec, then the map .inputs
    for key, value in inputs.items():
        tensor = tf.make_tensor_proto(value).SerializeToString()
        request += _field(2, _field(1, key.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))  # PredictionLog.predict_log.request


def _field(number, payload):
    """A length-delimited field of the protocol-buffer wire format."""
    return _varint(number << 3 | 2) + _varint(len(payload)) + payload


def _varint(value):
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
