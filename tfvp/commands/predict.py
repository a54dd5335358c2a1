"""Predict the future of one video; no data set is needed.

example:
  tfvp predict --logdir logs/demo --video clip.mp4 --horizon 60 --out future.mp4
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser)
    parser.add_argument("--video", required=True, help="a video file, a folder of images or an array")
    parser.add_argument("--open-loop-ctx", type=int, help="observed frames; default: as in the run's evaluation")
    parser.add_argument("--horizon", type=int, help="frames to predict; default: as in the run's evaluation")
    parser.add_argument("--num-samples", type=int, help="futures side by side, for stochastic models; default: 1")
    parser.add_argument("--out", help=".mp4, .avi, .gif, .png or .npy to write; default: <video>_future.mp4")
    arguments.add_weights(parser)


def run(options):
    quiet.import_tensorflow()
    from tfvp.prediction import forecast

    path = forecast.forecast(
        options.logdir,
        options.video,
        options.open_loop_ctx,
        options.horizon,
        1 if options.num_samples is None else options.num_samples,
        options.out,
        options.weights or "best",
    )
    print(f"written: {path}")
