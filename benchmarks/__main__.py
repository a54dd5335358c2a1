"""`python -m benchmarks`, the same as `tfvp benchmark`."""

import sys

from tfvp import cli

if __name__ == "__main__":
    cli.main(["benchmark", *sys.argv[1:]])
