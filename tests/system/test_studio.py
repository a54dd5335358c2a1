"""The studio's server: what it lists, predicts, takes, refuses and forgets."""

import functools
import io
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("uvicorn", reason='pip install "tfvp[studio]"')
pytest.importorskip("starlette", reason='pip install "tfvp[studio]"')

import uvicorn

from tests.golden import ROOT
from tests.system.commands import sentence_of
from tests.system.studio_user import ZOO, Browser
from tfvp import cli, video_io
from tfvp import config as configuration
from tfvp import run as runs
from tfvp.models.build import build_model
from tfvp.models.structure import StructureGenerator
from tfvp.prediction import forecast
from tfvp.studio import limits
from tfvp.studio.server import Studio

TINY, BROKEN = "run/tiny", "run/broken"

pytestmark = pytest.mark.usefixtures("plain_graphs")


@pytest.fixture(scope="module")
def logdir(tmp_path_factory):
    """A run of a stochastic model of label maps with fresh weights, and one that cannot be read."""
    folder = tmp_path_factory.mktemp("logs")
    options = {key: value for key, value in StructureGenerator.small_variants[""].items() if key != "classes"}
    values = {
        "model": {"name": "hierarchical_structure", "classes": 5, "initializer": "he", **options},
        "data": {"name": "shapes", "labels": "true", "image_size": 16, "channels": 3},
        "eval": {"open_loop_ctx": 3, "eval_seq_len": 8},
    }
    run = runs.Run.start(folder, configuration.from_dict(values, "tiny"))
    runs.save_weights(build_model(run.config), run.path / "model" / "best.weights.h5")
    (folder / "broken").mkdir()
    (folder / "broken" / "config.yml").write_text("model: {name: convlstm_opnstl}\n")
    return folder


@pytest.fixture(scope="module")
def studio(logdir):
    """A running studio; no connection to another host is made meanwhile."""
    outside, connect = [], socket.socket.connect

    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1"):
            outside.append(address)
            raise OSError("the network is cut")
        return connect(self, address)

    socket.socket.connect = guarded
    listener = socket.create_server(("127.0.0.1", 0))
    made = Studio(logdir, port=listener.getsockname()[1])
    made.port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(made.app, lifespan="on", log_level="warning", timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, args=[[listener]], daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.02)
        yield made
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive() and made.closing
        assert not outside
    finally:
        socket.socket.connect = connect


@pytest.fixture
def browser(studio):
    return Browser(studio)


@pytest.fixture
def clip(tmp_path):
    """(the bytes of a GIF, its path): a square that moves."""
    frames = np.zeros((16, 32, 32, 1), np.uint8)
    for t, frame in enumerate(frames):
        frame[8:18, 2 + t : 12 + t] = 200
    video_io.write_video(tmp_path / "my clip.gif", frames)
    return (tmp_path / "my clip.gif").read_bytes(), tmp_path / "my clip.gif"


def run_command(studio, monkeypatch, command, identity, path, out):
    """Predictions uint8 [frames, H, W, C] that a command line writes, with the model that the studio has loaded."""
    loaded = studio.models.load(studio.models.find(identity))
    monkeypatch.setattr(forecast, "load_run", lambda path, weights: loaded.model)
    words = shlex.split(command)
    if path is not None:
        words[words.index("--video") + 1] = str(path)
    assert words[:2] == ["tfvp", "predict"]
    cli.execute([*words[1:], "--out", str(out)])
    return np.load(out)


