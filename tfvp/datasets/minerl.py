"""MineRL Navigate (Guss et al. 2019, arXiv 1907.13440), as CW-VAE (arXiv 2102.09532) uses it."""

from tfvp.datasets import base
from tfvp.datasets.split_folders import TrainTestFolders
from tfvp.registry import register


@register("dataset", "minerl")
class MineRL(TrainTestFolders):
    """People walk across Minecraft landscapes, 500 frames a clip, 64x64 in colour.

    961 training and 225 test clips are published; with data.window=split and train.seq_len=100
    each gives five training windows.
    """

    info = base.DatasetInfo(
        description="People who play Minecraft walk towards a compass target across random landscapes.",
        homepage="https://archive.org/details/minerl_navigate",
        licence="see the homepage and https://minerl.io",
        fps=20.0,
        download=(
            "unpack https://archive.org/download/minerl_navigate/minerl_navigate.zip into a folder,"
            " and name it as data.root"
        ),
        layout="{train,test}/*.mp4, or minerl_navigate-{train,test}.tfrecord-*-of-* of tensorflow-datasets",
        context=36,
        horizon=464,
        decoded=(base.Decoded(500 * (961 + 225), (64, 64, 3)),),
    )
