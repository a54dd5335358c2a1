"""The client of a served model against servers in this process that speak TF Serving's forms."""

import contextlib
import http.server
import json
import socket
import ssl
import subprocess
import threading
import time
import types
from concurrent import futures

import numpy as np
import pytest

from tests.unit.serving_stand_ins import BEFORE, BYTES, NOW, SHAPE, Model, grpc_servicer, predicted, rest_handler
from tfvp import cli, video_io
from tfvp.errors import UserError
from tfvp.preprocessing import Preprocessing, preprocess
from tfvp.serving import client, transport
from tfvp.serving.description import FILE

TOKEN = "secret-token-1234"


@pytest.fixture
def rest():
    """(Model, TLS context or None) -> its address."""
    servers = []

    def start(model, tls=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), rest_handler(model))
        server.handle_error = lambda *_: None  # a client that hangs up is what some tests are about
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return f"http{'s' if tls else ''}://127.0.0.1:{server.server_address[1]}/v1/models/tiny"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def grpc_server():
    """(Model, (key, certificate) or None) -> host:port."""
    service = pytest.importorskip("tensorflow_serving.apis.prediction_service_pb2_grpc")
    import grpc

    servers, servicer = [], grpc_servicer(service)

    def start(model, pair=None):
        server = grpc.server(futures.ThreadPoolExecutor(2))
        service.add_PredictionServiceServicer_to_server(servicer(model), server)
        if pair:
            port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        else:
            port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        servers.append(server)
        return f"127.0.0.1:{port}"

    yield start
    for server in servers:
        server.stop(None)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(key file, certificate file) of a server that nobody trusts."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
        " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout key.pem -out certificate.pem"
    )
    try:
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"openssl makes no certificate: {error}")
    return folder / "key.pem", folder / "certificate.pem"


@pytest.fixture
def waits(monkeypatch):
    """The seconds that the client would have waited."""
    waited = []
    monkeypatch.setattr(transport, "time", types.SimpleNamespace(sleep=waited.append))
    return waited


def some_frames(clips=2, frames=4):
    return np.random.default_rng(0).integers(0, 256, (clips, frames, *SHAPE)).astype(np.uint8)


@pytest.mark.parametrize("signatures", [NOW, BEFORE, BYTES], ids=["now", "before", "bytes"])
def test_rest_and_grpc_send_what_the_signature_takes(rest, grpc_server, signatures):
    frames = some_frames()
    for server in (
        transport.Rest(rest(Model(signatures)), transport.Access()),
        transport.Grpc(grpc_server(Model(signatures)), "tiny", transport.Access()),
    ):
        served = client.Client(server)
        assert served.image_shape == SHAPE and served.stochastic
        np.testing.assert_array_equal(served.predict(frames, 5, seed=3), predicted(frames, 5, 3))
        if client.FUTURES in signatures:
            np.testing.assert_array_equal(served.predict(frames, 5, 3, samples=2), predicted(frames, 5, 3, 2))
        else:
            with pytest.raises(UserError, match="draws one future"):
                served.predict(frames, 5, samples=2)


def test_rest_sends_files_where_it_can(rest):
    model = Model()
    client.Client(transport.Rest(rest(model), transport.Access())).predict(some_frames(), 2)
    assert [signature for signature, _ in model.requests] == [client.FILES]
    np.testing.assert_array_equal(model.requests[0][1]["context"], some_frames())


def test_a_batching_server_may_answer_with_more(rest):
    model = Model(BYTES)
    longer = model.answer
    model.answer = lambda signature, inputs: longer(signature, {**inputs, "horizon": np.add(inputs["horizon"], 3)})
    served = client.Client(transport.Rest(rest(model), transport.Access()))
    np.testing.assert_array_equal(served.predict(some_frames(), 2), predicted(some_frames(), 2, 0))
    model.answer = lambda signature, inputs: longer(signature, {**inputs, "horizon": [1, 1]})
    with pytest.raises(UserError, match=r"array of shape \[2, 1, 1, 24, 32, 1\]"):
        served.predict(some_frames(), 2)


