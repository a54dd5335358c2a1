"""Write a run as a SavedModel for TF Serving.

example:
  tfvp export --logdir logs/demo

The next version is written to <run>/export/<n>.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--max-horizon",
        type=int,
        default=0,
        help="frames that a request may ask for, at most; default: 1000, or the run's horizon if that is longer",
    )
    parser.add_argument(
        "--max-samples", type=int, default=100, help="futures of each context that a request may ask for, at most"
    )


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.serving import export

    path = export.export(runs.find(options.logdir), options.weights, options.max_horizon, options.max_samples)
    print(f"written: {path}")
