"""Training options that change how a step is made, tried in this process on a tiny model."""

import json
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import tfvp
from tests.golden import ROOT
from tfvp import cli, config
from tfvp.errors import UserError
from tfvp.models import build
from tfvp.models.build import build_model
from tfvp.training import checks, dry_run, loop

BASE = {
    "model": {"name": "convlstm_openstl", "hidden": [4], "kernel": 3, "patch": 4, "context": 4},
    "data": {"name": "moving_mnist", "image_size": 32},
    "train": {
        "epochs": 1,
        "steps_per_epoch": 4,
        "batch_size": 4,
        "seq_len": 6,
        "validation_examples": 2,
        "gif_examples": 1,
    },
    "eval": {"open_loop_ctx": 4, "eval_seq_len": 6, "batch_size": 2},
}


def run(tmp_path, **changes):
    settings = {**BASE, "train": {**BASE["train"], **changes}}
    return loop.train(config.from_dict(settings, name="case"), tmp_path)


def last_line(started):
    return json.loads((started.path / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return last_line(run(tmp_path_factory.mktemp("plain")))


@pytest.mark.parametrize(
    "changes",
    [
        {"devices": 2, "accumulate": 2},
        {"steps_per_execution": 3},
        {"xla": True, "recompute": True},
    ],
    ids=str,
)
def test_how_a_step_is_made_does_not_change_what_is_learned(tmp_path, plain, changes):
    line = last_line(run(tmp_path, **changes))
    for key in ("loss", "grad_norm", "val_loss", "val_mse"):
        assert line[key] == pytest.approx(plain[key], rel=2e-3), key


def test_training_clips_alone_are_cut_from_larger_frames(tmp_path, plain, monkeypatch):
    original, larger = loop.batching.training_batches, []

    def noted(dataset, **options):
        batches = original(dataset, **options)
        larger.append((dataset.frame_shape, batches.element_spec["video"].shape[2:]))
        return batches

    monkeypatch.setattr(loop.batching, "training_batches", noted)
    settings = {**BASE, "data": {**BASE["data"], "crop_margin": 6}}
    started = loop.train(config.from_dict(settings, name="case"), tmp_path)
    assert larger == [((38, 38, 1), (32, 32, 1))]
    assert np.load(started.path / "model" / "mean_frame.npy").shape == (32, 32, 1)
    line = last_line(started)
    assert np.isfinite(line["loss"]) and line["loss"] != plain["loss"] and np.isfinite(line["val_mse"])


def test_bfloat16_learns_nearly_the_same(tmp_path, plain):
    line = last_line(run(tmp_path, precision="mixed_bfloat16"))
    assert line["loss"] == pytest.approx(plain["loss"], rel=0.1)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "one_cycle", "clip_norm": 0.01},
        {"schedule": "cosine", "warmup_epochs": 0.5, "optimizer": "rmsprop"},
    ],
    ids=str,
)
def test_schedules_and_optimizers_run(tmp_path, changes):
    assert np.isfinite(last_line(run(tmp_path, **changes))["loss"])


def test_the_average_is_what_is_saved(tmp_path):
    """With a decay of nearly one, the saved weights are those of the start, not the trained ones."""
    started = run(tmp_path, ema_decay=0.999999, learning_rate=0.05)
    fresh = build_model(started.config, (32, 32, 1))
    import tensorflow as tf

    from tfvp.datasets.build import build_dataset

    tf.keras.utils.set_random_seed(started.config.train.seed)
    build_dataset(started.config)
    fresh = build_model(started.config, (32, 32, 1))
    saved = tfvp.load_run(started.path, "last")
    raw = np.load(sorted((started.path / "backup").glob("step-*.npz"))[-1])
    for i, (initial, kept) in enumerate(zip(fresh.trainable_variables, saved.trainable_variables)):
        np.testing.assert_allclose(np.asarray(kept), np.asarray(initial), atol=1e-4)
        assert np.abs(raw[f"model/{i}"] - np.asarray(initial)).max() > 1e-3


