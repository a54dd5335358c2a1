"""Predict the future of one video; no data set is needed.

examples:
  tfvp predict --logdir logs/demo --video clip.mp4 --horizon 60 --out future.mp4
  tfvp predict --logdir logs/demo --video clip.mp4 --start 30
  tfvp predict --model cwvae-long-mmnist-64 --samples 5 --horizon 40
  tfvp predict --model cwvae-long-mmnist-64 --samples 5 --seed 7 --test-clip 3

The last frames of the video are observed, and what comes after its end is predicted. With --start the frames from that
one on are observed; the truth is then drawn beside the prediction, which is scored as far as the video goes.
"""

from tfvp import quiet
from tfvp.commands import arguments
from tfvp.errors import UserError
from tfvp.zoo import shelf


def add_arguments(parser):
    arguments.add_run_or_trained(parser)
    parser.add_argument(
        "--video",
        "--clip",
        help="a video file, a folder of images or an array; default with --model: the clip that comes with it, or"
        " test clip 0",
    )
    parser.add_argument(
        "--test-clip",
        type=int,
        metavar="NUMBER",
        help="in place of --video: a clip of the test split of the model's own data set, from 0",
    )
    parser.add_argument(
        "--datadir", help="folder of that data set, in place of data.root; without --test-clip its clip 0"
    )
    parser.add_argument(
        "--start", type=int, metavar="FRAME", help="first observed frame, from 0; default: observe the last ones"
    )
    parser.add_argument("--open-loop-ctx", type=int, help="observed frames; default: as in the run's evaluation")
    parser.add_argument("--horizon", type=int, help="frames to predict; default: as in the run's evaluation")
    parser.add_argument(
        "--num-samples", "--samples", type=int, help="futures side by side, for stochastic models; default: 1"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the futures of a stochastic model; default: 0")
    parser.add_argument(
        "--out",
        help=".mp4, .avi, .gif or .png to draw, or .npy for the predictions alone, uint8 [samples * horizon, H, W, C];"
        " default: <video>_future.mp4 here, or NAME_future.mp4 with --model",
    )
    arguments.add_weights(parser)


def run(options):
    quiet.import_tensorflow()
    from tfvp.evaluation import tables
    from tfvp.prediction import forecast

    source, video, clip, out = _read(options)
    result = forecast.forecast(
        source,
        video,
        options.open_loop_ctx,
        options.horizon,
        1 if options.num_samples is None else options.num_samples,
        out,
        options.weights or "best",
        options.start,
        options.seed,
        clip,
        options.datadir,
    )
    if result.scores:
        table = tables.text(tables.of_evaluation(result.scores))
        print(f"{result.scored} true frames follow frame {result.observed[1]}:\n\n{table}\n")
    for note in result.notes:
        print(note)
    print(f"written: {result.path}")


def _read(options):
    """(the run or trained model, the video, the number of a test clip in its place, the file to write)."""
    clip = 0 if options.datadir and options.test_clip is None else options.test_clip
    if clip is not None:
        if options.video:
            other = "--datadir" if options.test_clip is None else "--test-clip"
            raise UserError(f"--video and {other} both name something to observe; give one of them")
        if not options.model:
            return options.logdir, None, clip, options.out
        trained = shelf.find(options.model)
        return trained.path, None, clip, options.out or f"{trained.name}_future.mp4"
    if not options.model:
        if not options.video:
            raise UserError("--video names nothing to observe; give a video file, a folder of images or an array")
        return options.logdir, options.video, None, options.out
    trained = shelf.find(options.model)
    video, clip = options.video or trained.clip, None
    if video is None:
        clip = _drawn_clip(trained)
    return trained.path, video, clip, options.out or f"{trained.name}_future.mp4"


def _drawn_clip(trained):
    """The number of a test clip of a trained model without a clip of its own.

    Raises:
        UserError: its data set is not computed.
    """
    from tfvp import registry
    from tfvp import run as runs
    from tfvp.datasets.build import build_dataset

    config = runs.find(trained.path).config
    if build_dataset(config).endless:
        return 0
    if "labels" in registry.lookup("model", config.model.name).needs:
        raise UserError(
            f"no clip comes with {trained.name}, and it observes label maps, which a video has not; name the folder of"
            f" its data set, {config.data.name}, with --datadir"
        )
    raise UserError(
        f"no clip comes with {trained.name}; name a video with --video, or the folder of its data set,"
        f" {config.data.name}, with --datadir"
    )
