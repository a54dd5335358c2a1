"""GQN mazes, as CW-VAE (Saxena, Ba and Hafner, NeurIPS 2021, arXiv 2102.09532) and HTSR use them."""

from tfvp.datasets import base
from tfvp.datasets.split_folders import TrainTestFolders
from tfvp.registry import register


@register("dataset", "mazes")
class Mazes(TrainTestFolders):
    """Walks through mazes with textured walls, 300 frames a clip, 64x64 in colour.

    With data.window=split and train.seq_len=100, each clip gives three training windows.
    """

    info = base.DatasetInfo(
        description="An agent walks through mazes of rooms and corridors with walls of random textures.",
        homepage="https://archive.org/details/gqn_mazes",
        licence="see the homepage; rendered for CW-VAE after Eslami et al. 2018",
        fps=None,
        download="unpack https://archive.org/download/gqn_mazes/gqn_mazes.zip into a folder, and name it as data.root",
        layout="GQN-Mazes/{train,test}/*.mp4, or gqn_mazes-{train,test}.tfrecord-*-of-* of tensorflow-datasets",
        context=36,
        horizon=264,
    )