def test_busy_servers_are_asked_again(rest, grpc_server, waits):
    model = Model(failures=[503, (429, {"Retry-After": "7"}), 502, 504])
    transport.Rest(rest(model), transport.Access()).inputs()
    assert len(model.metadata) == 5 and len(waits) == 4
    assert 0.25 <= waits[0] <= 0.5 and waits[1] == 7 and 1 <= waits[2] <= 2 and 2 <= waits[3] <= 4
    waits.clear()
    model = Model(failures=["UNAVAILABLE"] * 3)
    served = client.Client(transport.Grpc(grpc_server(model), "tiny", transport.Access()))
    assert len(waits) == 3 and len(model.metadata) == 4 and served.image_shape == SHAPE


def test_there_is_an_end_to_it(rest, grpc_server, waits):
    access = transport.Access(retries=2)
    model = Model(failures=[503] * 9)
    with pytest.raises(UserError, match="status 503.*; tried 3 times"):
        transport.Rest(rest(model), access).inputs()
    assert len(model.metadata) == 3 and len(waits) == 2
    model = Model(failures=["UNAVAILABLE"] * 9)
    with pytest.raises(UserError, match=r"refuses: no: None \(UNAVAILABLE\); tried 3 times"):
        transport.Grpc(grpc_server(model), "tiny", access).inputs()
    assert len(model.metadata) == 3
    waits.clear()
    for server in (
        transport.Rest("http://127.0.0.1:9/v1/models/tiny", access),
        transport.Grpc("127.0.0.1:9", "tiny", access),
    ):
        with pytest.raises(UserError, match="refused.*tried 3 times"):
            server.inputs()
    assert len(waits) == 4
    assert all(transport.LONGEST_WAIT >= wait for wait in waits)


@pytest.fixture
def raw():
    """(bytes of every answer) -> the address of what sends them, and the connections that it took."""
    sockets = []

    def start(answer):
        listening, taken = socket.create_server(("127.0.0.1", 0)), []
        sockets.append(listening)

        def serve():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listening.accept()
                    with connection:
                        taken.append(connection.recv(65536))
                        connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models/tiny", taken

    yield start
    for listening in sockets:
        listening.close()


def test_answers_that_are_none(raw, waits):
    access, cut = transport.Access(retries=2), b"Content-Length: 500\r\n\r\n{"
    for answer, sentence, attempts in (
        (b"HTTP/1.1 200 OK\r\n" + cut, "broke off its answer.*; tried 3 times", 3),
        (b"HTTP/1.1 503 Busy\r\n" + cut, "refuses with status 503: {; tried 3 times", 3),
        (b"HTTP/1.1 400 No\r\n" + cut, "refuses with status 400: {", 1),
        (bytes.fromhex("00000c04000000000000030000006400"), "does not answer in HTTP; .* or --grpc", 1),
    ):
        address, taken = raw(answer)
        with pytest.raises(UserError, match=sentence):
            transport.Rest(address, access).inputs()
        assert len(taken) == attempts


@pytest.mark.parametrize("failure, code", [(400, "INVALID_ARGUMENT"), (401, "UNAUTHENTICATED"), (500, "INTERNAL")])
def test_a_refusal_is_final_and_keeps_the_secret(rest, grpc_server, waits, failure, code):
    access = transport.Access({"X-Key": "hidden-value"}, TOKEN)
    models = Model(failures=[failure]), Model(failures=[code])
    servers = transport.Rest(rest(models[0]), access), transport.Grpc(grpc_server(models[1]), "tiny", access)
    for model, server in zip(models, servers):
        with pytest.raises(UserError, match=r"refuses.*no: Bearer \*\*\*") as refusal:
            server.inputs()
        assert TOKEN not in str(refusal.value) and TOKEN not in repr(access) and "hidden-value" not in repr(access)
        headers = {key.lower(): value for key, value in model.metadata[0].items()}
        assert headers["authorization"] == f"Bearer {TOKEN}" and headers["x-key"] == "hidden-value"
    assert waits == []


def test_a_redirect_does_not_take_the_token_along(rest):
    model = Model()
    address = rest(model).replace("/v1/", "/moved/v1/")
    with pytest.raises(UserError, match="redirects to /v1/models/tiny/metadata; give that address"):
        transport.Rest(address, transport.Access(token=TOKEN)).inputs()
    assert model.metadata == []


