"""Turn a published checkpoint of another framework into a run.

examples:
  tfvp import htsr model_5000/model --config cwvae/mmnist
  tfvp import svg model.pth --config svg/smmnist
  tfvp import iam4vp checkpoint.pth --config iam4vp/mmnist

PyTorch is not needed for its checkpoints.
"""

import importlib

from tfvp import quiet
from tfvp.commands import arguments

CHECKPOINTS = {
    "htsr": "HTSR and CW-VAE: prefix of a TensorFlow checkpoint's files, or their folder",
    "svg": "SVG: the authors' .pth file",
    "iam4vp": "IAM4VP: the released .pth file",
}


def add_arguments(parser):
    models = parser.add_subparsers(dest="model", metavar="MODEL", required=True)
    for model, checkpoint in CHECKPOINTS.items():
        one = models.add_parser(model, help=checkpoint, description=f"Turn a checkpoint of {model} into a run.")
        one.add_argument("checkpoint", help=checkpoint)
        arguments.add_new_run(one)
        arguments.add_config(one)


def run(options):
    quiet.import_tensorflow()
    importer = importlib.import_module(f"tfvp.importers.{options.model}")
    written = importer.import_checkpoint(
        options.checkpoint, options.config, options.overrides, options.logdir, options.name
    )
    print(f"written: {written.path}; next: tfvp evaluate --logdir {written.path}")
