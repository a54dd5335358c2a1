"""Commands in this process."""

import runpy
import sys

import pytest

from tests.golden import ROOT
from tests.system.commands import sentence_of


@pytest.fixture
def here(monkeypatch, capfd):
    """Runs a command in this process, which saves its start: (exit status, standard output, standard error)."""

    def run(script, *arguments):
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        status = 0
        try:
            runpy.run_path(str(ROOT / script), run_name="__main__")
        except SystemExit as ended:
            status = ended.code
        return (status, *capfd.readouterr())

    return run


@pytest.fixture
def refused(here):
    """Runs a command in this process; the sentence that it ends with."""

    def run(*arguments, script="train.py"):
        status, _, said = here(script, *arguments)
        return sentence_of(status, said)

    return run
