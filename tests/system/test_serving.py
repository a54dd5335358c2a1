"""A served model: the warm-up file, and the client against a stand-in for TF Serving's REST form."""

import base64
import hashlib
import http.server
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import tensorflow as tf

import tfvp
from tests.system.commands import TINY
from tests.system.tf_serving import Server
from tfvp import cli, config, preprocessing, video_io
from tfvp import frames as frames_of
from tfvp.errors import UserError
from tfvp.models.build import build_model
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
        numbers = [value.numpy() for value in outputs.values() if value.dtype != tf.string]
        assert numbers and all(np.isfinite(value.astype(np.float32)).all() for value in numbers)
        seen.append(signature)
    assert sorted(seen) == sorted(served)


def test_the_warm_up_requests_are_the_official_messages(exported):
    logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")
    records = [record.numpy() for record in tf.data.TFRecordDataset(str(exported[1] / warmup.FILE))]
    requests = [logs.PredictionLog.FromString(record).predict_log.request for record in records]
    request = next(request for request in requests if request.model_spec.signature_name == "serving_default")
    assert set(request.inputs) == {"context", "horizon"}
    assert tf.make_ndarray(request.inputs["context"]).shape == (1, 4, 32, 32, 1)
    assert tf.make_ndarray(request.inputs["horizon"]).tolist() == [4]


@pytest.fixture(scope="module")
def server(exported):
    return Server(exported[1])


def examples(count, frames=5):
    return np.random.default_rng(5).integers(0, 256, (count, frames, 32, 32, 1)).astype(np.uint8)


def test_rows_and_batched_requests_get_what_each_gets_alone(server):
    frames, horizons = examples(3), np.array([2, 5, 1], np.int32)
    requests = [{"context": f[None], "horizon": h[None]} for f, h in zip(frames, horizons)]
    alone = [server.run("serving_uint8", **request)["video"][0] for request in requests]
    rows = server.rows("serving_uint8", [{"context": f.tolist(), "horizon": int(h)} for f, h in zip(frames, horizons)])
    batched = server.batched("serving_uint8", [requests[0], {"context": frames[1:], "horizon": horizons[1:]}])
    batched = [{key: value[0] for key, value in batched[0].items()}] + [
        {key: value[n] for key, value in batched[1].items()} for n in range(2)
    ]
    for answers in (rows, batched):
        for answer, expected in zip(answers, alone, strict=True):
            assert answer["video"].shape == (5, 32, 32, 1) and answer["frames"] == len(expected)
            assert np.abs(answer["video"][: len(expected)].astype(int) - expected).max() <= 1
            assert not answer["video"][len(expected) :].any()


def test_images_are_sent_and_come_back_as_files(server):
    colour = np.random.default_rng(6).integers(0, 256, (5, 32, 32, 3)).astype(np.uint8)
    files = [base64.b64encode(tf.io.encode_png(frame).numpy()).decode() for frame in colour]
    row = {"context": [{"b64": file} for file in files], "horizon": 3}
    answer = server.rows("serving_encoded", [row, {**row, "horizon": 1}])
    expected = server.run("serving_uint8", context=frames_of.luma(colour)[None], horizon=[3])["video"][0]
    for t in range(3):
        np.testing.assert_array_equal(tf.io.decode_png(answer[0]["video_bytes"][t]), expected[t])
    assert answer[1]["video_bytes"].tolist()[1:] == [b"", b""] and answer[1]["frames"] == 1


def as_files(frames):
    return tf.io.encode_png(frames).numpy()


@pytest.mark.parametrize(
    ("signature", "changes", "sentence"),
    [
        ("serving_default", {"context": examples(2)}, r"floats in \[0, 1\]"),
        ("serving_default", {"context": np.full([2, 5, 32, 32, 1], np.nan)}, "without NaN"),
        ("serving_uint8", {"context": examples(2)[:, :0]}, "context is too short: convlstm_openstl needs at least 1"),
        ("serving_uint8", {"context": examples(2)[:, :, :16]}, r"frames of 32 x 32 pixels.*\[2 5 16 32 1\]"),
        ("serving_uint8", {"context": examples(0), "horizon": np.zeros([0])}, "at least one example"),
        ("serving_uint8", {"horizon": [0, 3]}, r"horizon must be from 1 to 1000 frames.*\[0 3\]"),
        ("serving_uint8", {"horizon": [3, -1]}, "horizon must be from 1 to 1000 frames"),
        ("serving_uint8", {"horizon": [2**31 - 1, 3]}, "horizon must be from 1 to 1000 frames"),
        ("serving_uint8", {"horizon": [3]}, r"horizon must have one entry for each example.*\[1 2\]"),
        ("serving_encoded", {"context": as_files(examples(2)[:, :0])}, "context is too short"),
        ("serving_encoded", {"context": as_files(examples(2)[:, :, :16])}, r"images of 32 x 32.*\[16 32 1\]"),
        ("serving_encoded", {"context": np.full([2, 5], b"no image", object)}, "Unknown image file format"),
        ("observe", {"context": examples(2)}, r"floats in \[0, 1\]"),
    ],
)
def test_wrong_requests_get_a_sentence(server, signature, changes, sentence):
    good = {"context": as_files(examples(2)) if signature == "serving_encoded" else examples(2), "horizon": [3, 3]}
    inputs = {key: value for key, value in {**good, **changes}.items() if key in server.inputs(signature)}
    with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
        server.run(signature, **inputs)


