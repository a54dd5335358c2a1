"""The command `tfvp`: what it offers, what it costs, what it keeps off the terminal."""

import json
import os
import re
import subprocess
import sys

import pytest

from tests.golden import ROOT
from tfvp import catalogue, cli, config, quiet, registry
from tfvp.commands import arguments
from tfvp.errors import UserError

CHATTER = re.compile(
    r"oneDNN|cuda|cuDNN|cuInit|computation_placer|absl::InitializeLog|rebuild TensorFlow", re.IGNORECASE
)

pytestmark = pytest.mark.smoke


def child(*arguments):
    """A new process; TensorFlow's own variables are as a user has them, not as the tests set them."""
    variables = {k: v for k, v in os.environ.items() if not k.startswith("TF_CPP")}
    arguments = [sys.executable, *arguments]
    return subprocess.run(arguments, cwd=ROOT, env=variables, capture_output=True, text=True, timeout=120)


def test_a_list_leaves_the_terminal_clean():
    done = child("-m", "tfvp", "list", "models")
    assert done.returncode == 0 and done.stderr == "", done.stderr
    for name in registry.names("model"):
        assert re.search(rf"^{name}$", done.stdout, re.MULTILINE), name
    assert "Denton and Fergus 2018" in done.stdout and "beta=0.0001" in done.stdout
    assert not CHATTER.search(done.stdout)


def test_an_error_is_one_line(tmp_path):
    done = child("-m", "tfvp", "evaluate", "--logdir", str(tmp_path / "none"))
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr


PROGRAM = """
import sys
from tfvp import cli
for arguments in (["--help"], ["train", "--help"], ["train"], ["trian"], ["list", "configs"], ["--version"]):
    try:
        cli.execute(arguments)
    except SystemExit:
        pass
heavy = [name for name in ("tensorflow", "matplotlib", "cv2") if name in sys.modules]
sys.exit(f"imported {heavy}" if heavy else 0)
"""


def test_help_and_wrong_arguments_need_no_tensorflow():
    done = child("-c", PROGRAM)
    assert done.returncode == 0, done.stderr
    assert "svg/smmnist" in done.stdout and "invalid choice: 'trian'" in done.stderr


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_shows_an_example(name, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.execute([name, "--help"])
    text = capsys.readouterr().out
    assert ended.value.code == 0 and re.search(rf"^example.*:\n(.*\n)*  tfvp {name} ", text, re.MULTILINE), text


NOISE = [
    "I0000 00:00:1795566726.227101 12112 port.cc:153] oneDNN custom operations are on.",
    "2026-11-25 00:31:59.069211: I tensorflow/core/util/port.cc:113] oneDNN custom operations are on.",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
    "2026-11-25 00:31:59.1: E external/local_xla/cuda_dnn.cc:9261] Unable to register cuDNN factory: Attempting",
]
NEWS = [
    "E0000 00:00:1 12112 cuda_platform.cc:52] failed call to cuInit: CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    "2026-11-25 00:31:59.1: F tensorflow/core/platform/cpu_feature_guard.cc:37] The TensorFlow library was compiled to"
    " use AVX instructions, but these aren't available on your machine.",
    "ImportError: libcudart.so.12: cannot open shared object file",
]


def test_only_known_lines_are_turned_away():
    text = "\n".join([*NOISE, *NEWS]) + "\nno newline at the end"
    done = subprocess.run(
        [sys.executable, "-I", "-S", quiet.__file__], input=text, capture_output=True, text=True, timeout=60
    )
    assert done.stderr.splitlines() == [*NEWS, "no newline at the end"]


@pytest.mark.parametrize("machine, given, then", [("x86_64", None, "1"), ("AMD64", "0", "0"), ("arm64", None, None)])
def test_onednn_is_on_where_tensorflow_has_it_unless_it_is_turned_off(monkeypatch, machine, given, then):
    monkeypatch.setattr(quiet.os, "environ", {} if given is None else {quiet.ONEDNN: given})
    monkeypatch.setattr(quiet.platform, "machine", lambda: machine)
    quiet.prefer_onednn()
    assert quiet.os.environ.get(quiet.ONEDNN) == then and quiet.onednn() == (then == "1")


def test_the_last_words_of_a_dying_process_arrive():
    program = (
        "import os, sys, types\n"
        "from tfvp import quiet\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'tensorflow':\n"
        "            os.write(2, b'I0000 chatter\\nno AVX here\\n'), os.abort()\n"
        "sys.meta_path.insert(0, Finder())\n"
        "quiet.import_tensorflow()\n"
    )
    done = child("-X", "faulthandler=0", "-c", program)
    assert done.returncode < 0 and "no AVX here" in done.stderr and "chatter" not in done.stderr


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_the_catalogue_is_complete_and_plain(kind):
    entries = catalogue.entries(kind)
    names = {
        "models": registry.names("model"),
        "datasets": registry.names("dataset"),
        "metrics": registry.names("metric"),
        "configs": config.shipped(),
    }.get(kind)
    assert [one["name"] for one in entries] == (names or sorted(one["name"] for one in entries)) and entries
    assert json.loads(json.dumps(entries)) == entries
    for one in entries:
        assert one["summary"] and "\n" not in one["summary"] and one["doc"], one["name"]
        for option in one["options"]:
            assert option["doc"] and option["type"], f"{one['name']}: {option['name']} is not in the docstring"


def test_one_entry_in_full(capsys):
    cli.execute(["list", "models", "svg"])
    text = capsys.readouterr().out
    assert re.search(r"model\.prior=learned +\(learned \| fixed \| none\)\n +learned \(LP\), fixed", text)
    assert "configs: svg/bair" in text and "stochastic: true" in text
    cli.execute(["list", "configs", "svg/smmnist"])
    assert "train.batch_size=100" in capsys.readouterr().out
    with pytest.raises(UserError, match="did you mean 'svg'"):
        cli.execute(["list", "models", "svgg"])


def test_trained_models_are_listed_by_name_in_any_order(capsys):
    said = []
    for words in ("trained svg-smmnist-32", "models --trained svg-smmnist-32", "models svg-smmnist-32 --trained"):
        cli.execute(["list", *words.split()])
        said.append(capsys.readouterr().out)
    assert said[0].startswith("svg-smmnist-32\n") and len(set(said)) == 1
    for words in ("trained", "models --trained", "--trained models"):
        cli.execute(["list", *words.split()])
        said.append(capsys.readouterr().out)
    assert said[3] == said[4] == said[5] != said[0]
    with pytest.raises(UserError, match="say what to list: models, "):
        cli.execute(["list"])
    with pytest.raises(UserError, match="there are no trained metrics"):
        cli.execute(["list", "metrics", "--trained"])


def test_lists_of_names_may_have_spaces():
    assert arguments.names_of("lpips, ssim_finn,,fvd ") == ["lpips", "ssim_finn", "fvd"]
    assert arguments.names_of("") == []


def test_docstrings_are_read_as_they_are_written():
    doc = "First line.\n\nMore.\n\nArgs:\n    a, b: one\n        and two.\n    c: x: y.\n\nRaises:\n    Z: never."
    assert catalogue.split_docstring(doc) == (
        "First line.\n\nMore.",
        {"a": "one and two.", "b": "one and two.", "c": "x: y."},
    )
    assert catalogue.type_name(list[int] | None) == "list[int] | null"
