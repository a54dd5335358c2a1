"""Predict the future of one video; no data set is needed.

examples:
  tfvp predict --logdir logs/demo --video clip.mp4 --horizon 60 --out future.mp4
  tfvp predict --logdir logs/demo --video clip.mp4 --start 30

The last frames of the video are observed, and what comes after its end is predicted. With --start the frames from that
one on are observed; the truth is then drawn beside the prediction, which is scored as far as the video goes.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser)
    parser.add_argument("--video", required=True, help="a video file, a folder of images or an array")
    parser.add_argument(
        "--start", type=int, metavar="FRAME", help="first observed frame, from 0; default: observe the last ones"
    )
    parser.add_argument("--open-loop-ctx", type=int, help="observed frames; default: as in the run's evaluation")
    parser.add_argument("--horizon", type=int, help="frames to predict; default: as in the run's evaluation")
    parser.add_argument("--num-samples", type=int, help="futures side by side, for stochastic models; default: 1")
    parser.add_argument(
        "--out",
        help=".mp4, .avi, .gif or .png to draw, or .npy for the predictions alone, uint8 [samples * horizon, H, W, C];"
        " default: <video>_future.mp4",
    )
    arguments.add_weights(parser)


def run(options):
    quiet.import_tensorflow()
    from tfvp.evaluation import tables
    from tfvp.prediction import forecast

    result = forecast.forecast(
        options.logdir,
        options.video,
        options.open_loop_ctx,
        options.horizon,
        1 if options.num_samples is None else options.num_samples,
        options.out,
        options.weights or "best",
        options.start,
    )
    if result.scores:
        table = tables.text(tables.of_evaluation(result.scores))
        print(f"{result.scored} true frames follow frame {result.observed[1]}:\n\n{table}\n")
    for note in result.notes:
        print(note)
    print(f"written: {result.path}")