def test_states_that_do_not_fit_get_a_sentence(server):
    state = server.run("observe", context=examples(2) / 255)
    with pytest.raises(tf.errors.InvalidArgumentError, match="state_.* must have one entry for each example"):
        server.run("imagine", horizon=[3], **state)
    with pytest.raises(tf.errors.InvalidArgumentError, match="needs at least 1 frames here"):
        server.run("observe_more", context=np.zeros([2, 0, 32, 32, 1]), **state)


def test_stochastic_models_draw_futures_within_limits(tmp_path):
    options = {"code_size": 6, "latents": 2, "rnn_size": 8, "width": 2, "context": 3, "prior": "fixed"}
    model = build_model(config.from_dict({"model": {"name": "svg", **options}}), (32, 32, 1))
    export.save(model, tmp_path / "served", export.Limits(horizon=6, samples=3))
    server = Server(tmp_path / "served")
    context = np.random.default_rng(7).integers(0, 256, (2, 1, 32, 32, 1)).astype(np.uint8)  # the fewest that it takes
    row = {"context": context[0].tolist(), "horizon": 2, "samples": 3, "seed": 4}
    drawn = server.rows("samples_uint8", [row, {**row, "samples": 1, "seed": 6, "horizon": 6}])
    assert [answer["video"].shape for answer in drawn] == [(3, 6, 32, 32, 1)] * 2
    assert np.abs(drawn[0]["video"][2, :2].astype(int) - drawn[1]["video"][0, :2]).max() <= 1  # future number 6
    assert drawn[0]["video"][:, 2:].max() == 0 and drawn[1]["video"][1:].max() == 0
    good = {"context": context, "horizon": [2, 2], "samples": [1, 2], "seed": [0, 1]}
    for changes, sentence in [
        ({"samples": [1, 4]}, r"samples must be from 1 to 3 futures \(`tfvp export --max-samples`\).*\[1 4\]"),
        ({"samples": [0, 1]}, "samples must be from 1 to 3 futures"),
        ({"horizon": [7, 1]}, "horizon must be from 1 to 6 frames"),
        ({"seed": [1]}, "seed must have one entry for each example"),
    ]:
        with pytest.raises(tf.errors.InvalidArgumentError, match=sentence):
            server.run("samples_uint8", **{**good, **changes})


