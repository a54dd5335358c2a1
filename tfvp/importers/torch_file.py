"""PyTorch's checkpoint files read without PyTorch, as NumPy arrays and plain containers.

Both formats are read: zip archives (since PyTorch 1.6) and the streams before them. Such a file
is a pickle, which could run anything; here only tensors, containers and numbers are made, and
whole modules become inert namespaces. A file that names something else is refused.
"""

import collections
import io
import pathlib
import pickle
import sys
import types
import zipfile

import numpy as np

from tfvp.errors import UserError
from tfvp.weights import UNREADABLE

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_MODULE_PACKAGES = ("torch.nn.", "models.", "model.", "__main__")


class Module:
    """What a pickled network becomes: its attributes, none of its code."""

    def __init__(self, *arguments):
        pass

    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else {})


def read(path):
    """The content of a file that `torch.save` wrote.

    Args:
        path: the file.

    Returns:
        Nested containers; tensors are NumPy arrays, modules are `Module`.

    Raises:
        UserError: the file is missing, damaged, or holds anything but tensors.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise UserError(f"{path} does not exist; name the checkpoint file")
    try:
        if zipfile.is_zipfile(path):
            return _read_archive(path)
        with open(path, "rb") as file:
            return _read_stream(file)
    except UserError:
        raise
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as a PyTorch checkpoint: {' '.join(str(error).split())}") from None


def state_dict(content):
    """{name: array} of a state dict, or of a pickled module, with names as PyTorch gives them.

    Raises:
        UserError: it is neither.
    """
    if isinstance(content, dict):
        arrays = {key: value for key, value in content.items() if isinstance(value, np.ndarray)}
        if arrays:
            return arrays
    if isinstance(content, Module):
        return dict(_named(content, ""))
    raise UserError(f"a state dict or a module is expected in the checkpoint, not {type(content).__name__}")


def _named(module, prefix):
    own = module.__dict__
    for group in ("_parameters", "_buffers"):
        for name, value in own.get(group, {}).items():
            if isinstance(value, np.ndarray):
                yield prefix + name, value
    for name, child in own.get("_modules", {}).items():
        if isinstance(child, Module):
            yield from _named(child, f"{prefix}{name}.")


def _read_archive(path):
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        pickles = [name for name in names if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise UserError(f"{path} is a zip archive, but no PyTorch checkpoint: it has no data.pkl")
        folder = pickles[0][: -len("data.pkl")]
        order = folder + "byteorder"
        if order in names and archive.read(order).strip() != sys.byteorder.encode():
            raise UserError(f"{path} was written on a machine of another byte order; save it again on this kind")

        def storage(dtype, key, count):
            return np.frombuffer(archive.read(f"{folder}data/{key}"), dtype, count)

        return _TensorsOnly(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_stream(file):
    """The older format: magic number, protocol, system, pickle, storage keys, then raw storages."""
    nothing = lambda *_: None  # noqa: E731
    if _TensorsOnly(file, nothing).load() != _MAGIC:
        raise UserError(f"{file.name} is no PyTorch checkpoint")
    for _ in range(2):
        _TensorsOnly(file, nothing).load()
    buffers = {}

    def storage(dtype, key, count):
        return buffers.setdefault(key, np.empty(count, dtype))

    content = _TensorsOnly(file, storage).load()
    for key in _TensorsOnly(file, nothing).load():
        count = int.from_bytes(file.read(8), "little")
        if key not in buffers or len(buffers[key]) != count:
            raise UserError(f"{file.name} is damaged: storage {key} has {count} elements")
        raw = file.read(count * buffers[key].itemsize)
        buffers[key][:] = np.frombuffer(raw, buffers[key].dtype, count)
    return content


def _tensor(storage, offset, size, stride, *_):
    # A view, not a copy: the older format fills its storages after the pickle has been read.
    if offset < 0 or any(n < 0 for n in (*size, *stride)):
        raise ValueError("a tensor has a negative size")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if all(size) and last >= len(storage):
        raise ValueError("a tensor reaches beyond its storage")
    return np.lib.stride_tricks.as_strided(
        storage[offset:], tuple(size), [step * storage.itemsize for step in stride], writeable=False
    )


class _TensorsOnly(pickle.Unpickler):
    """Unpickles tensors and containers; whatever else a file names is refused before it is made."""

    _ALLOWED = {
        ("torch._utils", "_rebuild_tensor"): _tensor,
        ("torch._utils", "_rebuild_tensor_v2"): _tensor,
        ("torch._utils", "_rebuild_parameter"): lambda data, *_: data,
        ("torch.nn.parameter", "Parameter"): lambda data, *_: data,
        ("torch.nn.backends.thnn", "_get_thnn_function_backend"): lambda *_: None,
        ("torch", "Size"): tuple,
        ("torch", "device"): lambda *_: None,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("collections", "defaultdict"): collections.defaultdict,
        ("argparse", "Namespace"): types.SimpleNamespace,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
    }

    def __init__(self, file, storage):
        super().__init__(file, encoding="latin1")
        self.storage = storage

    def find_class(self, module, name):
        if (module, name) in self._ALLOWED:
            return self._ALLOWED[module, name]
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return _DTYPES[name]
        if f"{module}.".startswith(_MODULE_PACKAGES) and name.isidentifier():
            return Module
        raise pickle.UnpicklingError(f"it names {module}.{name}, which is no tensor")

    def persistent_load(self, saved):
        kind, dtype, key, _, count = saved[:5]
        if kind not in ("storage", b"storage"):
            raise pickle.UnpicklingError(f"it holds a {kind!r}, which is no tensor")
        if kind == "module":
            return Module
        if dtype not in _DTYPES.values():
            raise pickle.UnpicklingError("it holds a tensor of an unknown type")
        return self.storage(dtype, str(key), int(count))
