"""PyTorch's checkpoint files read without PyTorch, as NumPy arrays and plain containers.

Both formats are read: zip archives (since PyTorch 1.6) and the streams before them. Such a file
is a pickle, which could run anything. Here it makes tensors, containers and numbers, whole
modules become inert namespaces, and a file that names something else is refused. What a file
can reach of NumPy is a view of bytes that the file itself holds, with bounds that are checked
in Python integers. A crafted file can still take as much memory as pickle lets it.
"""

import collections
import io
import os
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
_TENSOR = "which is not a tensor"
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
    try:
        if isinstance(content, dict):
            arrays = {key: value for key, value in dict.items(content) if isinstance(value, np.ndarray)}
            if arrays:
                return arrays
        if isinstance(content, Module):
            return dict(_named(content, ""))
    except (AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"the checkpoint holds a module that PyTorch did not write ({error})") from None
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
            raise UserError(f"{path} is a zip archive, but not a PyTorch checkpoint: it has no data.pkl")
        folder = pickles[0][: -len("data.pkl")]
        order = folder + "byteorder"
        if order in names and archive.read(order).strip() != sys.byteorder.encode():
            raise UserError(f"{path} was written on a machine of another byte order; save it again on this kind")

        def storage(dtype, key, count):
            entry = archive.getinfo(f"{folder}data/{key}")
            # PyTorch never compresses, so what is read is no larger than the file.
            if entry.compress_type != zipfile.ZIP_STORED:
                raise UserError(f"{path} is compressed, which PyTorch's files are not; save it again")
            return np.frombuffer(archive.read(entry), dtype, count)

        return _TensorsOnly(io.BytesIO(archive.read(pickles[0])), storage).load()


def _read_stream(file):
    """The older format: magic number, protocol, system, pickle, storage keys, then raw storages."""
    nothing = lambda *_: None  # noqa: E731
    if _TensorsOnly(file, nothing).load() != _MAGIC:
        raise UserError(f"{file.name} is not a PyTorch checkpoint")
    for _ in range(2):
        _TensorsOnly(file, nothing).load()
    buffers, filled, size = {}, set(), os.fstat(file.fileno()).st_size

    def storage(dtype, key, count):
        if not 0 <= count * np.dtype(dtype).itemsize <= size:
            raise ValueError(f"storage {key} is larger than the file")
        return buffers.setdefault(key, np.zeros(count, dtype))

    content = _TensorsOnly(file, storage).load()
    for key in _TensorsOnly(file, nothing).load():
        count = int.from_bytes(file.read(8), "little")
        if key not in buffers or len(buffers[key]) != count:
            raise UserError(f"{file.name} is damaged: storage {key} has {count} elements")
        raw = file.read(count * buffers[key].itemsize)
        buffers[key][:] = np.frombuffer(raw, buffers[key].dtype, count)
        filled.add(key)
    if set(buffers) - filled:
        raise UserError(f"{file.name} is damaged: storage {min(set(buffers) - filled)} is missing")
    return content


class _Storage:
    """The numbers of one storage, [n]. A pickle can only get it from `persistent_load`."""

    __slots__ = ("values",)

    def __init__(self, values):
        self.values = values

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it alters a storage")


class _Call:
    """A function that a pickle may call and can do nothing else with, such as setting its attributes."""

    __slots__ = ("function",)

    def __init__(self, function):
        self.function = function

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __setstate__(self, state):
        raise pickle.UnpicklingError("it alters a function")


def _tensor(storage, offset, size, stride, *_):
    # A view, not a copy: the older format fills its storages after the pickle has been read.
    # Only a whole storage may be viewed: a view of a view could reach beyond the memory below both.
    if type(storage) is not _Storage or any(type(n) is not int or n < 0 for n in (offset, *size, *stride)):
        raise ValueError("a tensor is not made of a storage, sizes and strides")
    values = storage.values
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if all(size) and last >= len(values):
        raise ValueError("a tensor reaches beyond its storage")
    if not all(size):
        return np.zeros(tuple(size), values.dtype)
    return np.lib.stride_tricks.as_strided(
        values[offset:], tuple(size), [step * values.itemsize for step in stride], writeable=False
    )


_SAME, _NOTHING = _Call(lambda data, *_: data), _Call(lambda *_: None)


class _TensorsOnly(pickle.Unpickler):
    """Unpickles tensors and containers; whatever else a file names is refused before it is made."""

    _ALLOWED = {
        ("torch._utils", "_rebuild_tensor"): _Call(_tensor),
        ("torch._utils", "_rebuild_tensor_v2"): _Call(_tensor),
        ("torch._utils", "_rebuild_parameter"): _SAME,
        ("torch.nn.parameter", "Parameter"): _SAME,
        ("torch.nn.backends.thnn", "_get_thnn_function_backend"): _NOTHING,
        ("torch", "Size"): tuple,
        ("torch", "device"): _NOTHING,
        ("collections", "OrderedDict"): collections.OrderedDict,
        ("collections", "defaultdict"): collections.defaultdict,
        ("argparse", "Namespace"): types.SimpleNamespace,
        ("builtins", "set"): set,
        ("__builtin__", "set"): set,
    }

    def __init__(self, file, storage):
        super().__init__(file, encoding="latin1")
        self.storage = storage
        self.storages = {}

    def find_class(self, module, name):
        if (module, name) in self._ALLOWED:
            return self._ALLOWED[module, name]
        if module in ("torch", "torch.storage") and name in _DTYPES:
            return name  # a name is all that `persistent_load` needs; NumPy's own type could be called
        if f"{module}.".startswith(_MODULE_PACKAGES) and name.isidentifier():
            return Module
        raise pickle.UnpicklingError(f"it names {module}.{name}, {_TENSOR}")

    def persistent_load(self, saved):
        kind, dtype, *rest = saved
        if kind == "module":  # the older format's way to name a class: its source follows
            return Module
        if kind != "storage":
            raise pickle.UnpicklingError(f"it holds a {kind!r}, {_TENSOR}")
        key, _, count, *view = rest
        if any(part is not None for part in view):
            raise pickle.UnpicklingError("it holds a view of a storage, which is not read")
        if type(dtype) is not str or dtype not in _DTYPES or type(count) is not int:
            raise pickle.UnpicklingError("it holds a tensor of an unknown type")
        if str(key) not in self.storages:
            self.storages[str(key)] = _Storage(self.storage(_DTYPES[dtype], str(key), count))
        return self.storages[str(key)]
