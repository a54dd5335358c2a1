"""Write a run as a SavedModel for TF Serving, or as one TFLite or ONNX file.

examples:
  tfvp export --logdir logs/demo
  tfvp export --logdir logs/demo --format onnx --batch 1 --horizon 20
  tfvp export --model cwvae-long-mmnist-64

The next version of the SavedModel is written to <run>/export/<n>; a file, with the numbers of clips
and frames that it is for in its name, to <run>/export.
"""

import json

from tfvp import quiet
from tfvp.commands import arguments
from tfvp.errors import UserError


def add_arguments(parser):
    arguments.add_run_or_trained(parser)
    arguments.add_weights(parser)
    parser.add_argument(
        "--format", choices=("saved_model", "tflite", "onnx"), default="saved_model", help="default: saved_model"
    )
    parser.add_argument("--batch", type=int, help="clips that a TFLite or ONNX file takes; default: 1")
    parser.add_argument("--context", type=int, help="frames that it observes; default: as the run's evaluation")
    parser.add_argument("--horizon", type=int, help="frames that it predicts; default: as the run's evaluation")
    parser.add_argument(
        "--max-horizon",
        type=int,
        help="frames that a request may ask for, at most; default: 1000, or the run's horizon if that is longer",
    )
    parser.add_argument(
        "--max-samples",
        type=int,
        help="futures of each context that a request may ask for, at most; default: 100",
    )


def run(options):
    fixed = [name for name in ("batch", "context", "horizon") if getattr(options, name) is not None]
    if fixed and options.format == "saved_model":
        raise UserError(f"--{fixed[0]} is for --format tflite and onnx; a SavedModel takes any")
    limits = [name for name in ("max_horizon", "max_samples") if getattr(options, name) is not None]
    if limits and options.format != "saved_model":
        flag = limits[0].replace("_", "-")
        raise UserError(f"--{flag} is for SavedModels; --format {options.format} predicts --horizon frames")
    quiet.import_tensorflow()
    if options.format != "saved_model":
        _write_file(options)
        return
    from tfvp.serving import description, export

    limits = {name: getattr(options, name) for name in limits}
    path = export.export(arguments.run_of(options), options.weights, **limits)
    about = json.loads((path / description.FILE).read_text(encoding="utf-8"))
    height, width = about["image_size"]
    _print_model(path, about)
    print(f"  context:     {about['context']} frames of {height} x {width} x {about['channels']}")
    print(f"  horizon:     at most {about['max_horizon']} frames", end="")
    print(f", {about['max_samples']} futures" if about["stochastic"] else "")
    print(f"  signatures:  {', '.join(sorted(about['signatures']))}")
    print(f"  description: {path / description.FILE}")


def _write_file(options):
    from tfvp.serving import portable

    path, about = portable.export(
        arguments.run_of(options),
        options.format,
        options.weights,
        1 if options.batch is None else options.batch,
        options.context,
        options.horizon,
    )
    _print_model(path, about)
    print(f"  takes:       {about['batch']} clips of {about['context']} frames", end="")
    print(f", and noise [{about['batch']}, {about['noise']}] from N(0, 1)" if about["noise"] else "")
    print(f"  predicts:    {about['horizon']} frames")
    print(f"  operators:   {about['operators']}")
    print(f"  description: {path}.json")


def _print_model(path, about):
    print(f"written: {path}")
    print(f"  model:       {about['model']}, {about['weights']['which']} weights of epoch {about['weights']['epoch']}")