def test_models_are_listed_with_what_is_known_of_them(browser, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "card.yml").write_text("title: x\n")
    monkeypatch.setenv("TFVP_ZOO", str(tmp_path))
    models = {model["id"]: model for model in browser.json("GET", "/api/models")["models"]}
    shipped, tiny = models[ZOO], models[TINY]
    assert shipped["source"] == "zoo" and shipped["image_size"] == [32, 32] and shipped["context_step"] == 1
    assert shipped["draws"] and not shipped["stochastic"] and not shipped["observes_labels"]
    psnr = next(number for number in shipped["numbers"] if number["metric"] == "psnr")
    assert psnr["mean"] == pytest.approx(18.1, abs=0.1) and psnr["ci95"] > 0 and psnr["unit"] == "dB"
    status, headers, picture = browser.ask("GET", f"/{shipped['picture']}")
    assert status == 200 and headers["content-type"] == "image/gif" and Image.open(io.BytesIO(picture)).n_frames > 5
    assert tiny["stochastic"] and tiny["observes_labels"] and tiny["context"] == 3 and tiny["horizon"] == 5
    assert [one["id"] for one in tiny["clips"]][:2] == ["example/0", "example/1"] and tiny["numbers"] == []
    assert models["zoo/cwvae-long-mmnist-64"]["context_step"] == 4 and models["zoo/cwvae-long-mmnist-64"]["draws"]
    assert models["zoo/iam4vp-mmnist-32"]["context_min"] == 10
    assert "did you mean 'convlstm_openstl'" in models[BROKEN]["problem"]
    assert "did you mean" in browser.predict(400, model=BROKEN)
    assert "card.yml cannot be read (it has no weights)" in models["zoo/mine"]["problem"]
    assert "it has no weights" in browser.predict(400, model="zoo/mine")
    assert browser.json("GET", "/api/about")["limits"]["horizon"] == 300


def test_an_upload_s_future_is_that_of_the_command(studio, browser, clip, tmp_path, monkeypatch):
    contents, path = clip
    upload = browser.upload(path.name, contents)
    assert upload["frames"] == 16 and upload["title"] == "my clip.gif" and upload["notes"] == []
    assert browser.json("GET", f"/api/clips?model={ZOO}&id={upload['id']}")["frames"] == 16
    assert browser.ask("POST", "/api/models", {"model": ZOO})[0] == 202
    address = browser.predict(clip=upload["id"], horizon=13, seed=5)
    events = browser.events(address)
    seen = dict(reversed(events))["observed"]
    assert seen["known"] == 16 and browser.frames(seen["strip"]).shape == (16, 32, 32)
    told = [contents for name, contents in events if name == "frames"]
    assert [part["from"] for part in told] == [0, 2, 6] and told[-1]["to"] == 13
    assert events[-1][1]["state"] == "done" and events[-1][1]["frames"] == 13

    result = browser.result(address)
    archive = np.load(io.BytesIO(browser.ask("GET", f"/{result['downloads']['npz']}")[2]))
    assert archive["futures"].shape == (1, 13, 32, 32, 1) and archive["truth"].shape[0] == 6 and archive["seed"] == 5
    made = run_command(studio, monkeypatch, result["command"], ZOO, path, tmp_path / "out.npy")
    np.testing.assert_array_equal(archive["futures"][0], made)
    chunks = np.concatenate([browser.frames(part["strips"][0]) for part in told])
    np.testing.assert_array_equal(chunks, made[..., 0])

    players = {player["key"]: player for player in result["players"]}
    assert list(players) == ["truth", "future/0", "difference/0"]
    assert {player["frames"] for player in players.values()} == {23}
    future = browser.frames(players["future/0"]["strip"])
    np.testing.assert_array_equal(future[10:], made[..., 0])
    truth = browser.frames(players["truth"]["strip"])
    np.testing.assert_array_equal(truth[:10], future[:10])
    assert not truth[16:].any()
    difference = browser.frames(players["difference/0"]["strip"])
    np.testing.assert_array_equal(difference[10:16], np.abs(truth[10:16].astype(int) - future[10:16]))

    error = np.mean(((truth[10:16] - future[10:16].astype(float)) / 255) ** 2, axis=(1, 2))
    curve = result["curves"]["psnr"]
    assert curve["futures"][0][:6] == pytest.approx(-10 * np.log10(error), abs=0.1)
    assert curve["futures"][0][6:] == [None] * 7 and set(curve["baselines"]) == {"copy_last", "mean_frame"}
    assert result["scored"] == 6 and any("only these can be scored" in note for note in result["notes"])
    path = tmp_path / "future.mp4"
    path.write_bytes(browser.ask("GET", f"/{result['downloads']['mp4']}")[2])
    assert video_io.read_video(path).shape[:1] == (23,)
    assert Image.open(io.BytesIO(browser.ask("GET", f"/{result['downloads']['gif']}")[2])).n_frames > 10