def test_the_export_describes_itself(exported):
    run, folder = exported
    about = json.loads((folder / "assets.extra" / "model.json").read_text())
    expected = {
        **{"format": 1, "name": run.path.name, "model": "convlstm_openstl", "data": "moving_mnist"},
        **{"context": 4, "fewest_context": 1, "multiple": 1, "horizon": 4, "max_horizon": 1000, "max_samples": 1},
        **{"stochastic": False, "fps": None, "frame_stride": 1, "image_size": [32, 32], "channels": 1},
        **{"range": [0.0, 1.0], "precision": "float32", "version": tfvp.__version__},
    }
    assert {key: about[key] for key in expected} == expected
    assert about["preprocessing"] == preprocessing.Preprocessing.from_config(run.config).to_dict()
    file = run.path / about["weights"]["file"]
    assert about["weights"] == {
        **{"which": "best", "file": "model/best.weights.h5", "epoch": 1},
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
    loaded = tf.saved_model.load(str(folder)).signatures
    assert set(about["signatures"]) == set(loaded)
    for name, signature in loaded.items():
        outputs = about["signatures"][name]["outputs"]
        assert {key: (v["dtype"], v["shape"]) for key, v in outputs.items()} == {
            key: (value.dtype.name, value.shape.as_list()) for key, value in signature.structured_outputs.items()
        }
    encoded = about["signatures"]["serving_encoded"]["inputs"]
    assert encoded == {
        "context": {"dtype": "string", "shape": [None, None]},
        "horizon": {"dtype": "int32", "shape": [None]},
    }
    read = client.read_description(folder.parent)
    assert (read.context, read.max_horizon, read.preprocessing.image_size) == (4, 1000, (32, 32))


def test_limits_are_positive(exported):
    with pytest.raises(UserError, match="--max-horizon -1 and --max-samples 100 must be positive"):
        cli.execute(["export", "--logdir", str(exported[0].path), "--max-horizon", "-1"])


class StandIn(http.server.BaseHTTPRequestHandler):
    """The REST form of TF Serving's documentation, as far as the client uses it."""

    server_model, name, asked = None, "tiny", []

    def do_GET(self):
        if self.path != f"/v1/models/{self.name}/metadata":
            return self._answer({"error": "no such model"}, 404)
        self._answer({"metadata": {"signature_def": {"signature_def": self.server_model.metadata()}}})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != f"/v1/models/{self.name}:predict" or set(body) != {"signature_name", "inputs"}:
            return self._answer({"error": "malformed request"}, 400)
        self.asked.append(body["signature_name"])
        try:
            self._answer({"outputs": self.server_model.columns(body["signature_name"], body["inputs"])})
        except tf.errors.InvalidArgumentError as error:
            self._answer({"error": str(error)}, 400)

    def _answer(self, content, status=200):
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def address(server):
    handler = type("Handler", (StandIn,), {"server_model": server})
    http_server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=http_server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{http_server.server_address[1]}/v1/models/tiny"
    http_server.shutdown()


def test_the_client_gets_what_the_model_predicts(address, exported, tmp_path):
    video = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 1)).astype(np.uint8)
    np.save(tmp_path / "clip.npy", video)
    frames = ["--open-loop-ctx", "5", "--resize", "area", "--horizon", "7"]
    common = ["--url", address, "--video", str(tmp_path / "clip.npy"), *frames]
    cli.execute(["client", *common, "--out", str(tmp_path / "future.npy")])
    assert StandIn.asked[-1] == "serving_encoded"
    found = np.load(tmp_path / "future.npy")
    model = tfvp.load_run(exported[0].path)
    expected = next(model.rollout(tf.constant(video[None, -5:], tf.float32) / 255, 7))[0, 0]
    expected = np.round(np.clip(expected, 0, 1) * 255)
    assert found.shape == (7, 32, 32, 1) and np.abs(found - expected).max() <= 1
    cli.execute(["client", *common[:4], "--model-json", str(exported[1]), "--out", str(tmp_path / "own.npy")])
    expected = next(model.rollout(tf.constant(video[None, -4:], tf.float32) / 255, 4))[0, 0]
    found = np.load(tmp_path / "own.npy")
    assert found.shape == (4, 32, 32, 1) and np.abs(found - np.round(np.clip(expected, 0, 1) * 255)).max() <= 1
    cli.execute(["client", *common, "--out", str(tmp_path / "future.gif")])
    assert len(video_io.read_video(tmp_path / "future.gif")) == 12
    with pytest.raises(UserError, match="horizon must be from 1 to 1000 frames"):
        cli.execute(["client", *common, "--horizon", "1001", "--out", str(tmp_path / "future.npy")])


def test_saved_model_cli_runs_it(exported, tmp_path):
    context = np.random.default_rng(2).uniform(size=(2, 5, 32, 32, 1)).astype(np.float32)
    np.save(tmp_path / "context.npy", context)
    np.save(tmp_path / "horizon.npy", np.array([3, 2], np.int32))
    inputs = ";".join(f"{key}={tmp_path / key}.npy" for key in ("context", "horizon"))
    tool = [sys.executable, "-m", "tensorflow.python.tools.saved_model_cli", "run", "--dir", str(exported[1])]
    signature = ["--tag_set", "serve", "--signature_def", "serving_default"]
    done = subprocess.run(
        [*tool, *signature, "--inputs", inputs, "--outdir", str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr[-3000:]
    served = tf.saved_model.load(str(exported[1])).signatures["serving_default"]
    expected = served(context=tf.constant(context), horizon=tf.constant([3, 2]))["video"].numpy()
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
    assert StandIn.asked[-1] == client.FILES  # and gRPC sends bytes as they are
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
