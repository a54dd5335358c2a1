"""Moving Fashion-MNIST: garments (Xiao, Rasul and Vollgraf 2017, arXiv 1708.07747) that move as digits do."""

from tfvp.datasets import base, digits
from tfvp.datasets.moving_mnist import MovingMNIST
from tfvp.registry import register


@register("dataset", "moving_fashion_mnist")
class MovingFashionMNIST(MovingMNIST):
    """Moving MNIST with pictures of clothes, OpenSTL's variant (arXiv 2306.11249); 10 frames in, 10 out.

    All clips are drawn: training ones anew in each epoch, 10,000 test clips from Fashion-MNIST's
    test pictures and 2,000 validation clips from held-out training pictures, always the same.

    Args:
        settings: `base.Settings`; sizes as in `moving_mnist`.
        clip_length: frames in a clip.
        num_digits: garments in a clip.
    """

    info = base.DatasetInfo(
        description="Two pictures of clothes that move straight and bounce: 10 frames in, 10 out.",
        homepage="https://github.com/zalandoresearch/fashion-mnist",
        licence="MIT",
        fps=None,
        download=(
            "put Fashion-MNIST's files train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz from"
            " https://github.com/zalandoresearch/fashion-mnist into data.root, or leave it empty for Keras's download"
        ),
        layout="train-images-idx3-ubyte.gz and t10k-images-idx3-ubyte.gz (or Keras's download)",
        context=10,
        horizon=10,
    )
    published_test_file = None

    def __init__(self, settings, clip_length: int = 20, num_digits: int = 2):
        super().__init__(settings, clip_length, num_digits)
        del self.options["digits"], self.options["sets"]

    @property
    def digits(self):
        return digits.load_pictures("fashion_mnist", self.folder, self.info.download)
