"""Score predictions that any program wrote: arrays, videos or images, without a run.

examples:
  tfvp score --pred outputs/mymodel --truth outputs/truth --protocol mmnist_10to10
  tfvp score --pred predictions.npy --truth clips.npy --context 10 --metrics psnr,ssim,lpips

A clip is <clip>.npy, <clip>.npz, <clip>.mp4 or a folder <clip>/ of images, with the same name on
both sides; or all clips are in one .npy or .npz file. Numbers, curves, a page and GIFs are written
to scores/<name>/<protocol>. docs/scoring.md describes the layouts.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    parser.add_argument("--pred", required=True, metavar="PATH", help="the predictions: a folder of clips, or one file")
    parser.add_argument(
        "--truth", required=True, metavar="PATH", help="their truth, with or without the observed frames"
    )
    parser.add_argument(
        "--protocol",
        default="default",
        help="a named protocol, which fixes frames and metrics; default: all frames that the files hold",
    )
    parser.add_argument("--context", type=int, help="observed frames that come before the predicted ones")
    parser.add_argument("--metrics", default="", help="names, separated by commas, in place of the protocol's")
    parser.add_argument("--name", default="", help="of the method; default: that of --pred")
    parser.add_argument("--tag", default="", help="appended to the name of the results")
    parser.add_argument("--out", default="", help="folder to write; default: scores/<name>/<protocol>")
    parser.add_argument(
        "--allow-missing", action="store_true", help="score the clips that both sides hold, although they differ"
    )
    parser.add_argument("--channels", type=int, choices=(1, 3), help="convert videos and images to grey or RGB")
    parser.add_argument(
        "--unclipped", action="store_true", help="predictions in floats may leave [0, 1], as linear outputs do"
    )
    parser.add_argument("--fps", type=float, default=8.0, help="frame rate of the GIFs")
    parser.add_argument("--no-save-grid", action="store_true", help="write numbers and curves, but no GIFs and strips")


def run(options):
    quiet.import_tensorflow()
    from tfvp.evaluation import external, tables

    document, paths = external.score(
        options.pred,
        options.truth,
        external.Options(
            protocol=options.protocol,
            context=options.context,
            metrics=tuple(arguments.names_of(options.metrics)),
            name=options.name,
            tag=options.tag,
            out=options.out,
            allow_missing=options.allow_missing,
            channels=options.channels,
            unclipped=options.unclipped,
            fps=options.fps,
            pictures=not options.no_save_grid,
            progress=True,
        ),
    )
    print(f"\n{tables.text(tables.of_evaluation(document))}\n")
    for note in document["notes"]:
        print(note)
    print("written:\n" + "\n".join(f"  {path}" for path in (paths[0], paths[2], paths[-1])))
