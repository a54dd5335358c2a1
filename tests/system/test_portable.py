"""Models as TFLite and ONNX files, in the runtimes that such files are for."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tests.system.commands import TINY, sentence_of
from tfvp import config, registry
from tfvp import run as runs
from tfvp.models.build import build_model, load_run
from tfvp.serving import portable

BATCH, HORIZON, SEED = 2, 2, 7


def small(name, label):
    cls = registry.lookup("model", name)
    return cls(cls.small_image_shape, **cls.small_variants[label])


def in_litert(path, inputs):
    if importlib.util.find_spec("ai_edge_litert") is None:
        interpreter = tf.lite.Interpreter(str(path))  # what LiteRT was called as a part of TensorFlow
    else:
        from ai_edge_litert.interpreter import Interpreter

        interpreter = Interpreter(str(path))
    return interpreter.get_signature_runner()(**inputs)["video"]


def in_onnxruntime(path, inputs):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert {value.name for value in session.get_inputs()} == set(inputs)
    return session.run(["video"], inputs)[0]


RUNTIMES = {"tflite": in_litert, "onnx": in_onnxruntime}
CASES = [
    ("tflite", "svg", "lp", HORIZON),  # takes its noise as an input
    # Beyond the 3 frames of its queries, where it has a branch with a state inside.
    pytest.param("tflite", "iam4vp", "", 6, marks=pytest.mark.current_stack),
    pytest.param("onnx", "svg", "lp", HORIZON, marks=pytest.mark.current_stack),
    ("onnx", "simvp", "", HORIZON),  # plans a block of frames at some of them: a branch
]


def needs_converter(file_format):
    if file_format == "onnx":
        pytest.importorskip("tf2onnx", reason="tf2onnx is not installed")


@pytest.mark.parametrize(("file_format", "name", "label", "horizon"), CASES)
def test_a_file_predicts_as_the_model(file_format, name, label, horizon, tmp_path):
    needs_converter(file_format)
    if name == "iam4vp":
        needs_converter("onnx")  # resolves the branch
    model = small(name, label)
    frames = model.fewest_context
    context = np.random.default_rng(0).uniform(size=(BATCH, frames, *model.image_shape)).astype(np.float32)
    future = {"ids": tf.zeros([BATCH], tf.int64), "first_sample": SEED}
    expected = np.concatenate(list(model.rollout(tf.constant(context), horizon, **future)), axis=2)[:, 0]
    path = tmp_path / f"model.{file_format}"
    facts = portable.save(model, path, file_format, BATCH, frames, horizon)
    inputs = {"context": context}
    if facts["noise"]:
        inputs["noise"] = portable.PortableModel(model, BATCH, frames, horizon).draw_noise(SEED)
        assert inputs["noise"].shape == (BATCH, facts["noise"])
    assert model.stochastic == bool(facts["noise"])
    np.testing.assert_allclose(RUNTIMES[file_format](path, inputs), expected, rtol=1e-4, atol=1e-5)
    assert facts["operators"] in ("TFLite", "ONNX, opset 18"), "it needs no runtime with TensorFlow's operators"


OPENVINO = """
import sys
import numpy as np
import openvino as ov

