"""Run directories and backups: resuming, refusing, surviving damage."""

import errno
import json
import os
import pathlib
import socket
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from tfvp import config, files, locks, run
from tfvp.errors import UserError
from tfvp.training.backup import Backup


@pytest.fixture
def settings():
    return config.from_dict({"train": {"epochs": 2}}, name="mine")


def test_a_run_is_found_by_its_path_its_model_and_its_parent(tmp_path, settings, monkeypatch):
    started = run.Run.start(tmp_path, settings)
    started.folder("model")
    for path in (started.path, started.path / "model", tmp_path):
        assert run.find(path).path == started.path
    for place, path in ((started.path, "."), (started.path / "model", "."), (started.path / "model", "..")):
        monkeypatch.chdir(place)
        assert run.find(path).path == started.path.resolve()
    assert run.Run(started.path / "model" / "..").path.name == "mine"
    with pytest.raises(UserError, match="has no best weights yet"):
        started.weights_file()
    with pytest.raises(UserError, match="does not exist; train one first"):
        run.find(tmp_path / "nothing")


def test_the_newest_run_wins(tmp_path, settings):
    first = run.Run.start(tmp_path, settings)
    second = run.Run.start(tmp_path, config.from_dict({}, name="other"))
    for path, when in ((first.path, 2_000_000_000), (second.path, 1_000_000_000)):
        os.utime(path / "config.yml", (when, when))
    assert run.find(tmp_path).path == first.path


def test_another_configuration_is_refused_with_the_difference(tmp_path, settings):
    run.Run.start(tmp_path, settings)
    assert run.Run.start(tmp_path, settings).config.to_dict() == settings.to_dict()
    with pytest.raises(UserError, match=r"train.batch_size: 16 -> 8"):
        run.Run.start(tmp_path, config.from_dict({"train": {"epochs": 2, "batch_size": 8}}, name="mine"))
    with pytest.raises(UserError, match=r"train.epochs: 2 -> 1"):
        run.Run.start(tmp_path, config.from_dict({"train": {"epochs": 1}}, name="mine"))
    with pytest.raises(UserError, match=r"eval.open_loop_ctx: 10 -> 5"):
        run.Run.start(tmp_path, config.from_dict({"train": {"epochs": 2}, "eval": {"open_loop_ctx": 5}}, name="mine"))


def test_what_does_not_change_the_result_may_change(tmp_path, settings, capsys):
    run.Run.start(tmp_path, settings)
    other = {"train": {"epochs": 9, "log_steps": 3}, "data": {"root": "/elsewhere"}, "eval": {"num_examples": 5}}
    moved = run.Run.start(tmp_path, config.from_dict(other, name="mine"))
    assert moved.config.data.root == "/elsewhere" and moved.config.train.epochs == 9
    assert "data.root: '' -> '/elsewhere'" in capsys.readouterr().out
    other["train"]["schedule"] = "cosine"
    with pytest.raises(UserError, match="train.schedule"):
        run.Run.start(tmp_path, config.from_dict(other, name="mine"))
    cosine = {"train": {"schedule": "cosine"}}
    run.Run.start(tmp_path, config.from_dict(cosine, name="cosine"))
    cosine["train"]["epochs"] = 20
    with pytest.raises(UserError, match="train.epochs: 10 -> 20"):
        run.Run.start(tmp_path, config.from_dict(cosine, name="cosine"))


def test_micro_batches_may_change_without_batch_norm(tmp_path, settings, capsys):
    run.Run.start(tmp_path, settings)
    other = config.from_dict({"train": {"epochs": 2, "accumulate": 4}}, name="mine")
    with pytest.raises(UserError, match=r"train.accumulate: 1 -> 4 \(the model has batch norm, which sees one micro-"):
        run.Run.start(tmp_path, other, batch_norm=True)
    assert run.Run.start(tmp_path, other, batch_norm=False).config.train.accumulate == 4
    assert "train.accumulate: 1 -> 4" in capsys.readouterr().out