def stop_after(monkeypatch, count):
    """Trainings get SIGTERM after so many steps in this process. Returns the list of what is run."""
    original, calls = loop.Stepper.run, []

    def stopped(stepper, steps):
        original(stepper, steps)
        calls.append(steps)
        if len(calls) == count:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(loop.Stepper, "run", stopped)
    return calls


def test_a_plateau_lowers_the_rate_and_early_stopping_stops(tmp_path, monkeypatch):
    """Also in a training that is resumed between two validations that do not improve."""
    changes = {
        "epochs": 6,
        "steps_per_epoch": 1,
        "learning_rate": 1e-12,
        "schedule": "plateau",
        "plateau_patience": 1,
        "plateau_factor": 0.5,
        "early_stopping": 3,
        "optimizer": "sgd",
        "loggers": [],
    }
    stop_after(monkeypatch, 3)
    with pytest.raises(SystemExit):
        run(tmp_path, **changes)
    started = run(tmp_path, **changes)
    lines = started.read_metrics()
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert [line["learning_rate"] for line in lines] == pytest.approx([1e-12, 1e-12, 1e-12, 5e-13])
    status = json.loads((started.path / "model/status.json").read_text())
    assert status["best_step"] == 1 and status["waited"] == 3


def test_a_loss_that_is_not_finite_stops_with_a_sentence(tmp_path):
    with pytest.raises(UserError, match=r"before step 10: the gradient was not finite for 9 steps in a row"):
        run(tmp_path, optimizer="sgd", learning_rate=1e30, nonfinite_patience=3, steps_per_epoch=30)


def test_xla_on_several_devices_is_refused(tmp_path):
    with pytest.raises(UserError, match="train.xla=true compiles the step of one device"):
        run(tmp_path, devices=2, xla=True)


def test_validation_checkpoints_and_logs_by_steps(tmp_path):
    started = run(
        tmp_path,
        epochs=2,
        validate_steps=3,
        sample_steps=5,
        keep_checkpoints=7,
        log_steps=2,
        loggers=["jsonl"],
    )
    lines = started.read_metrics()
    assert [(line["epoch"], line["step"], "val_loss" in line) for line in lines] == [
        (0.75, 3, True),
        (1, 4, False),
        (1.5, 6, True),
        (1.75, 7, False),
        (2, 8, True),
    ]
    kept = started.path / "model" / "step-000000007.weights.h5"
    assert list((started.path / "model").glob("step-*")) == [kept]
    assert set(build.read_weights(kept)) == set(build.read_weights(started.path))
    assert [p.name for p in (started.path / "samples").iterdir()] == ["open_loop_step-000000005.gif"]
    read = [json.loads(line) for line in (started.path / "steps.jsonl").read_text().splitlines()]
    assert [line["step"] for line in read] == [2, 3, 4, 5, 6, 7, 8] and "val_loss" in read[1]
    assert not (started.path / "tensorboard").exists()


def test_devices_and_micro_batches_may_change_at_resume(tmp_path, plain, monkeypatch, capsys):
    calls = stop_after(monkeypatch, 2)
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, loggers=[])
    assert ended.value.code == 143 and "SIGTERM: saved after step 2 of 4" in capsys.readouterr().out
    line = last_line(run(tmp_path, loggers=[], accumulate=2, devices=2))
    assert calls == [1] * 4
    for key in ("loss", "grad_norm", "val_loss", "val_mse"):
        assert line[key] == pytest.approx(plain[key], rel=1e-5), key
    settings = {"name": "convlstm_keras", "hidden": [4, 4], "kernels": [3, 3]}
    normed = build_model(config.from_dict({**BASE, "model": settings}), (32, 32, 1))
    assert checks.has_batch_norm(normed) and not checks.has_batch_norm(tfvp.load_run(tmp_path / "case", "last"))


def test_loggers_that_are_not_there_are_refused(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="unknown logger 'tensorbord'; known: tensorboard, jsonl, wandb, mlflow"):
        run(tmp_path, loggers=["tensorbord"])
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        run(tmp_path, loggers=["wandb"])


