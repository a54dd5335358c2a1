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


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.serving import export

    print(f"written: {export.export(runs.find(options.logdir), options.weights)}")
