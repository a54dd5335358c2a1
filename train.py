"""Trains a video prediction model: python train.py --logdir ./logs --config ./configs/kth.yml

The same as `tfvp train`.
"""

from tfvp import cli
from tfvp.commands import train


def main():
    parser = cli.script_parser("train")
    parser.set_defaults(evaluate="python eval_with_lpips.py")
    train.run(parser.parse_args())


if __name__ == "__main__":
    cli.run(main)
