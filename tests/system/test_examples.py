"""The examples run as they are, with small settings."""

import json
import re
import runpy
import sys
import types

import numpy as np
import pytest

from tests.golden import ROOT

EXAMPLES = ROOT / "examples"


def test_the_python_example(monkeypatch, tmp_path, capsys):
    arguments = ["python_api.py", "--logdir", str(tmp_path), "--steps", "2", "--hidden", "4"]
    monkeypatch.setattr(sys, "argv", arguments)
    runpy.run_path(str(EXAMPLES / "python_api.py"), run_name="__main__")
    said = capsys.readouterr().out
    differences = [float(number) for number in re.findall(r"largest difference .*: (\S+)", said)]
    assert len(differences) == 2 and max(differences) < 1e-4, said
    assert (tmp_path / "python_api" / "future.gif").stat().st_size > 1000


@pytest.mark.current_stack
def test_the_notebook(monkeypatch, tmp_path, capsys):
    cells = json.loads((EXAMPLES / "next_frame_prediction.ipynb").read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    shown = []
    monkeypatch.setenv("MPLBACKEND", "agg")
    for name, value in {"LOGDIR": tmp_path, "EPOCHS": 1, "STEPS": 2, "HIDDEN": 4, "CLIPS": 4}.items():
        monkeypatch.setenv(f"TFVP_EXAMPLE_{name}", str(value))
    # What a notebook shows by itself; IPython is not needed to run the code.
    display = types.SimpleNamespace(Image=lambda filename: shown.append(filename))
    python = types.SimpleNamespace(display=display, get_ipython=lambda: None, version_info=(9, 0))  # matplotlib asks
    monkeypatch.setitem(sys.modules, "IPython", python)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    namespace = {}
    for source in sources:
        exec(compile(source, "next_frame_prediction.ipynb", "exec"), namespace)
    namespace["plt"].close("all")
    assert [line["epoch"] for line in namespace["history"]] == [1]
    assert set(namespace["results"]) == {"next_frame_tf", "default"}
    assert all(np.isfinite(result["model"]["psnr"]["mean"]) for result in namespace["results"].values())
    assert shown == [str(tmp_path / "future.gif")] and "copy_last" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["next_frame_prediction.ipynb"])
def test_notebooks_are_small_and_whole(name):
    notebook = json.loads((EXAMPLES / name).read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and (EXAMPLES / name).stat().st_size < 1_000_000
    assert not [cell for cell in notebook["cells"] if "error" in [o["output_type"] for o in cell.get("outputs", [])]]
