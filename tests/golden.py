"""Golden values: finds them, regenerates their weights and inputs, compares.

They lie in `tests/golden_values`; TFVP_GOLDEN names the folder of another set of the same cases.
A case is a manifest (JSON: what went in) and an archive (NPZ: what came out), in one of two
formats that differ in how rules and subsamples are written down; see the READMEs beside them.
Seeds, batch sizes, lengths and shapes are those of the case, so that the tests hold for any set.
"""

import functools
import json
import os
import pathlib
import re

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def data_folder():
    """The folder of real clips and images that TFVP_TEST_DATA names, or that lies beside the repository; or skips."""
    path = pathlib.Path(os.environ.get("TFVP_TEST_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip("no clips: TFVP_TEST_DATA is not set and ../shared/data does not exist")
    return path


@functools.lru_cache(maxsize=4)
def case(system, name):
    """The case `name` of `system`; skips where another set has the system, but not the case."""
    own = ROOT / "tests" / "golden_values"
    folder = pathlib.Path(os.environ.get("TFVP_GOLDEN") or own)
    path = folder / system / name
    if folder != own and path.parent.is_dir() and not path.with_suffix(".json").is_file():
        pytest.skip(f"TFVP_GOLDEN={folder} has no {system}/{name}.json")
    return Case(path)


class Case:
    """One case.

    Attributes:
        manifest: what the JSON file says.
        seed: from which weights and inputs are drawn.
        hyper: {name: value} of sizes and settings.
        outputs: {name: array} of the NPZ file.
        parameters: {name: float32 array}, in order; empty where modules have their own.
        modules: {module: {name: float32 array}}, in order.
        inputs: {name: array} of the inputs that the manifest lists one by one.
        scalars: {name: number or list}.
    """

    def __init__(self, path):
        self.manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz")) as archive:
            self.outputs = {key: archive[key] for key in archive.files}
        self.seed = self.manifest["seed"]
        self.hyper = self.manifest.get("hyper", self.manifest.get("hyperparameters", {}))
        self.scalars = self.manifest.get("scalars", {})
        self.parameters, self.modules = {}, {}
        for entry in self.manifest.get("parameters", []):
            group = self.modules.setdefault(entry["module"], {}) if "module" in entry else self.parameters
            group[entry["name"]] = _parameter(self.seed, entry)
        inputs = self.manifest.get("inputs", [])
        if isinstance(inputs, dict):  # format A, with a table
            self.inputs = {name: self._formula(entry["gen"], entry["shape"]) for name, entry in inputs.items()}
        else:  # format B, or a sentence from which the test draws
            self.inputs = {i["name"]: _input(i) for i in inputs} if isinstance(inputs, list) else {}

    def draw(self, kind, number, shape):
        """The input that format A describes as "uniform j=number" or "normal j=number": float32."""
        random = np.random.RandomState(self.seed * 1000 + 900 + number)
        values = random.uniform(0, 1, shape) if kind == "uniform" else random.standard_normal(shape)
        return values.astype(np.float32)

    def shape(self, name):
        """The whole shape of the output `name`."""
        if f"{name}.shape" in self.outputs:
            return tuple(int(n) for n in self.outputs[f"{name}.shape"])
        recorded = self.manifest.get("outputs", {})
        return tuple(recorded[name]["shape"] if name in recorded else self.outputs[name].shape)

    def numbers(self, pattern):
        """The integers that the group of a pattern matches in the names of outputs and inputs, sorted."""
        matches = (re.fullmatch(pattern, name) for name in [*self.outputs, *self.inputs])
        return sorted({int(match.group(1)) for match in matches if match})

    def check(self, name, value, factor=1.0, rtol=None, atol=0.0):
        """Asserts that a whole tensor agrees with the recorded subsample of `name`.

        Args:
            name: of the output.
            value: the tensor, with its axes in the order of the record.
            factor: widens the case's own tolerance.
            rtol, atol: replace the case's own tolerance if either is set.
        """
        value = np.asarray(value, np.float64)
        assert value.shape == self.shape(name), f"{name} has shape {value.shape}, not {self.shape(name)}"
        if f"{name}.sub" in self.outputs:
            reference = self.outputs[f"{name}.sub"].astype(np.float64)
            sample = value.reshape(-1)[:: int(self.outputs[f"{name}.stat"][1])][: reference.size]
            tolerance = 1e-4 * self.outputs[f"{name}.stat"][3] + 1e-5
        else:
            record = self.manifest.get("outputs", {}).get(name, {})
            reference = self.outputs[name].astype(np.float64).reshape(-1)
            sample = value.reshape(-1)[:: record.get("stride", 1)]
            tolerance = self._rtol(name) * np.maximum(np.abs(reference), np.sqrt(np.mean(reference**2)))
        if rtol is not None or atol:
            tolerance = (rtol or 0.0) * np.abs(reference) + atol
        assert sample.shape == reference.shape, f"{name}: {sample.size} values are compared with {reference.size}"
        worst = np.max(np.abs(sample - reference) / np.maximum(tolerance, 1e-30))
        assert worst <= factor, f"{name} is off by {worst:.3g} times the tolerance"

    def check_scalar(self, name, value, rtol=None, atol=None):
        """Asserts that a number agrees with the one recorded as `name`; `rtol` replaces the case's own."""
        expected = self.scalars[name] if name in self.scalars else float(self.outputs[name])
        assert float(value) == pytest.approx(expected, rel=rtol or self._rtol(name), abs=atol), name

    def _rtol(self, name):
        overrides = self.manifest.get("rtol_overrides", {})
        matching = [value for part, value in overrides.items() if part in name]
        return matching[0] if matching else self.manifest.get("rtol", 1e-4)

    def _formula(self, formula, shape):
        """An input of format A: "uniform j=0" or "tanh(normal) j=1"."""
        function, kind, number = re.fullmatch(r"(?:(\w+)\()?(\w+)\)? j=(\d+)", formula).groups()
        values = self.draw(kind, int(number), shape)
        return getattr(np, function)(values) if function else values


def _parameter(seed, entry):
    w = np.random.RandomState(seed * 1000 + entry["k"]).standard_normal(tuple(entry["shape"])).astype(np.float32)
    rule = entry["rule"]
    if rule == "0.1*normal":
        return np.float32(0.1) * w
    if rule == "1+0.1*normal":
        return np.float32(1) + np.float32(0.1) * w
    w = w * np.float32(entry["scale"])
    return np.float32(1) + w if rule == "norm_scale" else w


def _input(entry):
    if "values" in entry:
        return np.array(entry["values"])
    random, shape, kind = np.random.RandomState(entry["random_state"]), tuple(entry["shape"]), entry["generator"]
    if kind == "uniform":
        return random.random_sample(shape).astype(np.float32)
    if kind == "normal":
        return random.standard_normal(shape).astype(np.float32)
    if kind == "half_normal":
        return (0.5 * random.standard_normal(shape)).astype(np.float32)
    if kind == "normal64":
        return random.standard_normal(shape)
    if kind == "abs_normal_p05":
        return (np.abs(random.standard_normal(shape)) + 0.05).astype(np.float32)
    if kind == "bernoulli":
        return (random.random_sample(shape) < 0.5).astype(np.float32)
    count, (height, width, channels) = int(np.prod(shape[:-3])), shape[-3:]
    if kind == "blocks_uint8":
        cells = random.randint(0, 256, (count, height // 8, width // 8, channels))
        return cells.repeat(8, axis=1).repeat(8, axis=2).astype(np.uint8).reshape(shape)
    if kind == "smooth":
        cells = random.random_sample((count, height // 4, width // 4, channels))
        return _mean_filter(cells.repeat(4, axis=1).repeat(4, axis=2)).astype(np.float32).reshape(shape)
    raise ValueError(f"unknown generator {kind!r} of input {entry['name']!r}")


def _mean_filter(images):
    """5x5 mean with edge-replicating borders, in float64."""
    padded = np.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    height, width = images.shape[1:3]
    shifted = [padded[:, r : r + height, c : c + width] for r in range(5) for c in range(5)]
    return np.sum(shifted, axis=0) / 25.0
