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
    """Adds --logdir and --name of a command that makes a run."""
    parser.add_argument("--logdir", default="./logs", help="folder of runs; this one is <logdir>/<config name>")
    parser.add_argument("--name", help="of the run, where there are several of one configuration")


def add_run(parser, kind="a run"):
    """Adds --logdir of a command that reads a run."""
    parser.add_argument(
        "--logdir", default="./logs", help=f"{kind}, its model/ folder, or a folder of runs (then the newest)"
    )


def add_run_or_trained(parser):
    """Adds --logdir and --model of a command that reads a run or a trained model."""
    add_run(parser)
    parser.add_argument(
        "--model",
        metavar="NAME",
        help="a trained model in place of a run, one of `tfvp list trained`; what is written goes to <logdir>/NAME",
    )


def names_of(text):
    """The names in a list that is separated by commas, with or without spaces."""
    return [name.strip() for name in text.split(",") if name.strip()]


def run_of(options):
    """The `tfvp.run.Run` that --logdir or --model names.

    Raises:
        UserError: there is none.
    """
    from tfvp import run as runs
    from tfvp.zoo import shelf

    return shelf.run_of(options.model, options.logdir) if options.model else runs.find(options.logdir)


def add_weights(parser):
    """Adds --weights."""
    parser.add_argument("--weights", choices=("best", "last"), default="best", help="which weights of the run")
