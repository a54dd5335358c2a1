"""SavedModels in a runtime that shares nothing with TensorFlow: OpenVINO reads and runs them."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfvp import config
from tfvp.models.build import build_model
from tfvp.serving import export

MODELS = {
    "convlstm_keras": {"hidden": [6, 6], "kernels": [3, 3]},
    "convlstm_forecaster": {"hidden": [6, 6]},
    "iam4vp": {"filters": 4, "blocks": 2},
}
RUN = """
import sys
import numpy as np
import openvino as ov

given = np.load(sys.argv[2])
# Processors with bfloat16 would use it by themselves.
compiled = ov.compile_model(ov.convert_model(sys.argv[1]), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
np.save(sys.argv[3], compiled({"context": given["context"], "horizon": np.array([3, 3], np.int32)})["video"])
"""


@pytest.mark.current_stack
@pytest.mark.parametrize("name", MODELS)
def test_openvino_predicts_the_same(name, tmp_path):
    if importlib.util.find_spec("openvino") is None:
        pytest.skip("openvino is not installed")
    settings = config.from_dict({"model": {"name": name, **MODELS[name]}, "data": {"image_size": 32}})
    model = build_model(settings, (32, 32, 1))
    export.save(model, tmp_path / "served")
    context = np.random.default_rng(0).uniform(size=(2, 10, 32, 32, 1)).astype(np.float32)
    np.savez(tmp_path / "given.npz", context=context)
    found = tmp_path / "found.npy"
    arguments = [sys.executable, "-c", RUN, str(tmp_path / "served"), str(tmp_path / "given.npz"), str(found)]
    result = subprocess.run(arguments, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr[-3000:]
    served = tf.saved_model.load(str(tmp_path / "served")).signatures["serving_default"]
    expected = served(context=tf.constant(context), horizon=tf.constant([3, 3]))["video"]
    np.testing.assert_allclose(np.load(found), expected, rtol=1e-4, atol=1e-4)
