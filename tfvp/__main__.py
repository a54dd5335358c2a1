"""`python -m tfvp`, the same as `tfvp`."""

from tfvp import cli

if __name__ == "__main__":
    cli.main()
