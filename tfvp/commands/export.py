"""Write a run as a SavedModel for TF Serving.

example:
  tfvp export --logdir logs/demo

The next version is written to <run>/export/<n>.
"""

import json

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--max-horizon",
        type=int,
        default=0,
        help="frames that a request may ask for, at most; default: 1000, or the run's horizon if that is longer",
    )
    parser.add_argument(
        "--max-samples", type=int, default=100, help="futures of each context that a request may ask for, at most"
    )


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.serving import description, export

    path = export.export(runs.find(options.logdir), options.weights, options.max_horizon, options.max_samples)
    about = json.loads((path / description.FILE).read_text(encoding="utf-8"))
    height, width = about["image_size"]
    print(f"written: {path}")
    print(f"  model:       {about['model']}, {about['weights']['which']} weights of epoch {about['weights']['epoch']}")
    print(f"  context:     {about['context']} frames of {height} x {width} x {about['channels']}")
    print(f"  horizon:     at most {about['max_horizon']} frames", end="")
    print(f", {about['max_samples']} futures" if about["stochastic"] else "")
    print(f"  signatures:  {', '.join(sorted(about['signatures']))}")
    print(f"  description: {path / description.FILE}")
