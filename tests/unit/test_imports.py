"""Imports point one way, and loading a model to serve it stays light."""

import ast
import pathlib
import subprocess
import sys

import tfvp

PACKAGE = pathlib.Path(tfvp.__file__).parent

# From the top down. A module may import modules of lower rows, and those of its own package.
ROWS = [
    {"__main__"},
    {"cli"},
    {"commands"},
    {"studio"},
    {"catalogue"},
    {"importers", "prediction", "serving"},
    {"training"},
    {"evaluation"},
    {"models", "datasets", "metrics"},
    {"pipeline"},
    {"layers"},
    {"preprocessing", "zoo"},
    {"run", "weights", "video_io"},
    {"changes", "video_arrays"},
    {"config", "frames", "video_parts"},
    {"video_decoding", "passing_errors"},
    {"registry", "files", "locks", "compat", "devices"},
    {"errors", "quiet"},
]
# Packages of one row that must not know each other: a model never reads a data set, a metric never runs a model.
APART = ("models", "datasets", "metrics")
LEVEL = {room: level for level, row in enumerate(ROWS) for room in row}


def imports(path):
    """Names of the `tfvp` modules that a file imports, at any depth of nesting, with their rooms."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names = [node.module]
            if node.module == "tfvp":
                names = [f"tfvp.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("tfvp.") and name.split(".")[1] in LEVEL:
                yield name, name.split(".")[1]


def room_of(path):
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def test_imports_point_down():
    wrong, seen = [], 0
    for path in sorted(PACKAGE.rglob("*.py")):
        room = room_of(path)
        if room == "__init__":  # the public functions, which import what they call
            continue
        assert room in LEVEL, f"{path} is in no row of this test: give its room one"
        for name, target in imports(path):
            seen += 1
            if target != room and (LEVEL[target] <= LEVEL[room] or room in APART and target in APART):
                wrong.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert seen > 300
    assert not wrong, "\n".join(wrong)


def test_loading_a_model_imports_no_training():
    """`import tfvp` is quick, and `load_run` brings in no callbacks, reports, matplotlib or TFP."""
    code = """
import sys, tfvp
assert "tensorflow" not in sys.modules, "import tfvp imports TensorFlow"
try:
    tfvp.load_run("there/is/no/such/run")
except tfvp.errors.UserError:
    pass
import tfvp.models.build
rooms = ("tfvp.training", "tfvp.evaluation", "tfvp.serving", "tfvp.prediction", "tfvp.datasets.")
heavy = [name for name in sys.modules if name.startswith(rooms)]
assert not heavy, heavy
from tfvp import registry
assert "htsr" in registry.names("model")
assert "tensorflow_probability" not in sys.modules, "a model imports TensorFlow Probability before it is chosen"
# Keras 3 itself imports matplotlib where it is installed; that tfvp does not, a second import shows.
for name in [name for name in sys.modules if name.split(".")[0] in ("matplotlib", "tfvp")]:
    del sys.modules[name]
import tfvp.models.build
assert "matplotlib" not in sys.modules, "tfvp imports matplotlib"
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]


def test_commands_import_no_matplotlib_by_importing_tensorflow():
    """Keras 3 would; it can be imported afterwards."""
    code = """
import sys
from tfvp import quiet
quiet.import_tensorflow()
from tensorflow import keras
keras.layers.Dense
assert "matplotlib" not in sys.modules, "Keras imports matplotlib"
import matplotlib.pyplot
with quiet.hidden("matplotlib"):
    import matplotlib  # what is there stays
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