@pytest.mark.parametrize("url", ["gs://bucket/logs", "s3://bucket/logs"])
def test_object_stores_are_refused_and_make_no_folder(tmp_path, settings, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    for logdir in (url, pathlib.Path(url)):
        with pytest.raises(UserError, match="is an object store, and runs need a file system"):
            run.Run.start(logdir, settings)
    assert not list(tmp_path.iterdir())


def test_two_processes_cannot_train_one_run(tmp_path, settings):
    started = run.Run.start(tmp_path, settings)
    with started.locked():
        with pytest.raises(UserError, match="another process"), run.Run(started.path).locked():
            pass
    with started.locked():
        pass


@pytest.mark.parametrize("kind", ["no flock in the file system", "no fcntl"])
def test_a_lease_takes_the_place_of_a_lock(tmp_path, settings, monkeypatch, kind):
    started = run.Run.start(tmp_path, settings)
    if kind == "no fcntl":
        monkeypatch.setattr(locks, "fcntl", None)
    else:

        def flock(file, how):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(locks.fcntl, "flock", flock)
    lease = started.path / ".lease"
    with started.locked():
        assert lease.read_text().split() == [socket.gethostname(), str(os.getpid())]
        with pytest.raises(UserError, match="another process.*delete it if that process is gone"), started.locked():
            pass
    assert not lease.exists()
    lease.write_text("elsewhere 1")
    with pytest.raises(UserError, match="elsewhere 1"), started.locked():
        pass
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    lease.write_text(f"{socket.gethostname()} {ended.pid}")
    with started.locked():
        assert lease.read_text().split()[1] == str(os.getpid())


def test_a_lease_is_taken_over_by_one_process(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    lease, gone = tmp_path / ".lease", [socket.gethostname(), "1"]
    lease.write_text("elsewhere 1")  # of a process that took over after this one had read what the file said before
    looks = [gone]
    monkeypatch.setattr(locks, "_holder", lambda path: looks.pop(0) if looks else path.read_text().split())
    monkeypatch.setattr(locks, "_is_gone", lambda holder: holder == gone)
    with pytest.raises(UserError, match="elsewhere 1; delete it"), locks.locked(tmp_path, "taken"):
        pass
    assert lease.read_text() == "elsewhere 1" and {path.name for path in tmp_path.iterdir()} == {".lease", ".lock"}


def test_who_waits_for_a_lease_learns_which(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(locks, "fcntl", None)
    lease = tmp_path / ".lease"
    lease.write_text("elsewhere 1")
    monkeypatch.setattr(locks.time, "sleep", lambda seconds: lease.unlink())
    with locks.locked(tmp_path, waiting=lambda: print("waiting")):
        assert (
            capsys.readouterr().out
            == f"waiting\nthe lease {lease} says: elsewhere 1; delete it if that process is gone\n"
        )


def test_metrics_lines_survive_a_cut_and_are_rewound(tmp_path, settings):
    started = run.Run.start(tmp_path, settings)
    for epoch in (1, 2, 3):
        started.append_metrics({"epoch": epoch, "step": 10 * epoch, "loss": float("nan") if epoch == 2 else 1.5})
    with open(started.path / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 4, "lo')
    assert [line["loss"] for line in started.read_metrics()] == [1.5, None, 1.5]
    started.rewind_metrics(29)
    assert [line["epoch"] for line in started.read_metrics()] == [1, 2]


def test_files_are_whole_or_absent(tmp_path):
    target = tmp_path / "x.weights.h5"
    target.write_text("old")
    with pytest.raises(RuntimeError), files.atomic_write(target) as temporary:
        assert temporary.name.endswith(".weights.h5") and temporary != target
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["x.weights.h5"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write into"):
        files.writable_folder(tmp_path / "file" / "logs")


class Compiled(keras.Sequential):
    """A Keras model with what backups need of a `VideoModel`."""

    metrics = ()

    @property
    def optimizers(self):
        return [self.optimizer]


def small_model(seed):
    keras.utils.set_random_seed(seed)
    model = Compiled([keras.layers.Dense(3), keras.layers.BatchNormalization()])
    model.build((None, 2))
    model.compile(optimizer=keras.optimizers.Adam(0.1), loss="mse", jit_compile=False)
    model.optimizer.build(model.trainable_variables)
    return model


def everything(model):
    from tfvp import compat

    return [np.asarray(v) for v in [*model.variables, *compat.optimizer_variables(model.optimizer)]]


def test_damaged_weights_get_a_sentence(tmp_path):
    path, model = tmp_path / "best.weights.h5", small_model(0)
    run.save_weights(model, path)
    content, refused = path.read_bytes(), 0
    for begin in range(0, len(content), 512):
        path.write_bytes(content[:begin] + bytes(512) + content[begin + 512 :])
        try:
            run.load_weights(model, path)
        except UserError as error:
            assert "damaged or belongs to another model" in str(error)
            refused += 1
    assert refused > 5


def test_weights_of_the_other_keras_are_not_called_damaged(tmp_path, settings):
    started = run.Run.start(tmp_path, settings)
    started.record_environment([])
    weights, record = started.folder("model") / "best.weights.h5", started.path / "environment.json"
    weights.write_bytes(b"")
    with pytest.raises(UserError, match="is damaged"):
        run.load_weights(small_model(0), weights)
    document = json.loads(record.read_text())
    versions = document["sessions"][-1]["versions"]
    this, other = versions["keras"], "2.15.0" if versions["keras"].startswith("3") else "3.12.0"
    versions["keras"] = other
    record.write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"Keras {other} wrote it, and Keras {this} does not read"):
        run.load_weights(small_model(0), weights)


def test_a_backup_restores_weights_optimizer_and_state(tmp_path):
    random, model = np.random.default_rng(0), small_model(0)
    model.optimizer.apply_gradients([(tf.ones(v.shape), v) for v in model.trainable_variables])
    for variable in model.non_trainable_variables:
        variable.assign(random.uniform(size=variable.shape).astype(np.float32))
    model.optimizer.learning_rate = 0.025  # as a plateau leaves it
    first = Backup(tmp_path, model)
    first.save(7, {"best": 0.5})
    first.wait()
    (tmp_path / ".step-000000008.4711.tmp.npz").write_bytes(b"half a file of a killed process")
    other = small_model(1)
    state, notes = Backup(tmp_path, other).restore()
    assert state == {"step": 7, "best": 0.5, "rates": [pytest.approx(0.025)]} and notes == []
    assert float(other.optimizer.learning_rate) == pytest.approx(0.025)
    assert [p.name for p in tmp_path.iterdir()] == ["step-000000007.npz"]
    for ours, theirs in zip(everything(model), everything(other), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
def test_a_damaged_backup_is_passed_over(tmp_path, damage):
    model = small_model(0)
    backup = Backup(tmp_path, model)
    backup.save(1, {})
    before = everything(model)
    model.variables[0].assign(model.variables[0] + 1.0)
    backup.save(2, {})
    backup.wait()
    newest = tmp_path / "step-000000002.npz"
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[content.index(np.asarray(model.variables[0]).tobytes())] ^= 0xFF
    newest.write_bytes({"truncate": content[: len(content) // 2], "flip": content, "empty": b""}[damage])
    state, notes = backup.restore()
    assert state["step"] == 1 and "step-000000002" in notes[0]
    for ours, theirs in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    (tmp_path / "step-000000001.npz").write_bytes(b"x")
    with pytest.raises(UserError, match="no backup"):
        backup.restore()


def test_a_backup_of_another_model_is_refused(tmp_path):
    backup = Backup(tmp_path, small_model(0))
    backup.save(1, {})
    backup.wait()
    other = Compiled([keras.layers.Dense(4)])
    other.build((None, 2))
    other.compile(optimizer="sgd", loss="mse")
    other.optimizer.build(other.trainable_variables)
    with pytest.raises(UserError, match="no backup"):
        Backup(tmp_path, other).restore()


def test_only_two_backups_are_kept(tmp_path):
    backup = Backup(tmp_path, small_model(0))
    for step in range(1, 5):
        backup.save(step, {})
    backup.wait()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000000003.npz", "step-000000004.npz"]


def test_a_backup_that_cannot_be_written_is_not_passed_over_in_silence(tmp_path):
    (tmp_path / "file").write_text("")
    backup = Backup(tmp_path / "file" / "backup", small_model(0))
    backup.save(1, {})
    with pytest.raises(UserError, match="free space"):
        backup.wait()


def test_the_environment_is_recorded_per_session(tmp_path, settings):
    started = run.Run.start(tmp_path, settings)
    started.record_environment(["CPU:0"])
    started.record_environment(["CPU:0"])
    sessions = json.loads((started.path / "environment.json").read_text())["sessions"]
    assert len(sessions) == 2 and sessions[0]["versions"]["tensorflow"] == tf.__version__


def test_the_command_is_one_that_can_be_typed(monkeypatch):
    for program, typed in (("/site-packages/tfvp/__main__.py", "tfvp"), ("train.py", "train.py")):
        monkeypatch.setattr(run.sys, "argv", [program, "train", "--config", "demo"])
        assert run.describe_environment([])["command"] == [typed, "train", "--config", "demo"]
