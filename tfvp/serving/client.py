"""Asks a served model for the future of a video: `tfvp client --url URL --video clip.mp4 --horizon 20`.

URL is TF Serving's REST address of a model, http://host:8501/v1/models/NAME. With --grpc host:8500
the same request goes by gRPC, which needs tensorflow-serving-api. Both were tested against
stand-ins that speak the documented forms, not against the real server.
"""

import json
import urllib.error
import urllib.request

import numpy as np

from tfvp.errors import UserError

SIGNATURE = "serving_uint8"
TIMEOUT = 300.0  # seconds


def frame_shape(url):
    """(height, width, channels) that the served model takes, from its metadata.

    Raises:
        UserError: there is no server, no such model, or no signature that takes bytes.
    """
    try:
        inputs = _ask(f"{url}/metadata")["metadata"]["signature_def"]["signature_def"][SIGNATURE]["inputs"]
        sizes = [int(dim["size"]) for dim in inputs["context"]["tensor_shape"]["dim"]]
        return tuple(sizes[-3:]), "seed" in inputs
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{url} serves no model that tfvp exported: its metadata has no {error}") from None


def predict(url, frames, horizon, seed=0, seeded=False):
    """Predicts the frames that follow, by REST.

    Args:
        url: http://host:port/v1/models/NAME.
        frames: uint8 [B, T, H, W, C].
        horizon: frames to predict.
        seed: of the sampling, for stochastic models.
        seeded: whether the model takes a seed.

    Returns:
        uint8 [B, horizon, H, W, C].

    Raises:
        UserError: the server cannot be reached, or refuses the request.
    """
    inputs = {
        "context": np.asarray(frames).tolist(),
        "horizon": int(horizon),
        **({"seed": int(seed)} if seeded else {}),
    }
    answer = _ask(f"{url}:predict", {"signature_name": SIGNATURE, "inputs": inputs})
    outputs = answer.get("outputs")
    video = np.asarray(outputs["video"] if isinstance(outputs, dict) else outputs)
    if video.ndim != 5:
        raise UserError(f"{url} answered with something of shape {video.shape}, not with a video")
    return video.astype(np.uint8)


def predict_grpc(address, name, frames, horizon, seed=0, seeded=False):
    """As `predict`, by gRPC; `address` is host:port.

    Raises:
        UserError: tensorflow-serving-api is not installed, or the server refuses.
    """
    try:
        import grpc
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc
    except ImportError as error:
        raise UserError(f"--grpc needs tensorflow-serving-api ({error}); install it, or use --url alone") from None
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, SIGNATURE
    values = {"context": np.asarray(frames, np.uint8), "horizon": np.int32(horizon)}
    for key, value in {**values, **({"seed": np.int64(seed)} if seeded else {})}.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, options) as channel:
        try:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, TIMEOUT)
        except grpc.RpcError as error:
            raise UserError(f"{address} refuses: {error.details()}") from None
    return tf.make_ndarray(answer.outputs["video"])


def _ask(url, body=None):
    """The JSON that a server answers with.

    Raises:
        UserError: the server cannot be reached, or refuses the request.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        text = " ".join(error.read().decode(errors="replace").split())[:300]
        raise UserError(f"{url} refuses with status {error.code}: {text}") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{url} cannot be asked ({error}); is TF Serving running there?") from None