def test_futures_of_label_maps_are_those_of_the_command(studio, browser, tmp_path, monkeypatch):
    drawn = browser.json("POST", "/api/clips", {"model": TINY, "draw": 1007}, 201)
    assert drawn["id"] == "draw/1007" and drawn["frames"] == limits.DRAWN_FRAMES
    asked = {"model": TINY, "clip": drawn["id"], "start": 2, "observed": 3, "horizon": 6, "futures": 3}
    results = [browser.result(browser.predict(**asked, seed=seed)) for seed in (4, 4, 5)]
    first, again, other = (
        np.load(io.BytesIO(browser.ask("GET", f"/{result['downloads']['npz']}")[2])) for result in results
    )
    np.testing.assert_array_equal(first["futures"], again["futures"])
    assert (first["futures"] != other["futures"]).any() and (first["futures"][0] != first["futures"][1]).any()
    command = results[0]["command"]
    assert "--test-clip 7 --start 2" in command and "--num-samples 3 --seed 4" in command
    made = run_command(studio, monkeypatch, command, TINY, None, tmp_path / "out.npy")
    np.testing.assert_array_equal(first["futures"].reshape(made.shape), made)

    result = results[0]
    players = {player["key"]: player for player in result["players"]}
    kinds = ["truth", *["future"] * 3, "mean", "deviation", *["difference"] * 3, *["labels"] * 4]
    assert [player["kind"] for player in players.values()] == kinds and result["ranked_by"] == "psnr"
    means = [np.mean(values) for values in result["curves"]["psnr"]["futures"]]
    assert [player["best"] for player in players.values() if "best" in player] == [m == max(means) for m in means]
    assert [player["worst"] for player in players.values() if "worst" in player] == [m == min(means) for m in means]
    mean = browser.frames(players["mean"]["strip"])
    expected = first["futures"][..., :3].mean(axis=0)
    assert np.abs(mean[3:] - expected).max() <= 0.5
    deviation = browser.frames(players["deviation"]["strip"])
    assert np.abs(deviation[3:] - 2 * first["futures"][..., :3].std(axis=0).mean(axis=-1)).max() <= 0.51
    assert any("lpips is left out" in note for note in result["notes"])
    refused = browser.upload("clip.gif", (studio.models.find(ZOO).path / "clip.gif").read_bytes(), TINY, 400)
    assert "label maps" in refused["error"]