class Recorder(types.ModuleType):
    """Takes the place of wandb and of mlflow, and writes their calls down."""

    def __init__(self):
        super().__init__("recorder")
        self.calls = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append((name, args, kwargs)) or self


def test_wandb_and_mlflow_get_the_configuration_and_every_reading(tmp_path, monkeypatch):
    recorder = Recorder()
    monkeypatch.setitem(sys.modules, "wandb", recorder)
    monkeypatch.setitem(sys.modules, "mlflow", recorder)
    run(tmp_path, loggers=["wandb", "mlflow"], log_steps=2)
    names = [name for name, _, _ in recorder.calls]
    assert names == [
        "init",
        "set_experiment",
        "start_run",
        "log_params",
        *["log", "log_metrics"] * 2,
        "finish",
        "end_run",
    ]
    by_name = {name: (args, kwargs) for name, args, kwargs in recorder.calls}
    assert by_name["init"][1]["config"]["train"]["log_steps"] == 2
    assert by_name["log_params"][0][0]["train.log_steps"] == 2
    assert by_name["log"][1]["step"] == by_name["log_metrics"][1]["step"] == 4 and "val_loss" in by_name["log"][0][0]


def test_an_unknown_monitor_is_refused(tmp_path):
    with pytest.raises(UserError, match="train.monitor"):
        run(tmp_path, monitor="val_fvd")


def test_a_dry_run_says_what_a_run_would_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {**BASE, "train": {**BASE["train"], "ema_decay": 0.9, "epochs": 3}}
    text = dry_run.describe(config.from_dict(settings, name="case"))
    assert "4 steps of 4 clips in an epoch, 12 in 3 epochs" in text and "2,000 validation" in text
    assert re.search(r"video: float32 \[4, 6, 32, 32, 1\], from 0 to (1|0\.9)", text)
    model = build_model(config.from_dict(settings), (32, 32, 1))
    size = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert f"{size:,} trainable parameters" in text
    one, batch = (
        float(number) for number in re.search(r"(\S+) GMAC for the step of one clip.*, (\S+) for", text).groups()
    )
    assert 0 < one and batch == pytest.approx(4 * one, rel=0.01)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="train.monitor"):
        dry_run.describe(config.from_dict({**settings, "train": {"monitor": "val_fvd"}}))
    several = {**settings["train"], "steps_per_execution": 3, "accumulate": 2, "devices": 2}
    text = dry_run.describe(config.from_dict({**settings, "train": several}))
    assert float(re.search(r"(\S+) GMAC for the step", text)[1]) == pytest.approx(one, rel=0.01)


@pytest.mark.parametrize("more", [[], ["--dry-run"]], ids=str)
def test_what_cannot_be_exported_is_refused_before_it_is_trained(tmp_path, more):
    words = ["train", "--config", "svg/tiny_32", "--logdir", str(tmp_path), "--export", "--set", "model.bn_mode=batch"]
    with pytest.raises(UserError, match="^--export: a request of one clip is too few: .* model.bn_mode=running"):
        cli.execute([*words, *more])
    assert not list(tmp_path.iterdir())


def test_deterministic_runs_have_the_same_bits(tmp_path):
    """In a process of its own: TensorFlow cannot be told to forget the wish."""
    (tmp_path / "case.json").write_text(json.dumps({**BASE, "train": {**BASE["train"], "deterministic": True}}))
    script = """
import json, pathlib, sys
import numpy as np
from tfvp import config
from tfvp.training import loop
folder = pathlib.Path(sys.argv[1])
settings = json.loads((folder / "case.json").read_text())
last = []
for name in ("a", "b"):
    run = loop.train(config.from_dict(settings, name=name), folder)
    with np.load(sorted((run.path / "backup").glob("step-*.npz"))[-1]) as archive:
        last.append({key: archive[key] for key in archive.files if key != "state"})
assert len(last[0]) > 10 and all(np.array_equal(last[0][key], last[1][key]) for key in last[0])
print("equal")
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.splitlines()[-1:] == ["equal"], done.stderr[-2000:]
