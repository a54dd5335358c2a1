"""Stand-ins for TF Serving: its REST and gRPC forms, as far as the client uses them, around a formula for a model."""

import base64
import http.server
import io
import json

import numpy as np
import tensorflow as tf
from PIL import Image

from tfvp.serving import client

SHAPE = (24, 32, 1)
CLIP = {"context": [-1, -1, *SHAPE]}
EACH = {"horizon": [-1], "seed": [-1]}
NOW = {
    client.SIGNATURE: {**CLIP, **EACH},
    client.FILES: {"context": [-1, -1], **EACH},
    client.FUTURES: {**CLIP, **EACH, "samples": [-1]},
}
BEFORE = {client.SIGNATURE: {**CLIP, "horizon": [], "seed": []}}
BYTES = {client.SIGNATURE: NOW[client.SIGNATURE]}


def predicted(context, horizon, seed, samples=1):
    """What the stand-ins' model says: the last frame, one brighter in each frame and future, from the seed on."""
    rows = len(context)
    horizon, seed, samples = (np.broadcast_to(np.asarray(n), [rows]) for n in (horizon, seed, samples))
    number = np.arange(samples.max())[:, None] + np.arange(horizon.max())
    return (
        np.asarray(context, np.uint8)[:, None, None, -1]
        + (number + seed[:, None, None]).astype(np.uint8)[..., None, None, None]
    )


class Model:
    """What both stand-ins share: the signatures, what they were asked, and failures before the first success."""

    def __init__(self, signatures=NOW, failures=()):
        self.signatures, self.failures, self.requests, self.metadata = signatures, list(failures), [], []

    def answer(self, signature, inputs):
        self.requests.append((signature, inputs))
        assert set(inputs) == set(self.signatures[signature])
        for key, shape in self.signatures[signature].items():
            assert np.ndim(inputs[key]) == len(shape), f"{key} has the wrong rank"
        video = predicted(**inputs)
        return video if signature == client.FUTURES else video[:, 0]


def rest_handler(model):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/moved/v1/models/tiny/metadata":
                return self.reply(302, {}, {"Location": "/v1/models/tiny/metadata"})
            described = {
                name: {"inputs": {key: {"tensor_shape": shape_of(shape)} for key, shape in inputs.items()}}
                for name, inputs in model.signatures.items()
            }
            self.serve(lambda: {"metadata": {"signature_def": {"signature_def": described}}})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self.serve(lambda: {"outputs": self.outputs(body["signature_name"], body["inputs"])})

        def outputs(self, signature, inputs):
            if signature == client.FILES:
                opened = [[Image.open(io.BytesIO(base64.b64decode(f["b64"]))) for f in c] for c in inputs["context"]]
                inputs = {**inputs, "context": np.stack([[np.asarray(i) for i in clip] for clip in opened])[..., None]}
                video = predicted(**inputs)[:, 0]
                model.requests.append((signature, inputs))
                files = [[as_file(frame) for frame in clip] for clip in video]
                return {"video_bytes": files, "frames": inputs["horizon"]}
            return {"video": model.answer(signature, inputs).tolist(), "frames": [1]}

        def serve(self, content):
            model.metadata.append(dict(self.headers))
            if model.failures:
                failure = model.failures.pop(0)
                if callable(failure):
                    return failure()
                status, headers = failure if isinstance(failure, tuple) else (failure, {})
                return self.reply(status, {"error": f"no: {self.headers.get('Authorization')}"}, headers)
            self.reply(200, content())

        def reply(self, status, content, headers=()):
            data = json.dumps(content).encode()
            self.send_response(status)
            for name, value in dict(headers).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    return Handler


def shape_of(shape):
    return {"dim": [{"size": str(size)} for size in shape]}


def as_file(frame):
    content = io.BytesIO()
    Image.fromarray(frame[..., 0]).save(content, "PNG")
    return {"b64": base64.b64encode(content.getvalue()).decode()}


def grpc_servicer(service):
    """A class of servicers, made of a `Model`; `service` is prediction_service_pb2_grpc."""
    import grpc
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

    class Servicer(service.PredictionServiceServicer):
        def __init__(self, model):
            self.model = model

        def ready(self, request, context):
            self.model.metadata.append(dict(context.invocation_metadata()))
            if self.model.failures:
                failure = self.model.failures.pop(0)
                if callable(failure):
                    failure()
                else:
                    said = dict(context.invocation_metadata()).get("authorization")
                    context.abort(getattr(grpc.StatusCode, failure), f"no: {said}")
            if request.model_spec.name != "tiny":
                context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name}")

        def GetModelMetadata(self, request, context):
            self.ready(request, context)
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, inputs in self.model.signatures.items():
                for key, shape in inputs.items():
                    info = signatures.signature_def[name].inputs[key]
                    info.tensor_shape.CopyFrom(tf.TensorShape([None if n < 0 else n for n in shape]).as_proto())
            answer = get_model_metadata_pb2.GetModelMetadataResponse()
            answer.metadata["signature_def"].Pack(signatures)
            return answer

        def Predict(self, request, context):
            self.ready(request, context)
            inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
            answer = predict_pb2.PredictResponse()
            video = self.model.answer(request.model_spec.signature_name, inputs)
            answer.outputs["video"].CopyFrom(tf.make_tensor_proto(video))
            return answer

    return Servicer