def test_time_limits(rest, grpc_server, waits):
    release = threading.Event()
    access = transport.Access(timeout=0.3)
    for server in (
        transport.Rest(rest(Model(failures=[release.wait])), access),
        transport.Grpc(grpc_server(Model(failures=[release.wait])), "tiny", access),
    ):
        began = time.monotonic()
        with pytest.raises(UserError, match="did not answer within 0.3 s; raise --timeout"):
            server.inputs()
        assert time.monotonic() - began < 5
    release.set()


def test_tls(rest, grpc_server, certificate, waits):
    key, trusted = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(trusted, key)
    address = rest(Model(), context)
    access = transport.Access(ca=str(trusted), token=TOKEN)
    assert client.Client(transport.Rest(address, access)).image_shape == SHAPE
    with pytest.raises(UserError, match="certificate that is not trusted.*--ca"):
        transport.Rest(address, transport.Access()).inputs()
    assert waits == []
    with pytest.raises(UserError, match="holds no certificates"):
        transport.Rest(address, transport.Access(ca=str(key)))
    with pytest.raises(UserError, match="--ca .* does not exist"):
        transport.Access(ca="/nowhere/ca.pem")
    model = Model()
    port = grpc_server(model, (key.read_bytes(), trusted.read_bytes()))
    assert client.Client(transport.Grpc(port, "tiny", access)).image_shape == SHAPE
    assert model.metadata[0]["authorization"] == f"Bearer {TOKEN}"
    with pytest.raises(UserError, match="UNAVAILABLE"):
        transport.Grpc(port, "tiny", transport.Access(tls=True, retries=0)).inputs()


def description(**changes):
    preprocessing = Preprocessing(SHAPE[:2], 1, "crop", fps=5.0, frame_stride=2).to_dict()
    numbers = {"format": 1, "context": 3, "horizon": 6, "max_horizon": 8}
    return {**numbers, "model": "tiny", "preprocessing": preprocessing, **changes}


@pytest.fixture
def clip(tmp_path):
    """A video of 40 frames at 10 a second, of other proportions than the model's."""
    video = np.random.default_rng(1).integers(0, 256, (40, 30, 90, 1)).astype(np.uint8)
    video_io.write_video(tmp_path / "clip.avi", video, 10, "ffv1")
    return tmp_path / "clip.avi"


def test_the_command_sends_what_the_model_was_trained_on(rest, grpc_server, clip, tmp_path, capsys):
    (tmp_path / "export" / "3" / "assets.extra").mkdir(parents=True)
    (tmp_path / "export" / "12" / "assets.extra").mkdir(parents=True)
    (tmp_path / "export" / "3" / FILE).write_text(json.dumps(description(context=99)))
    (tmp_path / "export" / "12" / FILE).write_text(json.dumps(description()))
    whole = preprocess(Preprocessing.from_dict(description()["preprocessing"]), clip, None)
    model = Model()
    common = ["client", "--video", str(clip), "--horizon", "4", "--out", str(tmp_path / "future.npy"), "--seed", "2"]
    places = (["--url", rest(model)], ["--grpc", grpc_server(model), "--model", "tiny"])
    for place in places:
        cli.execute([*common, *place, "--model-json", str(tmp_path / "export")])
        np.testing.assert_array_equal(model.requests[-1][1]["context"], whole[None, -3:])
        np.testing.assert_array_equal(np.load(tmp_path / "future.npy"), predicted(whole[None, -3:], 4, 2)[0, 0])
    cli.execute([*common[:3], *common[5:], *places[0], "--model-json", str(tmp_path / "export")])
    assert np.load(tmp_path / "future.npy").shape == (6, *SHAPE), "not as far as the run's own evaluation"
    flags = ["--open-loop-ctx", "5", "--resize", "area", "--fps", "0", "--frame-stride", "3", "--start", "1"]
    cli.execute([*common, *places[0], *flags, "--num-samples", "2"])
    expected = preprocess(Preprocessing(SHAPE[:2], 1, "area", frame_stride=3), clip, 1, 5)
    np.testing.assert_array_equal(model.requests[-1][1]["context"], expected[None])
    assert np.load(tmp_path / "future.npy").shape == (8, *SHAPE)
    cli.execute([*common[:-4], *places[0], *flags, "--out", str(tmp_path / "future.png")])
    assert video_io.read_image(tmp_path / "future.png").shape == (26, 9 * 68, 3), "two panels: truth and prediction"
    assert capsys.readouterr().err == ""


