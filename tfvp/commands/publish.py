"""Give a run a name and a card, so that it is listed and loaded as the trained models that come with tfvp are.

examples:
  tfvp publish --logdir logs/kth --name convlstm-kth-64 --title "ConvLSTM on KTH, 64x64"
  tfvp predict --model convlstm-kth-64 --video clip.mp4
  tfvp publish --logdir logs/svg_smmnist --name svg-authors --source https://example.org/model.pth

The weights are evaluated as they are kept, and the numbers go on the card. Imported checkpoints are runs, too; their
cards have the SHA-256 of the imported files. The models lie in TFVP_ZOO, or in ~/.local/share/tfvp/zoo.
"""

import shlex

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser)
    parser.add_argument("--name", required=True, help="lower-case letters, digits and hyphens: svg-kth-64")
    parser.add_argument("--title", default="", help="one line on what it is")
    parser.add_argument("--limits", default="", help="what it cannot do, or should not be used for")
    parser.add_argument("--licence", default="", help="of the weights; the data set's is on the card besides")
    parser.add_argument(
        "--source", default="", help="where the weights come from, a URL or a citation; imported checkpoints need one"
    )
    parser.add_argument("--zoo", help="folder of trained models; default: TFVP_ZOO, or ~/.local/share/tfvp/zoo")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--clip", action="store_true", default=None, help="a clip of the test split comes with it")
    group.add_argument("--no-clip", action="store_false", dest="clip", help="none does; default for real video")


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.prediction import publish
    from tfvp.zoo import shelf

    run = runs.find(options.logdir)
    made = publish.publish(
        run,
        options.name,
        options.zoo,
        options.title,
        options.limits,
        options.licence,
        options.clip,
        options.source,
    )
    weights = made.card["weights"]
    print(f"written: {made.path} ({weights['bytes'] / 1e6:.1f} MB, {weights['dtype']})")
    folder = made.path.parent.resolve()
    place = "" if folder == shelf.added().resolve() else f"TFVP_ZOO={shlex.quote(str(folder))} "
    print(f"next: {place}tfvp predict --model {made.name}{_clip_for(run.config, made)}")


def _clip_for(config, made):
    """The words that name a clip, where the command finds none by itself."""
    from tfvp import registry
    from tfvp.datasets.build import build_dataset

    if made.clip or build_dataset(config).endless:
        return ""
    if "labels" in registry.lookup("model", config.model.name).needs:
        return f" --test-clip 0 --datadir {shlex.quote(config.data.root or 'FOLDER')}"
    return " --video clip.mp4"
