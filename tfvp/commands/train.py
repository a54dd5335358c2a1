"""Train a video prediction model, or resume its training.

example:
  tfvp train --config svg/smmnist --set train.batch_size=32 data.root=/data/mnist

The run is written to <logdir>/<config name>; rerun the same command to resume it.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_new_run(parser)
    arguments.add_config(parser)
    parser.add_argument("--export", action="store_true", help="write a SavedModel for TF Serving at the end")
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only check everything, and print parameters, memory, arithmetic and the first batch",
    )
    parser.add_argument(
        "--cluster",
        choices=("slurm",),
        help="several machines: a worker per task of `srun`; without it TF_CONFIG decides",
    )
    parser.set_defaults(evaluate="tfvp evaluate")


def run(options):
    quiet.import_tensorflow()
    from tfvp import config
    from tfvp.training import dry_run, loop, strategies

    if options.cluster == "slurm":
        strategies.join_slurm()
    loaded = config.load(options.config, options.overrides, options.name)
    check = _check_export if options.export else None
    if options.dry_run:
        print(dry_run.describe(loaded, check))
        return
    trained = loop.train(loaded, options.logdir, check)
    print(f"\nrun: {trained.path}\n  curves:  {trained.path / 'curves.png'}\n  samples: {trained.path / 'samples'}")
    if options.export and strategies.this_worker().chief:
        from tfvp.serving import export

        print(f"  export:  {export.export(trained)}")
    print(f"next: {options.evaluate} --logdir {trained.path}")


def _check_export(model):
    from tfvp.models import input_checks

    input_checks.check_clips(model, 1, "--export: a request of one clip")
