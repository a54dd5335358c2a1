"""What the commands share: quiet start-up, configurations from arguments, errors as sentences."""

import os
import sys

# TensorFlow reads this when it is first imported.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tfvp.errors import UserError  # noqa: E402


def run(main):
    """Runs a command and exits: 0, 2 with a sentence after a UserError, 130 after Ctrl-C."""
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from the last finished epoch", file=sys.stderr)
        sys.exit(130)


def add_config_arguments(parser, default=None):
    """Adds --config and --set to an argument parser."""
    parser.add_argument(
        "--config", default=default, required=default is None, help="YAML file with what differs from configs/base.yml"
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="section.key=value",
        help="options that override the file, for example train.batch_size=8 data.root=/data/mnist",
    )
