"""One run trained by several workers that Ray starts, on one machine or on many.

pip install "ray[train]"
python examples/ray_train.py --config demo --workers 2
python examples/ray_train.py --config svg/smmnist --logdir /shared/logs --workers 4 --gpus --restarts 3
"""

import argparse
import os
import pathlib

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.tensorflow import TensorflowTrainer


def work(options):
    """What each worker does; Ray has set TF_CONFIG."""
    # Ray asks for Keras 2, which tfvp has on TensorFlow 2.15 alone. To be taken back before Keras is imported.
    os.environ.pop("TF_USE_LEGACY_KERAS", None)
    from tfvp import config
    from tfvp.training import loop

    loop.train(config.load(options["config"], options["overrides"]), options["logdir"])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", required=True, help="a YAML file, or the name of a shipped configuration")
    parser.add_argument("--logdir", default="./logs", help="folder of runs that all workers share")
    parser.add_argument("--workers", type=int, default=2, help="processes; each has all GPUs that Ray gives it")
    parser.add_argument("--gpus", action="store_true", help="a GPU for each worker")
    parser.add_argument("--restarts", type=int, default=0, help="after a lost worker, from the last backup on")
    parser.add_argument("--set", nargs="*", default=[], dest="overrides", metavar="KEY=VALUE", help="options")
    options = parser.parse_args()

    logdir = pathlib.Path(options.logdir).resolve()  # Ray's workers have a folder of their own
    config = pathlib.Path(options.config)
    ray.init(include_dashboard=False)
    trainer = TensorflowTrainer(
        work,
        train_loop_config={
            "config": str(config.resolve() if config.is_file() else config),
            "overrides": options.overrides,
            "logdir": str(logdir),
        },
        scaling_config=ScalingConfig(num_workers=options.workers, use_gpu=options.gpus),
        run_config=RunConfig(
            storage_path=str(logdir / "ray"), failure_config=FailureConfig(max_failures=options.restarts)
        ),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
