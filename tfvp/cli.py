"""The command `tfvp`, and what it shares with the scripts: arguments to a command, errors to sentences."""

import argparse
import importlib
import inspect
import keyword
import sys

import tfvp
from tfvp import errors
from tfvp.errors import UserError

# In the order of help. Each is a file of tfvp/commands.
COMMANDS = (
    "train",
    "evaluate",
    "predict",
    "studio",
    "compare",
    "score",
    "data",
    "export",
    "publish",
    "client",
    "import",
    "list",
    "benchmark",
    "predict-labels",
    "render-labels",
    "shotwise-fvd",
)


def main(arguments=None):
    """Runs `tfvp` and exits."""
    run(lambda: execute(arguments))


def run(function):
    """Calls a function and exits: 0, 2 with a sentence after a UserError, 130 after Ctrl-C."""
    try:
        function()
    except Exception as error:
        sentence = error if isinstance(error, UserError) else errors.noted(error)
        if sentence is None:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt as stopped:  # a command that keeps what it has done says so
        print(f"\n{str(stopped) or 'stopped'}", file=sys.stderr)
        sys.exit(130)


def execute(arguments=None):
    """Parses arguments, `sys.argv` by default, and runs the subcommand that they name.

    Raises:
        UserError: what the command raises.
        SystemExit: wrong arguments, or --help.
    """
    options = build_parser().parse_args(arguments)
    options.command.run(options)


def build_parser():
    """The parser of `tfvp`. Needs no TensorFlow."""
    parser = argparse.ArgumentParser(
        prog="tfvp",
        description="Video prediction in TensorFlow 2 and Keras.",
        epilog="example:\n  tfvp train --config demo\n  tfvp evaluate --logdir logs/demo\n\n"
        "`tfvp COMMAND --help` shows the options of a command.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"tfvp {tfvp.__version__}")
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = load(name)
        summary, rest = _help_of(command)
        one = subparsers.add_parser(
            name, help=summary, description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        command.add_arguments(one)
        one.set_defaults(command=command)
    return parser


def load(name):
    """The module of a subcommand."""
    module = name.replace("-", "_")
    return importlib.import_module(
        f"tfvp.commands.{module}_" if keyword.iskeyword(module) else f"tfvp.commands.{module}"
    )


def script_parser(name):
    """A parser for one of the scripts: that of the subcommand `name`, under the script's own name."""
    command = load(name)
    parser = argparse.ArgumentParser(description=_help_of(command)[0])
    command.add_arguments(parser)
    return parser


def _help_of(command):
    """(first paragraph in one line, the rest) of a command's docstring."""
    summary, _, rest = inspect.getdoc(command).partition("\n\n")
    return " ".join(summary.split()), rest
