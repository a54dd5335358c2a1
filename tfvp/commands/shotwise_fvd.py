"""FVD over time: predicted shots against shots of the training videos.

example:
  tfvp shotwise-fvd --logdir logs/hierarchical_shapes_image --horizon 500
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser)
    parser.add_argument("--horizon", type=int, default=160, help="frames to predict")
    parser.add_argument("--window", type=int, default=16, help="frames of a shot")
    parser.add_argument("--num-samples", type=int, default=1, help="futures per clip")
    parser.add_argument("--num-examples", type=int, default=64, help="test clips")
    parser.add_argument("--shots", type=int, default=512, help="shots of the training videos")
    arguments.add_weights(parser)


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.evaluation import shotwise_fvd

    result = shotwise_fvd.shotwise_fvd(
        runs.find(options.logdir),
        options.horizon,
        options.window,
        options.num_samples,
        options.num_examples,
        options.shots,
        options.weights,
    )
    print("predicted frames  FVD")
    for first, value in result["fvd"].items():
        print(f"{first:>4} to {int(first) + result['window'] - 1:<4}      {value:.1f}")
