"""One run trained by two worker processes over loopback, killed and started again; and what TF_CONFIG may say."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import types

import numpy as np
import pytest

from tests.golden import ROOT
from tests.system.commands import TINY, weights
from tfvp import config
from tfvp.errors import UserError
from tfvp.serving import export
from tfvp.training import loop, strategies


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def tf_config(ports, index):
    cluster = {"worker": [f"localhost:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


SETTINGS = ["train.epochs=2", "train.steps_per_epoch=6", "train.validation_examples=3", "train.loggers=[]"]


class Workers:
    """Two processes that train one run."""

    def __init__(self, path, logdir, *options):
        ports = free_ports(2)
        self.logs = [logdir.with_name(f"{logdir.name}-{i}-{ports[0]}.log") for i in range(2)]
        self.processes = []
        for index, log in enumerate(self.logs):
            with open(log, "w", encoding="utf-8") as file:
                arguments = ["--logdir", str(logdir), "--config", str(path), "--set", *SETTINGS, *options]
                process = subprocess.Popen(
                    [sys.executable, str(ROOT / "train.py"), *arguments],
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "TF_CONFIG": tf_config(ports, index)},
                )
            self.processes.append(process)

    def wait(self):
        """[(exit status, output)] of both."""
        return [(process.wait(timeout=150), log.read_text()) for process, log in zip(self.processes, self.logs)]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    path = tmp_path_factory.mktemp("config") / "tiny.yml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def alone(tiny, tmp_path_factory):
    """The run of one process."""
    return loop.train(config.load(tiny, SETTINGS), tmp_path_factory.mktemp("alone")).path


def same_run(one, two):
    """Whether two runs end alike, up to the rounding of sums that are split among workers."""
    first, second = weights(one), weights(two)
    kept = [name for name in first if "metrics" not in name]
    assert first.keys() == second.keys() and len(kept) > 8
    for name in kept:
        np.testing.assert_allclose(first[name], second[name], atol=1e-5, err_msg=name)
    lines = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, two)]
    assert [line["epoch"] for line in lines[1]] == [1, 2]
    names = ("loss", "grad_norm", "skipped", "val_loss", "val_psnr", "train_ssim", "learning_rate")
    for mine, other in zip(*lines):
        assert {name: mine[name] for name in names} == pytest.approx({name: other[name] for name in names}, rel=1e-4)
    largest = max(float(np.abs(first[name] - second[name]).max()) for name in kept)
    apart = max(abs(mine[name] / other[name] - 1) for mine, other in zip(*lines) for name in names if mine[name])
    print(f"largest difference of a weight {largest:.2g}, of a loss or score {apart:.2g} of it")


def test_workers_that_lose_one_go_on_and_end_as_one_machine_does(tiny, tmp_path, request):
    shared = tmp_path / "shared"
    broken = Workers(tiny, shared, "train.log_steps=1", "train.backup_minutes=0.0001")
    deadline = time.monotonic() + 150
    while not list((shared / "tiny" / "backup").glob("step-*.npz")):
        assert time.monotonic() < deadline and broken.processes[0].poll() is None, broken.logs[0].read_text()
        time.sleep(0.02)
    broken.processes[1].send_signal(signal.SIGKILL)
    (status, said), (killed, _) = broken.wait()
    assert killed == -signal.SIGKILL
    assert status == 2 and "worker 0 of 2 lost the others" in said and "Traceback" not in said, said
    again, validations = Workers(tiny, shared), []
    alone = request.getfixturevalue("alone")  # while the workers start
    for status, said in again.wait():
        assert status == 0 and "resuming" in said, said
        validations.append([line for line in said.splitlines() if "val loss" in line])
    assert validations[0] == validations[1] and 1 <= len(validations[0]) <= 2, "all go by the same numbers"
    same_run(alone, shared / "tiny")


def test_ray_starts_two_workers(tiny, alone, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[train]'")
    arguments = ["--config", tiny, "--logdir", tmp_path, "--workers", "2", "--set", *SETTINGS]
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "ray_train.py"), *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    same_run(alone, tmp_path / "tiny")


def test_the_first_worker_alone_exports(monkeypatch, here, tiny, tmp_path):
    """Both end with the command that says what to do next."""
    exported = []
    monkeypatch.setattr(loop, "train", lambda config, logdir, check: types.SimpleNamespace(path=tmp_path))
    monkeypatch.setattr(export, "export", lambda run: exported.append(run.path) or run.path)
    for index in (1, 0):
        monkeypatch.setenv("TF_CONFIG", tf_config([1, 2], index))
        status, said, _ = here("train.py", "--config", tiny, "--logdir", tmp_path, "--export")
        assert status == 0 and "next:" in said and exported == [tmp_path] * (1 - index)


@pytest.mark.parametrize(
    ("cluster", "task", "expected"),
    [
        ({}, {}, (0, 1)),
        ({"worker": ["a:1"]}, {"type": "worker", "index": 0}, (0, 1)),
        ({"worker": ["a:1", "b:1"]}, {"type": "worker", "index": 1}, (1, 2)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "chief", "index": 0}, (0, 3)),
        ({"chief": ["a:1"], "worker": ["b:1", "c:1"]}, {"type": "worker", "index": 1}, (2, 3)),
    ],
)
def test_who_a_worker_is(monkeypatch, cluster, task, expected):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
    assert tuple(strategies.this_worker()) == expected


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("worker 1", "cannot be read"),
        ("[1]", "cannot be read"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "worker number 2"),
        ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "evaluator", "index": 0}}', "evaluator number 0"),
        ('{"cluster": {"chief": ["a:1", "b:1"]}, "task": {"type": "chief", "index": 0}}', "2 chiefs"),
    ],
)
def test_a_wrong_cluster_is_refused(monkeypatch, text, sentence):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=sentence):
        strategies.this_worker()


def test_the_tasks_of_a_slurm_job_are_workers(monkeypatch):
    step = {
        "SLURM_PROCID": "3",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_TASKS_PER_NODE": "2(x2)",
    }
    monkeypatch.setenv("TF_CONFIG", "")
    for key, value in step.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(strategies.shutil, "which", lambda name: None)
    strategies.join_slurm()
    assert json.loads(os.environ["TF_CONFIG"]) == {
        "cluster": {"worker": ["n1:12345", "n1:12346", "n2:12345", "n2:12346"]},
        "task": {"type": "worker", "index": 3},
    }
    assert tuple(strategies.this_worker()) == (3, 4)
    monkeypatch.delenv("SLURM_PROCID")
    with pytest.raises(UserError, match="start tfvp with srun"):
        strategies.join_slurm()