compiled = ov.compile_model(ov.convert_model(sys.argv[1]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(sys.argv[3], compiled([np.load(sys.argv[2])])[0])
"""


def untrained(settings, logdir):
    """A run with the weights that it starts from."""
    started = runs.Run.start(logdir, settings)
    runs.save_weights(build_model(started.config), started.folder("model") / "best.weights.h5")
    return started


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("portable")
    (folder / "tiny.yml").write_text(TINY)
    return untrained(config.load(folder / "tiny.yml", ["data.image_size=16"]), folder / "logs")


@pytest.mark.parametrize("file_format", RUNTIMES)
def test_a_run_in_bfloat16_becomes_a_file_in_float32(file_format, run, tmp_path):
    needs_converter(file_format)
    values = run.config.to_dict()
    values["train"]["precision"] = "mixed_bfloat16"
    half = untrained(config.Config(values, "half"), tmp_path)
    path, about = portable.export(half, file_format, horizon=1)
    assert about["operators"] in ("TFLite", "ONNX, opset 18")
    context = np.random.default_rng(0).uniform(size=(1, 4, 16, 16, 1)).astype(np.float32)
    (expected,) = load_run(half.path, policy="float32").rollout(tf.constant(context), 1)
    found = RUNTIMES[file_format](path, {"context": context})
    np.testing.assert_allclose(found, np.asarray(expected)[:, 0], rtol=1e-4, atol=1e-5)


def test_the_description_counts_the_channel_of_label_maps(tmp_path, monkeypatch):
    monkeypatch.setattr(portable, "save", lambda *_: {})  # slow, and tested above
    model = {"name": "hierarchical_structure", "classes": 5, "width": 4, "code_size": 8, "latents": 2, "rnn_size": 8}
    data = {"name": "shapes", "labels": "true", "image_size": 16, "channels": 3}
    labelled = untrained(
        config.from_dict({"model": model, "data": data, "train": {"seq_len": 4}}, "labelled"), tmp_path
    )
    _, about = portable.export(labelled, "tflite")
    assert load_run(labelled.path).image_shape == (16, 16, 4) and about["preprocessing"]["channels"] == 4


@pytest.mark.parametrize("file_format", RUNTIMES)
def test_the_command_writes_a_file_that_openvino_reads(file_format, run, here, tmp_path):
    needs_converter(file_format)
    (tmp_path / "tfvp.py").write_text("from tfvp import cli\ncli.main()\n")
    arguments = ["export", "--logdir", run.path, "--format", file_format, "--batch", 3, "--horizon", 3]
    status, said, _ = here(tmp_path / "tfvp.py", *arguments)
    path = run.path / "export" / f"tiny_b3_c4_h3.{file_format}"
    assert status == 0 and f"written: {path}" in said
    about = json.loads(path.with_name(f"{path.name}.json").read_text())
    assert (about["batch"], about["context"], about["horizon"], about["noise"]) == (3, 4, 3, 0)
    assert about["preprocessing"]["image_size"] == [16, 16] and len(about["weights"]["sha256"]) == 64
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    context = np.random.default_rng(0).uniform(size=(3, 4, 16, 16, 1)).astype(np.float32)
    np.save(tmp_path / "context.npy", context)
    files = [path, tmp_path / "context.npy", tmp_path / "video.npy"]
    done = subprocess.run(
        [sys.executable, "-c", OPENVINO, *map(str, files)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-3000:]
    expected = np.concatenate(list(load_run(run.path).rollout(tf.constant(context), 3)), axis=2)[:, 0]
    np.testing.assert_allclose(np.load(tmp_path / "video.npy"), expected, rtol=1e-4, atol=1e-5)


def test_what_cannot_be_written_is_a_sentence(run, here, tmp_path, monkeypatch):
    (tmp_path / "tfvp.py").write_text("from tfvp import cli\ncli.main()\n")

    def refused(*arguments):
        status, _, said = here(tmp_path / "tfvp.py", "export", "--logdir", run.path, *arguments)
        return sentence_of(status, said)

    assert "--batch is for --format tflite and onnx" in refused("--batch", 2)
    assert "--max-horizon is for SavedModels" in refused("--format", "tflite", "--max-horizon", 9)
    assert "--batch and --horizon must be at least 1" in refused("--format", "tflite", "--horizon", 0)
    assert "--context=0 is too short" in refused("--format", "tflite", "--context", 0)
    monkeypatch.setitem(portable.NEEDED, "onnx", ("tf2onnx_that_is_not_there",))
    assert "needs tf2onnx_that_is_not_there; run: pip install 'tfvp[export]'" in refused("--format", "onnx")
    monkeypatch.setattr(portable, "_tflite", lambda model: (_ for _ in ()).throw(ValueError("no such operator\nmore")))
    said = refused("--format", "tflite")
    assert "convlstm_openstl cannot be written as tflite: no such operator; --format saved_model takes" in said
    assert not list((run.path / "export").glob("*_c4_h4*"))
