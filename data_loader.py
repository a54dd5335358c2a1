"""Shows a data set, and what is missing: python data_loader.py --config ./configs/kth.yml

The same as `tfvp data`.
"""

from tfvp import cli
from tfvp.commands import data


def main():
    data.run(cli.script_parser("data").parse_args())


if __name__ == "__main__":
    cli.run(main)
