"""A served model: the warm-up file, and the client against a stand-in for TF Serving's REST form."""

import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

from tests.system.commands import TINY
from tfvp import cli, config, video_io
from tfvp.errors import UserError
from tfvp.serving import client, export, transport, warmup
from tfvp.training import loop


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """(run, folder of its SavedModel)."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "tiny.yml").write_text(TINY)
    settings = config.load(folder / "tiny.yml", ["train.epochs=1", "train.steps_per_epoch=2"])
    run = loop.train(settings, folder)
    return run, export.export(run)


def fields(data):
    """{field number: [payloads]} of a protocol-buffer message whose fields are all length-delimited."""
    found, place = {}, 0

    def varint():
        nonlocal place
        value, shift = 0, 0
        while True:
            byte = data[place]
            place += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while place < len(data):
        tag = varint()
        assert tag & 7 == 2
        length = varint()
        found.setdefault(tag >> 3, []).append(data[place : place + length])
        place += length
    return found


def test_the_warm_up_requests_run(exported):
    run, folder = exported
    served = tf.saved_model.load(str(folder)).signatures
    records = list(tf.data.TFRecordDataset(str(folder / warmup.FILE)))
    seen = []
    for record in records:
        parts = fields(fields(fields(record.numpy())[6][0])[1][0])
        spec = fields(parts[1][0])
        assert spec[1] == [run.path.name.encode()]
        inputs = {}
        for entry in parts[2]:
            pair = fields(entry)
            proto = tf.make_tensor_proto(0)
            proto.ParseFromString(pair[2][0])
            inputs[pair[1][0].decode()] = tf.constant(tf.make_ndarray(proto))
        signature = spec[3][0].decode()
        outputs = served[signature](**inputs)
        assert outputs and all(np.isfinite(v.numpy().astype(np.float32)).all() for v in outputs.values())
        seen.append(signature)
    assert seen == ["serving_default", "serving_uint8", "observe"]


def test_the_warm_up_requests_are_the_official_messages(exported):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    record = next(iter(tf.data.TFRecordDataset(str(exported[1] / warmup.FILE)))).numpy()
    request = logs.PredictionLog.FromString(record).predict_log.request
    assert request.model_spec.signature_name == "serving_default" and set(request.inputs) == {"context", "horizon"}
    assert tf.make_ndarray(request.inputs["context"]).shape == (1, 4, 32, 32, 1)


class StandIn(http.server.BaseHTTPRequestHandler):
    """The REST form of TF Serving's documentation, as far as the client uses it."""

    signatures, name = None, "tiny"

    def do_GET(self):
        if self.path != f"/v1/models/{self.name}/metadata":
            return self._answer({"error": "no such model"}, 404)
        inputs = self.signatures[client.SIGNATURE].structured_input_signature[1]
        shapes = {
            key: {"tensor_shape": {"dim": [{"size": str(n or -1)} for n in spec.shape]}} for key, spec in inputs.items()
        }
        signature = {client.SIGNATURE: {"inputs": shapes}}
        self._answer({"metadata": {"signature_def": {"signature_def": signature}}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"/v1/models/{self.name}:predict" or set(body) != {"signature_name", "inputs"}:
            return self._answer({"error": "malformed request"}, 400)
        signature = self.signatures[body["signature_name"]]
        specs = signature.structured_input_signature[1]
        inputs = {key: tf.constant(value, specs[key].dtype) for key, value in body["inputs"].items()}
        self._answer({"outputs": signature(**inputs)["video"].numpy().tolist()})

    def _answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(exported):
    handler = type("Handler", (StandIn,), {"signatures": tf.saved_model.load(str(exported[1])).signatures})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/v1/models/tiny"
    server.shutdown()


def test_the_client_gets_what_the_model_predicts(address, exported, tmp_path):
    import tfvp

    video = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 1)).astype(np.uint8)
    np.save(tmp_path / "clip.npy", video)
    frames = ["--open-loop-ctx", "5", "--resize", "area", "--horizon", "7"]
    common = ["--url", address, "--video", str(tmp_path / "clip.npy"), *frames]
    cli.execute(["client", *common, "--out", str(tmp_path / "future.npy")])
    found = np.load(tmp_path / "future.npy")
    model = tfvp.load_run(exported[0].path)
    expected = next(model.rollout(tf.constant(video[None, -5:], tf.float32) / 255, 7))[0, 0]
    expected = np.round(np.clip(expected, 0, 1) * 255)
    assert found.shape == (7, 32, 32, 1) and np.abs(found - expected).max() <= 1
    cli.execute(["client", *common, "--out", str(tmp_path / "future.gif")])
    assert len(video_io.read_video(tmp_path / "future.gif")) == 12


