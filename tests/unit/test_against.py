"""`tfvp benchmark against`, with stand-ins for both sides that need neither PyTorch nor TensorFlow."""

import json
import pathlib
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmarks import against
from tfvp.errors import UserError

STAND_IN = """
import time

print("a reference may print what it likes")
ENTRY = {"config": "demo", "file": "network.py", "horizon": 6, "samples": 1, "calls": ("train", "rollout")}
CASES = {"all": [
    {"name": "slow", "adapter": "Slow", "batch": 3, **ENTRY},
    {"name": "torch", "adapter": "NeedsTorch", "batch": 2, **ENTRY},
    {"name": "broken", "adapter": "Broken", "batch": 2, **ENTRY},
]}


class Slow:
    SECONDS = 0.03

    def __init__(self, folder, sizes):
        with open(folder + "/network.py") as file:
            self.size = int(file.read())
        self.sizes = sizes

    def train(self):
        return lambda: self.spend(self.sizes["batch"] * self.sizes["frames"])

    def rollout(self):
        return lambda: self.spend(self.sizes["horizon"])

    def spend(self, value):
        end = time.process_time() + self.SECONDS
        while time.process_time() < end:
            pass
        return value

    def facts(self):
        return {"parameters": self.size, "library": "Slow 1.0"}


class Ours(Slow):
    SECONDS = 0.01


class NeedsTorch:
    def __init__(self, folder, sizes):
        import no_torch_here


class Broken(Slow):
    def rollout(self):
        raise ValueError("the frames are\\ntoo large")

    def train(self):
        import os
        os._exit(3)
"""

HIDDEN = """
import sys

class A:
    def __init__(self, folder, sizes):
        sys.path.insert(0, folder)
        import models
        self.size = models.SIZE

    def train(self):
        return lambda: self.size

    def facts(self):
        return {}
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Options for the stand-ins; one of them is in the place of tfvp's side, too."""
    (tmp_path / "network.py").write_text("1234")
    (tmp_path / "ours.py").write_text(STAND_IN)
    (tmp_path / "side.py").write_text((pathlib.Path(against.__file__).with_name("side.py")).read_text())
    monkeypatch.setattr(against, "HERE", tmp_path)
    return SimpleNamespace(
        folder=str(tmp_path),
        reference=str(tmp_path / "ours.py"),
        python=sys.executable,
        only=["slow"],
        call=None,
        rounds=3,
        batch=None,
        horizon=None,
        overrides=[],
    )


def test_ratios_memory_and_parameters_of_two_processes_in_turns(stand_in, capsys):
    against.run(stand_in)
    lines = [[cell.strip() for cell in line.strip("| ").split("|")] for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if line[0] == "slow"]
    assert [row[1] for row in rows] == ["train", "rollout"] and all(len(row) == len(against.COLUMNS) for row in rows)
    for row in rows:
        low, median, high = map(float, row[4:7])
        assert row[2] == "1,234, 1,234" and 0 < low <= median <= high and 2 < float(row[7]) < 4
        assert all(0 < float(value.replace(",", "")) < 1000 for value in row[8].split(", "))
    assert lines[-1] == ["Slow 1.0"]


def test_both_sides_get_the_same_sizes(stand_in):
    stand_in.batch, stand_in.rounds = 5, 1
    (case,) = [one for one in against._cases(stand_in.reference)[1] if one["name"] == "slow"]
    for call, value in (("train", 5 * 20), ("rollout", 6)):
        ours, theirs = against.measure(stand_in.reference, case, call, stand_in)
        assert [answer["value"] for answer in ours + theirs] == [value] * 4


def test_what_is_missing_is_said_in_a_sentence(stand_in):
    stand_in.only, stand_in.call = ["torch"], "train"
    with pytest.raises(UserError, match="has no module no_torch_here; install it there"):
        against.run(stand_in)
    stand_in.only, stand_in.call = ["broken"], "rollout"
    with pytest.raises(UserError, match="Broken failed in .*: ValueError: the frames are too large"):
        against.run(stand_in)
    stand_in.call = "train"
    with pytest.raises(UserError, match="ended with status 3"):
        against.run(stand_in)
    stand_in.python, stand_in.only = "/no/such/python", ["slow"]
    with pytest.raises(UserError, match="/no/such/python cannot be started"):
        against.run(stand_in)
    stand_in.folder, stand_in.reference = "/no/such/folder", "svg"
    stand_in.only = []
    with pytest.raises(UserError, match="no models/dcgan_64.py.*get the code from https://github.com/edenton/svg"):
        against.run(stand_in)
    stand_in.reference = "torchvision"
    with pytest.raises(UserError, match="neither one of openstl, svg, iam4vp, structure, notebook, cwvae, nor a file"):
        against.run(stand_in)


def test_an_adapter_s_folder_is_not_hidden_by_the_benchmarks(tmp_path):
    """SVG's code has a package `models`, as this folder has a module."""
    (tmp_path / "models.py").write_text("SIZE = 77")
    (tmp_path / "adapter.py").write_text(HIDDEN)
    side = pathlib.Path(against.__file__).with_name("side.py")
    request = json.dumps({"call": "train", "folder": str(tmp_path), "sizes": {}})
    done = subprocess.run(
        [sys.executable, side, tmp_path / "adapter.py", "A"], input=request, capture_output=True, text=True
    )
    assert json.loads(done.stdout)["value"] == 77, done.stderr


def test_every_case_names_an_adapter_and_a_configuration():
    from tfvp import config

    cases = [(module, case) for module in against.KNOWN for cases in module.CASES.values() for case in cases]
    for module, case in cases:
        assert isinstance(getattr(module, case["adapter"]), type) and set(case["calls"]) <= {"train", "rollout"}
        assert config.load(case["config"]).train.seq_len > config.load(case["config"]).eval.open_loop_ctx


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "import no_torch_here",
            "imports no_torch_here, which tfvp's own Python has not; import it inside of the adapters",
        ),
        ("class Net(", r"is no file of adapters \(SyntaxError: line 1: .*; correct it"),
        ("cases = {}", r"is no file of adapters \(AttributeError: .* has no attribute 'CASES'\)"),
    ],
)
def test_files_that_are_no_adapters_are_refused(stand_in, text, sentence):
    pathlib.Path(stand_in.reference).write_text(text)
    with pytest.raises(UserError, match=sentence):
        against.run(stand_in)