def test_what_is_no_video_gets_a_sentence(browser, clip, tmp_path):
    said = browser.upload("../../etc/notes.txt", b"these are notes, no video at all", status=400)["error"]
    assert said.startswith("notes.txt is not a video that can be read here")
    video_io.write_video(tmp_path / "clip.mp4", np.random.default_rng(0).integers(0, 255, (9, 64, 64, 3), np.uint8))
    whole = (tmp_path / "clip.mp4").read_bytes()
    assert browser.upload("clip.mp4", whole)["frames"] == 9
    said = browser.upload("cut.mp4", whole[: len(whole) // 2], status=400)["error"]
    assert said.startswith("cut.mp4 is") and "damaged" in said
    said = browser.upload("huge.gif", clip[0][:6] + b"\xff\xff\xff\xff" + clip[0][10:], status=400)["error"]
    assert "65535 x 65535 pixels, which is too large" in said
    array = io.BytesIO()
    np.save(array, np.zeros((2, 8, 8), np.uint8))
    promise = array.getvalue().replace(b"(2, 8, 8), ", b"(99999999, 8, 8), ")[: len(array.getvalue())]
    assert "promises more than it holds" in browser.upload("array.npy", promise, status=400)["error"]
    assert browser.json("POST", "/api/clips", b"no form", 400, Content_Type="text/plain")["error"].endswith(".")
    assert browser.upload("../a/b\\c<d>.gif", clip[0])["title"] == "c_d_.gif"


def test_limits_are_kept(studio, browser, clip, monkeypatch):
    array = io.BytesIO()
    np.save(array, np.zeros((50, 32, 32), np.uint8))
    monkeypatch.setattr(limits, "UPLOAD_FRAMES", 30)
    upload = browser.upload("long.npy", array.getvalue())
    assert upload["frames"] == 30 and "its first 30 frames" in upload["notes"][0]
    monkeypatch.setattr(limits, "UPLOAD_BYTES", 1000)
    assert "larger than" in browser.upload("large.npy", bytes(10**5), status=413)["error"]
    for asked, sentence in (
        ({"horizon": 301}, "choose 1 to 300"),
        ({"futures": 17}, "choose 1 to 16"),
        ({"observed": 0}, "whole number from 1 on"),
        ({"horizon": "4"}, "whole number"),
        ({"model": "zoo/cwvae-long-mmnist-64", "observed": 10}, "a multiple of 4"),
        ({"model": "zoo/none"}, "there is no model"),
        ({"model": "../zoo"}, "there is no model"),
    ):
        assert sentence in browser.predict(400, **asked)
    assert "no such clip" in browser.predict(404, clip="example/../../0")
    assert "too many here" in browser.predict(400, observed=10**6)
    monkeypatch.setattr(limits, "RESULT_BYTES", 4000)
    assert "more than is kept" in browser.predict(400)
    assert "fewer than the 30 to observe" in failure(browser, observed=30, horizon=1)


def failure(browser, **asked):
    """The sentence that a prediction fails with."""
    state = browser.events(browser.predict(**asked))[-1][1]
    assert state["state"] == "failed"
    return state["error"]


def test_users_have_their_own(studio, browser, clip, monkeypatch):
    monkeypatch.setattr(limits, "KEPT", 1)
    other = Browser(studio)
    upload = browser.upload("mine.gif", clip[0])
    mine, theirs = browser.predict(clip=upload["id"]), other.predict()
    assert browser.result(mine)["clip"] == upload["id"] and other.result(theirs)["clip"] == "example/0"
    for address in (mine, f"{mine}/result", f"{mine}/events", f"{mine}/clip.png", f"{mine}/download.npz"):
        assert browser.ask("GET", address)[0] == 200 and other.ask("GET", address)[0] == 404
        assert Browser(studio).ask("GET", address)[0] == 404
    assert "no such clip" in other.predict(404, clip=upload["id"])
    assert other.ask("DELETE", mine)[0] == 404
    browser.result(browser.predict(horizon=1))
    assert browser.ask("GET", mine)[0] == 404 and other.ask("GET", theirs)[0] == 200


def test_what_waits_and_what_runs_can_be_cancelled(studio, browser, monkeypatch):
    gate, load = threading.Event(), studio.models.load
    monkeypatch.setattr(studio.models, "load", lambda offer: (gate.wait(30), load(offer))[1])
    monkeypatch.setattr(limits, "WAITING", 2)
    first, second = browser.predict(horizon=300), browser.predict()
    assert browser.json("GET", second)["ahead"] == 1 and browser.json("GET", second)["state"] == "queued"
    assert "not finished" in browser.predict(400)
    assert browser.json("DELETE", second)["state"] == "cancelled"
    assert browser.events(second)[-1][1]["state"] == "cancelled"
    browser.json("DELETE", first)
    gate.set()
    assert browser.events(first)[-1][1]["state"] == "cancelled"
    assert browser.ask("GET", f"{first}/result")[0] == 404
    assert browser.result(browser.predict())["horizon"] == 4


def test_a_session_ends(studio, clip, monkeypatch):
    browser = Browser(studio)
    upload = browser.upload("mine.gif", clip[0])
    kept = studio.sessions.find(browser.cookie.split("=")[1]).uploads[upload["id"]]
    address = browser.predict(clip=upload["id"])
    browser.result(address)
    studio.sessions.expire()
    assert browser.ask("GET", address)[0] == 200 and not kept.file.closed
    monkeypatch.setattr(limits, "IDLE_SECONDS", -1)
    studio.sessions.expire()
    assert kept.file.closed and browser.ask("GET", address)[0] == 404
    assert "no such clip" in browser.predict(404, clip=upload["id"])


def test_other_sites_are_refused(studio):
    browser = Browser(studio)
    own = f"127.0.0.1:{studio.port}"
    asked = {"model": ZOO, "draw": 1}
    status, headers, _ = browser.ask("POST", "/api/clips", asked, Origin=f"http://{own}")
    assert status == 201 and "HttpOnly; SameSite=Lax" in headers["set-cookie"]
    assert headers["content-security-policy"].startswith("default-src 'self';")
    for refused in (
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "null"},
        {"Host": f"evil.example:{studio.port}", "Origin": f"http://evil.example:{studio.port}"},
        {"Sec_Fetch_Site": "cross-site"},
    ):
        assert browser.ask("POST", "/api/clips", asked, **refused)[0] == 403, refused
    assert "--allow-host evil.example" in browser.json("GET", "/api/models", None, 403, Host="evil.example")["error"]
    for path in ("/server.py", "/../server.py", "/%2e%2e/server.py", "/page/index.html", "/api/none", "//etc/passwd"):
        assert browser.ask("GET", path)[0] == 404, path
    assert browser.ask("DELETE", "/api/models")[0] == 405


def test_behind_a_reverse_proxy(logdir):
    """With a prefix that the proxy leaves, or takes away, and its own name as the host or the origin."""
    import asyncio

    made = Studio(logdir, ("lab.example.org",), 1, "/studio")
    try:

        def ask(path, host, method="GET", **headers):
            sent = []
            raw = [(b"host", host.encode()), *((k.encode(), v.encode()) for k, v in headers.items())]
            scope = {
                "type": "http",
                "method": method,
                "path": path,
                "headers": raw,
                "query_string": b"",
                "scheme": "https",
            }

            async def receive():
                return {"type": "http.request", "body": b'{"model": 1}', "more_body": False}

            async def send(message):
                sent.append(message)

            asyncio.run(made.app(scope, receive, send))
            return sent[0]["status"], dict(sent[0]["headers"])

        assert ask("/studio/api/about", "lab.example.org")[0] == ask("/api/about", "lab.example.org")[0] == 200
        assert ask("/studio", "lab.example.org")[0] == 307
        assert ask("/api/about", "other.example.org")[0] == 403
        status, headers = ask("/api/predictions", "127.0.0.1:1", "POST", origin="https://lab.example.org")
        assert status == 400 and b"Path=/studio; HttpOnly; SameSite=Lax; Secure" in headers[b"set-cookie"]
    finally:
        made.close()


def test_the_command_starts_and_ends(logdir):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Exception, match="choose another --port"):
        cli.execute(["studio", "--port", str(taken.getsockname()[1])])
    command = [sys.executable, "-m", "tfvp", "studio", "--port", "0", "--logdir", str(logdir)]
    heeds = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background job ignores Ctrl-C
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=heeds, **pipes)
    try:
        said = process.stdout.readline()
        assert said.startswith("the studio is at http://127.0.0.1:"), process.communicate(timeout=5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130 and errors.strip() == "stopped"


def test_without_its_packages_the_command_says_what_to_install(here, monkeypatch):
    from tfvp.commands import studio as command

    monkeypatch.setattr(command, "PACKAGES", ("no_such_package",))
    status, _, said = here("tfvp/__main__.py", "studio")
    assert 'pip install "tfvp[studio]"' in sentence_of(status, said)
