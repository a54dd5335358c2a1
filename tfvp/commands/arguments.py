"""Arguments that several commands take."""


def add_config(parser, required=True):
    """Adds --config and --set."""
    parser.add_argument(
        "--config",
        required=required,
        help="YAML file with what differs from configs/base.yml, or the name of a shipped one, such as svg/smmnist",
    )
    parser.add_argument(
        "--set",
        dest="overrides",
        nargs="+",
        action="extend",
        default=[],
        metavar="section.key=value",
        help="options that override the file, for example train.batch_size=8 data.root=/data/mnist",
    )


def add_new_run(parser):
    """Adds --logdir of a command that makes a run."""
    parser.add_argument("--logdir", default="./logs", help="folder of runs; this one is <logdir>/<config name>")


def add_run(parser, kind="a run"):
    """Adds --logdir of a command that reads a run."""
    parser.add_argument(
        "--logdir", default="./logs", help=f"{kind}, its model/ folder, or a folder of runs (then the newest)"
    )


def add_weights(parser):
    """Adds --weights."""
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="which weights of the run")
