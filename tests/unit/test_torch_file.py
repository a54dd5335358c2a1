"""PyTorch's files, read without PyTorch: both formats, whole modules, and files that would run code."""

import collections
import io
import os
import pickle
import struct
import sys
import types
import zipfile

import numpy as np
import pytest

from tfvp.errors import UserError
from tfvp.importers import torch_file


class Stored:
    """Pickles as torch.save pickles a tensor: a call of torch._utils with a persistent id."""

    def __init__(self, array, key, stride=None, size=None):
        self.array, self.key = np.ascontiguousarray(array), key
        self.size = size or array.shape
        self.stride = stride or tuple(s // array.itemsize for s in self.array.strides)

    def __reduce__(self):
        return _global("torch._utils", "_rebuild_tensor_v2"), (
            Storage(self),
            0,
            tuple(self.size),
            tuple(self.stride),
            False,
            collections.OrderedDict(),
        )


class Storage:
    def __init__(self, tensor):
        self.tensor = tensor


def _global(module, name):
    """A stand-in that pickles as a reference to module.name."""
    stand_in = types.FunctionType((lambda *a: None).__code__, {}, name)
    stand_in.__module__, stand_in.__qualname__ = module, name
    holder = sys.modules.setdefault(module, types.ModuleType(module))
    setattr(holder, name, stand_in)
    return stand_in


@pytest.fixture
def fake_torch(monkeypatch):
    for name in (
        "torch",
        "torch._utils",
        "models",
        "models.dcgan_64",
        "torch.nn",
        "torch.nn.modules",
        "torch.nn.modules.conv",
    ):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))


class Pickler(pickle.Pickler):
    """As torch.save pickles; `view` is (None,) in the older format, which also names classes by their source."""

    def __init__(self, file, view=()):
        super().__init__(file, 2)
        self.view, self.named = view, set()

    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            kind = {"float32": "FloatStorage", "int64": "LongStorage"}[str(thing.tensor.array.dtype)]
            return ("storage", _global("torch", kind), thing.tensor.key, "cpu", thing.tensor.array.size, *self.view)
        if self.view and isinstance(thing, type) and thing.__module__.startswith(("torch.nn", "models")):
            if thing in self.named:  # as the class is pickled inside of its own persistent id
                return None
            self.named.add(thing)
            return ("module", thing, "module.py", "source")
        return None


def pickled(content, view=()):
    buffer = io.BytesIO()
    Pickler(buffer, view).dump(content)
    return buffer.getvalue()


def write_archive(path, content, tensors):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled(content))
        archive.writestr("archive/byteorder", sys.byteorder)
        for tensor in tensors:
            archive.writestr(f"archive/data/{tensor.key}", tensor.array.tobytes())


def write_stream(path, content, tensors):
    with open(path, "wb") as file:
        for part in (torch_file._MAGIC, 1001, {"little_endian": True}):
            pickle.dump(part, file, 2)
        file.write(pickled(content, view=(None,)))
        pickle.dump([tensor.key for tensor in tensors], file, 2)
        for tensor in tensors:
            file.write(struct.pack("<q", tensor.array.size) + tensor.array.tobytes())


WRITERS = {"zip": write_archive, "stream": write_stream}


@pytest.mark.parametrize("form", WRITERS)
def test_state_dicts(tmp_path, fake_torch, form):
    kernel = np.arange(24, dtype=np.float32).reshape(4, 6)
    tensors = [Stored(kernel, "0"), Stored(np.arange(3), "1"), Stored(kernel, "2", stride=(1, 4), size=(4, 6))]
    content = collections.OrderedDict(zip(("a.weight", "a.steps", "a.transposed"), tensors))
    WRITERS[form](tmp_path / "x.pth", content, tensors)
    found = torch_file.state_dict(torch_file.read(tmp_path / "x.pth"))
    np.testing.assert_array_equal(found["a.weight"], kernel)
    np.testing.assert_array_equal(found["a.steps"], np.arange(3))
    np.testing.assert_array_equal(found["a.transposed"], kernel.reshape(6, 4).T)


@pytest.mark.parametrize("form", WRITERS)
def test_pickled_modules(tmp_path, fake_torch, form):
    def module(package, name, **attributes):
        cls = type(name, (), {"__module__": package})
        setattr(sys.modules[package], name, cls)
        made = cls()
        made.__dict__.update({"_parameters": {}, "_buffers": {}, "_modules": {}, **attributes})
        return made

    tensors = [Stored(np.ones((2, 2), np.float32), "0"), Stored(np.zeros(2, np.float32), "1")]
    conv = module("torch.nn.modules.conv", "Conv2d", _parameters=collections.OrderedDict(weight=tensors[0], bias=None))
    norm = module("torch.nn.modules.conv", "Norm", _buffers=collections.OrderedDict(running_mean=tensors[1]))
    encoder = module("models.dcgan_64", "encoder", _modules=collections.OrderedDict(c1=conv, c2=norm))
    WRITERS[form](tmp_path / "x.pth", {"encoder": encoder, "opt": 3}, tensors)
    content = torch_file.read(tmp_path / "x.pth")
    assert list(torch_file.state_dict(content["encoder"])) == ["c1.weight", "c2.running_mean"] and content["opt"] == 3


