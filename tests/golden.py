"""Reference values: finds them, regenerates their weights and inputs, compares.

Cases live outside of the repository, in `../shared/golden` or where TFVP_GOLDEN points; tests
skip where they are absent. A case is a manifest (JSON: what went in) and an archive (NPZ: what
came out), in one of two formats that differ in how rules and subsamples are written down.
"""

import functools
import json
import os
import pathlib

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]


def folder(variable, name):
    """The folder that an environment variable names, or that lies beside the repository; or skips."""
    path = pathlib.Path(os.environ.get(variable, ROOT.parent / "shared" / name))
    if not path.is_dir():
        pytest.skip(f"no reference files: {variable} is not set and ../shared/{name} does not exist")
    return path


def data_folder():
    """Folder of real clips and images that tests may read; or skips."""
    return folder("TFVP_TEST_DATA", "data")


@functools.lru_cache(maxsize=4)
def case(system, name):
    """The case `name` of `system`, or skips."""
    return Case(folder("TFVP_GOLDEN", "golden") / system / name)


class Case:
    """One case.

    Attributes:
        manifest: what the JSON file says.
        outputs: {name: array} of the NPZ file.
        parameters: {name: float32 array}, in order.
        inputs: {name: array}.
        scalars: {name: number or list}.
    """

    def __init__(self, path):
        self.manifest = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        with np.load(path.with_suffix(".npz")) as archive:
            self.outputs = {key: archive[key] for key in archive.files}
        seed = self.manifest["seed"]
        self.parameters = {p["name"]: _parameter(seed, p) for p in self.manifest.get("parameters", [])}
        inputs = self.manifest.get("inputs", [])
        self.inputs = {i["name"]: _input(i) for i in inputs} if isinstance(inputs, list) else {}
        if isinstance(inputs, str) and "video: uniform j=0" in inputs:
            hyper = self.manifest["hyper"]
            shape = (hyper["B"], hyper["T"], 64, 64, hyper["channels"])
            self.inputs["video"] = draw(seed, "uniform", 0, shape)
        self.scalars = self.manifest.get("scalars", {})

    def check(self, name, value, factor=1.0):
        """Asserts that a whole tensor agrees with the recorded subsample of `name`.

        The order of axes must be that of the record; `factor` widens the tolerance.
        """
        value = np.asarray(value, np.float64)
        if f"{name}.sub" in self.outputs:
            size, step = self.outputs[f"{name}.stat"][:2]
            assert value.size == size, f"{name} has {value.size} elements, not {size:.0f}"
            reference = self.outputs[f"{name}.sub"].astype(np.float64)
            sample = value.reshape(-1)[:: int(step)][: reference.size]
            tolerance = 1e-4 * self.outputs[f"{name}.stat"][3] + 1e-5
        else:
            reference = self.outputs[name].astype(np.float64)
            record = self.manifest.get("outputs", {}).get(name, {})
            if "shape" in record:
                assert list(value.shape) == list(record["shape"]), (
                    f"{name} has shape {value.shape}, not {record['shape']}"
                )
            sample = value.reshape(-1)[:: record.get("stride", 1)]
            reference = reference.reshape(-1)
            tolerance = self._rtol(name) * np.maximum(np.abs(reference), np.sqrt(np.mean(reference**2)))
        worst = np.max(np.abs(sample - reference) / np.maximum(tolerance, 1e-30))
        assert worst <= factor, f"{name} is off by {worst:.3g} times the tolerance"

    def check_scalar(self, name, value):
        """Asserts that a number agrees with the one recorded as `name`."""
        expected = self.scalars[name] if name in self.scalars else float(self.outputs[name])
        assert float(value) == pytest.approx(expected, rel=self._rtol(name)), name

    def _rtol(self, name):
        overrides = self.manifest.get("rtol_overrides", {})
        matching = [value for part, value in overrides.items() if part in name]
        return matching[0] if matching else self.manifest.get("rtol", 1e-4)


def draw(seed, kind, number, shape):
    """Input number `number` of a case whose manifest describes inputs as "uniform j=..." or "normal j=..."."""
    random = np.random.RandomState(seed * 1000 + 900 + number)
    values = random.uniform(0, 1, shape) if kind == "uniform" else random.standard_normal(shape)
    return values.astype(np.float32)


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