def test_what_the_command_refuses(rest, clip, tmp_path):
    address = rest(Model())
    path = tmp_path / "model.json"

    def refused(*options):
        with pytest.raises(UserError) as refusal:
            cli.execute(["client", "--video", str(clip), *options])
        return str(refusal.value)

    def with_json(content, *options):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return refused("--url", address, "--model-json", str(path), *options)

    assert "give --model-json" in refused("--url", address)
    assert "give --url of the REST interface" in refused()
    assert "--grpc needs --model" in refused("--grpc", "127.0.0.1:9")
    assert "must be http://HOST" in refused("--url", "localhost:8501")
    assert "is no address (Port" in refused("--url", "http://localhost:85o1/v1/models/tiny")
    assert "holds no assets.extra/model.json" in refused("--url", address, "--model-json", str(tmp_path))
    assert "is not the description of an exported model" in with_json("{}")
    assert "is not the description of an exported model" in with_json("[1]")
    assert "has format 2, not 1" in with_json(description(format=2))
    assert "--horizon=9 is more than the 8" in with_json(description(), "--horizon", "9")
    assert refused("--url", address, "--open-loop-ctx", "5", "--resize", "area", "--start=-5").startswith(
        "--start=-5 must"
    )
    assert f"--seed={2**63} must be" in with_json(description(), "--seed", str(2**63))
    other = {**description()["preprocessing"], "image_size": [64, 64]}
    assert "but the served model takes [24, 32, 1]" in with_json(description(preprocessing=other))
    assert "18 frames" in with_json(description(context=50)) or "fewer than the 50" in with_json(
        description(context=50)
    )
    assert "env:NAME or file:PATH" in with_json(description(), "--token", TOKEN)
    assert "variable NO_SUCH_TOKEN is not set or empty" in with_json(description(), "--token", "env:NO_SUCH_TOKEN")
    assert "--timeout=0" in with_json(description(), "--timeout", "0")
    assert "names are letters" in with_json(description(), "--header", "a b=c")
    assert "no 'serving_uint8'" in refused("--url", rest(Model({"other": {}})))


def test_secrets_come_from_elsewhere(rest, clip, tmp_path, monkeypatch, capsys):
    model = Model()
    (tmp_path / "model.json").write_text(json.dumps(description()))
    (tmp_path / "key").write_text("key-of-a-file\n")
    monkeypatch.setenv("MY_TOKEN", TOKEN)
    cli.execute(
        ["client", "--video", str(clip), "--url", rest(model), "--model-json", str(tmp_path / "model.json")]
        + ["--token", "env:MY_TOKEN", "--header", f"X-Key=file:{tmp_path / 'key'}", "--header", "X-Plain=a=b"]
        + ["--horizon", "2", "--out", str(tmp_path / "future.npy")]
    )
    for headers in model.metadata:
        headers = {key.lower(): value for key, value in headers.items()}
        assert headers["authorization"] == f"Bearer {TOKEN}"
        assert headers["x-key"] == "key-of-a-file" and headers["x-plain"] == "a=b"
    assert TOKEN not in "".join(capsys.readouterr())
    assert transport.Rest("http://example.org/v1/models/x", transport.Access()).exposed
    assert not transport.Rest("https://example.org/v1/models/x", transport.Access()).exposed
    assert transport.model_of("https://host:1/a/v1/models/x/versions/3") == ("x", 3)
    with pytest.raises(UserError, match="--url holds a user name or password; send") as refusal:
        transport.Rest("https://me:hunter2@example.org/v1/models/x", transport.Access())
    assert "hunter2" not in str(refusal.value)
    (tmp_path / "key").write_text("\n")
    with pytest.raises(UserError, match="the file .*key is not set or empty"):
        transport.secret(f"file:{tmp_path / 'key'}", "--token")
    with pytest.raises(UserError, match="nowhere cannot be read"):
        transport.secret(f"file:{tmp_path / 'nowhere'}", "--token")
    assert transport.Access({"X": "1"}, TOKEN).without_secrets(f"1 {TOKEN}") == "1 ***"
    with pytest.raises(UserError, match="names no model"):
        transport.model_of("https://host:1/")