def test_saved_model_cli_runs_it(exported, tmp_path):
    context = np.random.default_rng(2).uniform(size=(2, 5, 32, 32, 1)).astype(np.float32)
    np.save(tmp_path / "context.npy", context)
    np.save(tmp_path / "horizon.npy", np.int32(3))
    inputs = ";".join(f"{key}={tmp_path / key}.npy" for key in ("context", "horizon"))
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(exported[1])]
    signature = ["--tag_set", "serve", "--signature_def", "serving_default"]
    done = subprocess.run(
        [*tool, *signature, "--inputs", inputs, "--outdir", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-3000:]
    served = tf.saved_model.load(str(exported[1])).signatures["serving_default"]
    expected = served(context=tf.constant(context), horizon=tf.constant(3))["video"].numpy()
    np.testing.assert_allclose(np.load(tmp_path / "video.npy"), expected, atol=1e-6)


@pytest.fixture
def grpc_address(exported):
    """The address of a stand-in for TF Serving's gRPC form, made of its official messages."""
    service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
    from concurrent import futures

    import grpc
    from tensorflow_serving.apis import get_model_metadata_pb2, predict_pb2

    signatures = tf.saved_model.load(str(exported[1])).signatures

    class Servicer(service.PredictionServiceServicer):
        def GetModelMetadata(self, request, context):
            served = get_model_metadata_pb2.SignatureDefMap()
            inputs = signatures[client.SIGNATURE].structured_input_signature[1]
            for key, spec in inputs.items():
                served.signature_def[client.SIGNATURE].inputs[key].tensor_shape.CopyFrom(spec.shape.as_proto())
            answer = get_model_metadata_pb2.GetModelMetadataResponse()
            answer.metadata["signature_def"].Pack(served)
            return answer

        def Predict(self, request, context):
            if request.model_spec.name != "tiny":
                context.abort(grpc.StatusCode.NOT_FOUND, f"no model {request.model_spec.name}")
            inputs = {key: tf.constant(tf.make_ndarray(value)) for key, value in request.inputs.items()}
            answer = predict_pb2.PredictResponse()
            for key, value in signatures[request.model_spec.signature_name](**inputs).items():
                answer.outputs[key].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return answer

    server = grpc.server(futures.ThreadPoolExecutor(1))
    service.add_PredictionServiceServicer_to_server(Servicer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(None)


def test_both_forms_give_the_same(address, grpc_address, tmp_path):
    np.save(tmp_path / "clip.npy", np.random.default_rng(1).integers(0, 256, (6, 32, 32, 1)).astype(np.uint8))
    common = ["--video", str(tmp_path / "clip.npy"), "--open-loop-ctx", "5", "--resize", "area", "--horizon", "7"]
    cli.execute(["client", *common, "--url", address, "--out", str(tmp_path / "rest.npy")])
    cli.execute(["client", *common, "--grpc", grpc_address, "--model", "tiny", "--out", str(tmp_path / "grpc.npy")])
    np.testing.assert_array_equal(np.load(tmp_path / "rest.npy"), np.load(tmp_path / "grpc.npy"))
    with pytest.raises(UserError, match="refuses: no model other"):
        transport.Grpc(grpc_address, "other", transport.Access()).predict(client.SIGNATURE, {})


def test_what_goes_wrong_is_said(address, tmp_path):
    np.save(tmp_path / "clip.npy", np.zeros((3, 32, 32, 1), np.uint8))
    command = ["client", "--url", address, "--video", str(tmp_path / "clip.npy"), "--resize", "area"]
    with pytest.raises(UserError, match="3 frames, fewer than the 10 to observe"):
        cli.execute([*command, "--open-loop-ctx", "10"])
    with pytest.raises(UserError, match="refuses with status 404"):
        transport.Rest(address.replace("tiny", "other"), transport.Access()).inputs()
