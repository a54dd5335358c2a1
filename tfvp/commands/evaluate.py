"""Predict the future of test clips and score it with PSNR, SSIM, LPIPS and others.

examples:
  tfvp evaluate --logdir logs/kth --open-loop-ctx 36 --eval-seq-len 300
  tfvp evaluate --logdir logs/svg_smmnist --protocol svg_smmnist --metrics fvd,kvd
  tfvp evaluate --model convlstm-mmnist-32

Numbers, curves, a report and GIFs are written to <run>/eval/<protocol>. What differs from the protocol as it is named
is appended to the folder's name (default-ctx36-len300), so that no result overwrites another. Rerun the same command to
resume an evaluation that was stopped.
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run_or_trained(parser)
    parser.add_argument("--open-loop-ctx", type=int, help="observed frames")
    parser.add_argument("--eval-seq-len", type=int, help="frames in all, observed and predicted")
    parser.add_argument("--num-examples", type=int, help="clips; 0 = the whole split")
    parser.add_argument("--num-samples", type=int, help="futures per clip, for stochastic models")
    parser.add_argument(
        "--protocol", help="a named protocol, which fixes all of this; default: what the run's config says"
    )
    parser.add_argument("--metrics", default="", help="metrics beside the protocol's, separated by commas: fvd,kvd")
    parser.add_argument("--datadir", help="folder of the data, where it is not the config's data.root")
    parser.add_argument("--split", choices=("validation", "test"), help="which clips")
    parser.add_argument("--weights", choices=("best", "last"), help="which weights of the run")
    parser.add_argument(
        "--use-obs", help="T or F per level, bottom first: which levels of HTSR or CW-VAE observe the context"
    )
    parser.add_argument("--tag", default="", help="appended to the name of the folder that is written")
    parser.add_argument(
        "--devices", type=int, default=0, help="how many share the clips; default: all GPUs, or one CPU device"
    )
    parser.add_argument("--no-save-grid", action="store_true", help="write numbers and curves, but no GIFs and strips")


def run(options):
    quiet.import_tensorflow()
    from tfvp.evaluation import evaluator, tables

    evaluated = arguments.run_of(options)
    protocol = evaluator.choose_protocol(
        evaluated.config,
        options.protocol,
        options.open_loop_ctx,
        options.eval_seq_len,
        options.num_examples,
        options.num_samples,
        options.split,
        arguments.names_of(options.metrics),
    )
    print(f"evaluating {evaluated.path}: {protocol.describe()}")
    document, paths = evaluator.evaluate(
        evaluated,
        protocol,
        options.datadir,
        options.weights,
        not options.no_save_grid,
        use_obs=options.use_obs,
        tag=options.tag,
        devices=options.devices,
    )
    print(f"\n{tables.text(tables.of_evaluation(document))}\n")
    for change in tables.modifications(document):
        print(f"This is not protocol {document['protocol']['name']} as named: {change}.")
    for note in document["notes"]:
        print(note)
    print("written:\n" + "\n".join(f"  {path}" for path in (paths[0], paths[2], paths[-1])))