class Attack:
    def __reduce__(self):
        return os.system, ("touch attacked",)


@pytest.mark.parametrize("form", WRITERS)
def test_files_that_would_run_something_are_refused(tmp_path, monkeypatch, fake_torch, form):
    monkeypatch.chdir(tmp_path)
    WRITERS[form](tmp_path / "x.pth", {"a": Attack()}, [])
    with pytest.raises(UserError, match="which is not a tensor"):
        torch_file.read(tmp_path / "x.pth")
    assert not (tmp_path / "attacked").exists()


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9])
def test_truncated_files_are_refused(tmp_path, fake_torch, form, fraction):
    tensors = [Stored(np.arange(4000, dtype=np.float32), "0")]
    WRITERS[form](tmp_path / "x.pth", {"a": tensors[0]}, tensors)
    content = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(content[: int(fraction * len(content))])
    with pytest.raises(UserError, match="x.pth"):
        torch_file.read(tmp_path / "x.pth")


class Named:
    """Pickles as a reference to a class or function of PyTorch, called where `arguments` are given."""

    def __init__(self, module, name, *arguments):
        self.module, self.name, self.arguments = module, name, arguments

    def __reduce__(self):
        return _global(self.module, self.name), self.arguments


def tensor_of(storage, offset, size, stride):
    return Named("torch._utils", "_rebuild_tensor_v2", storage, offset, size, stride, False, None)


SMALL = Stored(np.zeros(4, np.float32), "0")
FAR = Named("torch", "LongStorage", 2**40)  # NumPy's own int64, whose products wrap around
ATTACKS = {
    "view of a view": tensor_of(Stored(np.zeros(4, np.float32), "0", (0,), (2**30,)), 0, (2**30,), (1,)),
    "wrapping sizes": tensor_of(Storage(SMALL), 0, (FAR,), (2**24,)),
    "float offset": tensor_of(Storage(SMALL), 0.5, (1,), (1,)),
    "negative offset": tensor_of(Storage(SMALL), -8, (1,), (1,)),
    "bytes for a storage": tensor_of(b"1234", 0, (1,), (1,)),
    "more strides than sizes": tensor_of(Storage(SMALL), 0, (1,), (1, 4)),
}


@pytest.mark.parametrize("form", WRITERS)
@pytest.mark.parametrize("kind", ATTACKS)
def test_tensors_are_views_of_what_the_file_holds(tmp_path, fake_torch, form, kind):
    WRITERS[form](tmp_path / "x.pth", {"a": ATTACKS[kind]}, [SMALL])
    with pytest.raises(UserError, match="cannot be read as a PyTorch checkpoint"):
        torch_file.read(tmp_path / "x.pth")


def test_functions_of_the_reader_cannot_be_altered(tmp_path, fake_torch):
    class Altered(Named):
        def __reduce__(self):
            return copyreg_call, (_global("torch._utils", "_rebuild_tensor_v2"),), (None, {"function": None})

    copyreg_call = _global("torch.nn.parameter", "Parameter")
    write_archive(tmp_path / "x.pth", {"a": Altered("", "")}, [])
    with pytest.raises(UserError, match="alters a function"):
        torch_file.read(tmp_path / "x.pth")


@pytest.mark.parametrize("form", WRITERS)
def test_storages_are_no_larger_than_the_file(tmp_path, fake_torch, form, monkeypatch):
    class Huge:
        array = np.broadcast_to(np.float32(0), (2**40,))
        key = "0"

    WRITERS[form](tmp_path / "x.pth", {"a": tensor_of(Storage(Huge), 0, (1,), (1,))}, [SMALL])
    with pytest.raises(UserError, match="cannot be read as a PyTorch checkpoint"):
        torch_file.read(tmp_path / "x.pth")


def test_compressed_and_incomplete_storages_are_refused(tmp_path, fake_torch):
    content = pickled({"a": SMALL})
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", bytes(16))
    with pytest.raises(UserError, match="compressed"):
        torch_file.read(tmp_path / "x.pth")
    write_stream(tmp_path / "x.pth", {"a": SMALL}, [])
    with pytest.raises(UserError, match="storage 0 is missing"):
        torch_file.read(tmp_path / "x.pth")


def test_tensors_beyond_their_storage_are_refused(tmp_path, fake_torch):
    tensor = Stored(np.zeros(4, np.float32), "0", stride=(1000,), size=(4,))
    write_archive(tmp_path / "x.pth", {"a": tensor}, [tensor])
    with pytest.raises(UserError, match="beyond its storage"):
        torch_file.read(tmp_path / "x.pth")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        torch_file.read(tmp_path / "nowhere.pth")
    (tmp_path / "x.pth").write_text("no checkpoint")
    with pytest.raises(UserError, match="x.pth"):
        torch_file.read(tmp_path / "x.pth")
    with pytest.raises(UserError, match="state dict or a module"):
        torch_file.state_dict([1])
