"""Predict label maps for hundreds of frames and write them as PNG files.

example:
  tfvp predict-labels --logdir logs/hierarchical_shapes_structure --horizon 500

They are written to <run>/structures/<split>; `tfvp render-labels` turns them into video.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser, "a run of a model that predicts label maps")
    parser.add_argument("--horizon", type=int, help="frames to predict; default: as in the protocol")
    parser.add_argument("--num-samples", type=int, default=10, help="futures per clip")
    parser.add_argument("--num-examples", type=int, default=0, help="clips; 0 = the whole split")
    parser.add_argument("--split", choices=("train", "validation", "test"), help="which clips; default: the protocol's")
    parser.add_argument("--protocol", help="what fixes context, stride and windows; default: the run's eval.protocol")
    arguments.add_weights(parser)


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.prediction import predict_labels

    folder = predict_labels.extract(
        runs.find(options.logdir),
        options.horizon,
        options.num_samples,
        options.num_examples,
        options.split,
        options.weights,
        options.protocol,
    )
    print(f"written: {folder}")
