"""Evaluates a trained model open-loop: python eval_with_lpips.py --open-loop-ctx 36

With --video it predicts the future of one clip: --video clip.mp4 --horizon 60 --out future.mp4
With --compare it puts evaluated runs side by side: --compare logs/svg_tiny logs/svg_tiny_deterministic
"""

import argparse

from tfvp import cli


def main():
    parser = argparse.ArgumentParser(
        description="Predict the future of test clips and score it with PSNR, SSIM, LPIPS and others."
    )
    parser.add_argument(
        "--logdir", default="./logs", help="a run, its model/ folder, or a folder of runs (then the newest)"
    )
    parser.add_argument("--open-loop-ctx", type=int, help="observed frames")
    parser.add_argument("--eval-seq-len", type=int, help="frames in all, observed and predicted")
    parser.add_argument("--num-examples", type=int, help="clips; 0 = the whole split")
    parser.add_argument("--num-samples", type=int, help="futures per clip, for stochastic models")
    parser.add_argument(
        "--protocol", help="a named protocol, which fixes all of this; default: what the run's config says"
    )
    parser.add_argument("--datadir", help="folder of the data, where it is not the config's data.root")
    parser.add_argument("--split", choices=("validation", "test"), help="which clips")
    parser.add_argument("--weights", choices=("best", "last"), help="which weights of the run")
    parser.add_argument(
        "--use-obs", help="T or F per level, bottom first: which levels of HTSR or CW-VAE observe the context"
    )
    parser.add_argument("--no-save-grid", action="store_true", help="write numbers and curves, but no GIFs and strips")
    parser.add_argument("--video", help="predict the future of this one video instead; no data set is needed")
    parser.add_argument("--horizon", type=int, help="with --video: frames to predict")
    parser.add_argument("--compare", nargs="+", metavar="RUN", help="compare runs that are evaluated already")
    parser.add_argument(
        "--out", help="with --video: .mp4, .avi, .gif, .png or .npy to write; with --compare: a folder (./comparison)"
    )
    options = parser.parse_args()
    if options.compare:
        from tfvp.evaluation import comparison

        document, paths = comparison.compare(
            options.compare, options.protocol or "default", options.out or "comparison"
        )
        print(comparison.table(document))
        print("written:\n" + "\n".join(f"  {path}" for path in paths))
        return
    if options.video:
        from tfvp.prediction import forecast

        path = forecast.forecast(
            options.logdir,
            options.video,
            options.open_loop_ctx,
            options.horizon,
            options.num_samples or 1,
            options.out,
            options.weights or "best",
        )
        print(f"written: {path}")
        return
    if options.horizon or options.out:
        parser.error("--horizon goes with --video, --out with --video or --compare")

    from tfvp import run
    from tfvp.evaluation import evaluator, report

    found = run.find(options.logdir)
    protocol = evaluator.choose_protocol(
        found.config,
        options.protocol,
        options.open_loop_ctx,
        options.eval_seq_len,
        options.num_examples,
        options.num_samples,
        options.split,
    )
    print(f"evaluating {found.path}: {protocol.describe()}")
    document, paths = evaluator.evaluate(
        found, protocol, options.datadir, options.weights, not options.no_save_grid, use_obs=options.use_obs
    )
    print(f"\n{report.table(document)}\n")
    for note in document["notes"]:
        print(note)
    print("written:\n" + "\n".join(f"  {path}" for path in (paths[0], paths[2], paths[-1])))


if __name__ == "__main__":
    cli.run(main)
