"""Trains a video prediction model: python train.py --logdir ./logs --config ./configs/kth.yml"""

import argparse

from tfvp import cli


def main():
    parser = argparse.ArgumentParser(description="Train a video prediction model, or resume its training.")
    parser.add_argument("--logdir", default="./logs", help="folder of runs; this one is <logdir>/<config name>")
    cli.add_config_arguments(parser)
    parser.add_argument("--export", action="store_true", help="write a SavedModel for TF Serving at the end")
    options = parser.parse_args()

    from tfvp import config
    from tfvp.serving import export
    from tfvp.training import loop, strategies

    run = loop.train(config.load(options.config, options.overrides), options.logdir)
    print(f"\nrun: {run.path}\n  curves:  {run.path / 'curves.png'}\n  samples: {run.path / 'samples'}")
    if options.export and strategies.this_worker().chief:
        print(f"  export:  {export.export(run)}")
    print(f"next: python eval_with_lpips.py --logdir {run.path}")


if __name__ == "__main__":
    cli.run(main)
