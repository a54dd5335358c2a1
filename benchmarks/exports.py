"""Small models as SavedModel, TFLite and ONNX: which work, how exactly, how fast, in how much memory.

    tfvp benchmark exports [--only demo svg]

Weights are those that models start from: a converter does not care. Every measurement is a process
of its own, which loads the file in its own runtime (TensorFlow, LiteRT, onnxruntime) with all cores
and calls it for some seconds; memory is the peak of that process, the runtime's own included.
Latencies and memory of files are ratios to those of the SavedModel, measured in the same run.
"""

import importlib.util
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

from . import choice

CONFIGURATIONS = (
    "demo",
    "simvp/tiny",
    "iam4vp/tiny",
    "svg/tiny",
    "htsr/tiny_cwvae",
    "htsr/tiny_additive",
    "hierarchical/shapes_structure",
)
FORMATS = ("saved_model", "tflite", "onnx")
BATCHES = (1, 8)
MOST_PREDICTED = 10
SEED = 7
CALLS, SECONDS = (20, 200), 5.0


def run(options):
    names = choice.chosen(list(CONFIGURATIONS), options.only)
    print("\n".join(_heading()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            for line in _rows(name, pathlib.Path(folder) / name.replace("/", "_"), options.limit):
                print(line, flush=True)


def _heading():
    names = ["configuration", "format", "operators, or why not", "largest difference", "MB"]
    names += [f"{what}, batch {batch}" for batch in BATCHES for what in ("p50", "p99", "peak memory")]
    return ["| " + " | ".join(names) + " |", "|---" * len(names) + "|"]


def _rows(name, folder, limit):
    """The lines of one configuration."""
    folder.mkdir()
    reference = {}
    for kind in FORMATS:
        facts, results = [], []
        for batch in BATCHES:
            facts.append(_child(limit, "write", name, kind, batch, folder))
            if "error" not in facts[-1]:
                facts[-1].update(_child(limit, "measure", kind, batch, folder))
            results.append(facts[-1])
        failed = [fact["error"] for fact in facts if "error" in fact]
        operators = failed[0] if failed else facts[0]["operators"]
        works = [fact for fact in facts if "error" not in fact]
        difference = f"{max(fact['difference'] for fact in works):.1e}" if works else ""
        size = f"{works[0]['bytes'] / 1e6:.2f}" if works else ""
        cells = [cell for batch, fact in zip(BATCHES, results) for cell in _cells(fact, reference.get(batch))]
        if kind == "saved_model":
            reference = dict(zip(BATCHES, results))
        yield "| " + " | ".join([name, kind, operators, difference, size, *cells]) + " |"


def _cells(fact, reference):
    """p50, p99 and peak memory: absolute, or as ratios to those of the SavedModel."""
    if "error" in fact or "error" in (reference or {}):
        return ["", "", ""]
    if reference is None:
        return [f"{1e3 * fact['p50']:.1f} ms", f"{1e3 * fact['p99']:.1f} ms", f"{fact['peak MB']:.0f} MB"]
    return [f"{fact[key] / reference[key]:.2f}" for key in ("p50", "p99", "peak MB")]


def _child(limit, *arguments):
    """What a process of this module prints, or {"error": sentence}."""
    module = __spec__.name if __spec__ else "benchmarks.exports"
    root = pathlib.Path(__file__).resolve().parents[module.count(".")]
    command = [sys.executable, "-m", module, *map(str, arguments)]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {limit:.0f} s"}
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or ["ended without a word"])[-1]
        return {"error": said[:200].replace("|", "/")}
    return json.loads(lines[-1])


def write(name, kind, batch, folder):
    """Writes the file of one format, what to feed it and what it should answer; returns facts."""
    import tensorflow as tf
    from tensorflow import keras

    from tfvp import config
    from tfvp.errors import UserError
    from tfvp.models.build import build_model
    from tfvp.serving import export, portable

    settings = config.load(name)
    keras.utils.set_random_seed(0)
    model = build_model(settings)
    context = settings.eval.open_loop_ctx
    horizon = min(settings.eval.eval_seq_len - context, MOST_PREDICTED)
    video = np.random.default_rng(0).uniform(size=(batch, context, *model.image_shape)).astype(np.float32)
    path = folder / f"{kind}_{batch}"
    inputs = {"context": video}
    if kind == "saved_model":
        export.save(model, path)
        inputs["horizon"] = np.full([batch], horizon, np.int32)
        if model.stochastic:
            inputs["seed"] = np.full([batch], SEED, np.int64)
        facts = {"operators": "TensorFlow", "bytes": sum(p.stat().st_size for p in path.rglob("*") if p.is_file())}
    else:
        try:
            facts = portable.save(model, path, kind, batch, context, horizon)
        except UserError as error:
            return {"error": str(error)[:200].replace("|", "/")}
        facts["bytes"] = path.stat().st_size
        if facts["noise"]:
            inputs["noise"] = portable.PortableModel(model, batch, context, horizon).draw_noise(SEED)
    future = {"ids": tf.zeros([batch], tf.int64), "first_sample": SEED}
    expected = np.concatenate(list(model.rollout(tf.constant(video), horizon, **future)), axis=2)[:, 0]
    np.savez(folder / f"{kind}_{batch}.npz", expected=expected, **{f"given_{k}": v for k, v in inputs.items()})
    return facts


def measure(kind, batch, folder):
    """Loads a file in its runtime and calls it: latencies in seconds, the peak memory, the difference."""
    with np.load(folder / f"{kind}_{batch}.npz") as archive:
        inputs = {key.removeprefix("given_"): archive[key] for key in archive.files if key.startswith("given_")}
        expected = archive["expected"]
    call = {"saved_model": _saved_model, "tflite": _tflite, "onnx": _onnx}[kind](folder / f"{kind}_{batch}", inputs)
    difference = float(np.abs(call() - expected).max())
    times, begin = [], time.perf_counter()
    while len(times) < CALLS[0] or (time.perf_counter() - begin < SECONDS and len(times) < CALLS[1]):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    p50, p99 = np.percentile(times, [50, 99])
    return {"p50": p50, "p99": p99, "calls": len(times), "peak MB": peak_megabytes(), "difference": difference}


def _saved_model(path, inputs):
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    signature = loaded.signatures["serving_default"]
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return lambda: (signature(**tensors)["video"].numpy(), loaded)[0]


def _tflite(path, inputs):
    if importlib.util.find_spec("ai_edge_litert") is None:
        from tensorflow.lite import Interpreter
    else:
        from ai_edge_litert.interpreter import Interpreter
    predict = Interpreter(str(path), num_threads=os.cpu_count()).get_signature_runner()
    return lambda: predict(**inputs)["video"]


def _onnx(path, inputs):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda: session.run(["video"], inputs)[0]


def peak_megabytes():
    """The largest resident size of this process: that of its parent does not count, as it would in getrusage."""
    for line in pathlib.Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("/proc/self/status has no VmHWM; peak memory is measured on Linux alone")


if __name__ == "__main__":
    _action, *_rest = sys.argv[1:]
    _rest[-2:] = [int(_rest[-2]), pathlib.Path(_rest[-1])]
    print(json.dumps({"write": write, "measure": measure}[_action](*_rest)))
