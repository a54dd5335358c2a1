"""Evaluates a trained model open-loop: python eval_with_lpips.py --open-loop-ctx 36

The same as `tfvp evaluate`. Two flags make it another command:
with --video it is `tfvp predict`: --video clip.mp4 --horizon 60 --out future.mp4
with --compare it is `tfvp compare`: --compare logs/svg_tiny logs/svg_tiny_deterministic
"""

from tfvp import cli
from tfvp.commands import compare, evaluate, predict


def main():
    parser = cli.script_parser("evaluate")
    parser.add_argument("--video", help="predict the future of this one video instead; no data set is needed")
    parser.add_argument("--horizon", type=int, help="with --video: frames to predict")
    parser.add_argument(
        "--start", type=int, metavar="FRAME", help="with --video: first observed frame; default: observe the last ones"
    )
    parser.add_argument("--seed", type=int, help="with --video: of the futures of a stochastic model; default: 0")
    parser.set_defaults(test_clip=None)  # which --video stands in place of
    parser.add_argument(
        "--compare", dest="runs", nargs="+", metavar="RUN", help="compare runs that are evaluated already"
    )
    parser.add_argument(
        "--out", help="with --video: .mp4, .avi, .gif, .png or .npy to write; with --compare: a folder (./comparison)"
    )
    options = parser.parse_args()
    if options.runs:
        compare.run(options)
    elif options.video:
        options.seed = options.seed or 0
        predict.run(options)
    elif options.horizon or options.out or options.start is not None or options.seed is not None:
        parser.error("--horizon, --start and --seed go with --video, --out with --video or --compare")
    else:
        evaluate.run(options)


if __name__ == "__main__":
    cli.run(main)
