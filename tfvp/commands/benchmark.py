"""Measure what models, loaders and recovery cost on this machine.

examples:
  tfvp benchmark models --only demo svg --skip-published
  tfvp benchmark loader
  tfvp benchmark storage --videos clip.avi film.mp4
  tfvp benchmark faults --kills 20
  tfvp benchmark against ../svg --reference svg --python ../torch/bin/python
"""

import importlib
import pathlib
import sys

import tfvp
from tfvp import quiet
from tfvp.errors import UserError

MODULES = {
    "models": "tables",
    "floor": "floor",
    "loader": "loader",
    "film": "film",
    "storage": "storage",
    "faults": "faults",
    "backups": "backups",
    "convolutions": "convolutions",
    "svg-prior": "svg_prior",
    "exports": "exports",
    "against": "against",
}


def add_arguments(parser):
    kinds = parser.add_subparsers(dest="benchmark", metavar="BENCHMARK", required=True)

    models = _add(kinds, "models", "every model beside the limits of this machine")
    models.add_argument("--only", nargs="+", default=[], metavar="PART", help="configurations whose name has a part")
    models.add_argument(
        "--skip-published", action="store_true", help="only the small sizes: six minutes, not seventeen"
    )
    models.add_argument(
        "--published-batch", action="store_true", help="published sizes alone, with their published batch sizes"
    )

    floor = _add(
        kinds, "floor", "the time below which no GPU makes the published training steps, from their arithmetic"
    )
    floor.add_argument("--only", nargs="+", default=[], metavar="PART", help="configurations whose name has a part")

    loader = _add(kinds, "loader", "frames per second of every loader")
    loader.add_argument("--seconds", type=float, default=3.0, help="per measurement")
    loader.add_argument("--clips", type=int, default=48, help="AVI files to write")

    film = _add(kinds, "film", "how fast a long film is decoded, the memory that takes, and what a kill costs")
    film.add_argument("--minutes", type=int, default=120, help="that it lasts")
    film.add_argument("--size", type=int, default=128, help="pixels of a side that frames are brought to")

    storage = _add(kinds, "storage", "bytes and frames per second of the kinds of data.storage, and of others")
    storage.add_argument("--videos", nargs="+", default=[], metavar="PATH", help="files; default: drawn frames")
    storage.add_argument("--sizes", nargs="+", type=int, default=[64, 128], metavar="PIXELS", help="of the frames")
    storage.add_argument("--channels", type=int, choices=(1, 3), default=3, help="of files: 1 = grey, 3 = RGB")
    storage.add_argument("--frames", type=int, default=120, help="of each video, at most")
    storage.add_argument("--seconds", type=float, default=1.0, help="per measurement")

    faults = _add(kinds, "faults", "commands that are killed at random moments: does the next try end as if not?")
    faults.add_argument("--kills", type=int, default=20, help="how many")
    faults.add_argument("--seed", type=int, default=1, help="of the moments")
    faults.add_argument("--only", choices=("prepare", "training", "evaluation", "export"), help="one of the commands")

    backups = _add(kinds, "backups", "what a backup costs the training steps beside it")
    backups.add_argument("--only", nargs="+", default=[], metavar="PART", help="configurations whose name has a part")
    backups.add_argument("--steps", type=int, default=5, help="in a round")
    backups.add_argument("--rounds", type=int, default=9, help="with and without a backup, in turn")

    prior = _add(kinds, "svg-prior", "the deviation of SVG's learned prior around wall hits")
    prior.add_argument("--logdir", default="./logs", help="a run of svg on stochastic_mnist with one digit")
    prior.add_argument("--clips", type=int, default=256, help="test clips")
    prior.add_argument("--frames", type=int, default=15, help="of each clip")
    prior.add_argument("--against", help="a second run, to compare after the first bounce; both must be evaluated")

    convolutions = _add(kinds, "convolutions", "Winograd's algorithm beside TensorFlow's convolutions, on a CPU")
    convolutions.add_argument("--only", nargs="+", default=[], metavar="PART", help="cases whose name has a part")
    convolutions.add_argument("--rounds", type=int, default=9, help="a call of each in each")

    exports = _add(kinds, "exports", "small models as SavedModel, TFLite and ONNX: which work, how fast they are")
    exports.add_argument("--only", nargs="+", default=[], metavar="PART", help="configurations whose name has a part")
    exports.add_argument("--limit", type=float, default=600.0, help="seconds for one conversion or measurement")

    against = _add(kinds, "against", "a reference's own training step and rollout beside tfvp's, in turns")
    against.add_argument("folder", metavar="DIR", help="the reference's code")
    against.add_argument(
        "--reference",
        required=True,
        metavar="NAME",
        help="openstl, svg, iam4vp, structure, notebook or cwvae; or a Python file of adapters like"
        " benchmarks/references.py",
    )
    against.add_argument("--python", default=sys.executable, help="that has PyTorch; default: the one that runs this")
    against.add_argument("--only", nargs="+", default=[], metavar="PART", help="models whose name has a part")
    against.add_argument("--call", choices=("train", "rollout"), help="one of the two")
    against.add_argument(
        "--rounds", type=int, default=5, help="a call of each side in each, after one that is not timed"
    )
    against.add_argument("--batch", type=int, help="clips of a training step, instead of those of the table")
    against.add_argument("--horizon", type=int, help="frames of a rollout, instead of those of the table")
    against.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="OPTION=VALUE", help="of tfvp's side"
    )


def run(options):
    if getattr(options, "rounds", 1) < 1:
        raise UserError(f"--rounds={options.rounds} must be at least 1")
    quiet.import_tensorflow()
    package = _package()
    importlib.import_module(f"{package}.{MODULES[options.benchmark]}").run(options)


def _add(kinds, name, text):
    return kinds.add_parser(name, help=text, description=f"Measures {text}.")


def _package():
    """The package of benchmarks: inside of tfvp in a wheel, beside it in a checkout."""
    folder = pathlib.Path(tfvp.__file__).resolve().parent
    if (folder / "benchmarks").is_dir():
        return "tfvp.benchmarks"
    sys.path.insert(0, str(folder.parent))
    return "benchmarks"
