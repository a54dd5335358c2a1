"""Render label maps, which `tfvp predict-labels` wrote, to video.

example:
  tfvp render-labels --logdir logs/hierarchical_shapes_image --structures logs/hierarchical_shapes_structure/structures
"""

from tfvp import quiet
from tfvp.commands import arguments


def add_arguments(parser):
    arguments.add_run(parser, "a run of hierarchical")
    parser.add_argument("--structures", required=True, help="label maps: the folder that tfvp predict-labels wrote")
    parser.add_argument("--format", choices=("mp4", "avi", "gif"), default="mp4", help="of the videos")
    arguments.add_weights(parser)


def run(options):
    quiet.import_tensorflow()
    from tfvp import run as runs
    from tfvp.prediction import render_labels

    run = runs.find(options.logdir)
    print(f"written: {render_labels.render(run, options.structures, options.format, options.weights)}")
