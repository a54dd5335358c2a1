"""The structure generator of hierarchical video prediction: SVG on label maps."""

from typing import Literal

import tensorflow as tf

from tfvp.errors import UserError
from tfvp.layers import label_maps
from tfvp.layers.convlstm import ConvLSTM
from tfvp.layers.label_coder import LabelDecoder, LabelEncoder, conv3x3, reduction
from tfvp.layers.recurrent import Recurrent
from tfvp.models.latent_video import LatentVideoModel
from tfvp.registry import register

CODERS = {(64, 64): "64", (128, 128): "128", (256, 256): "256", (128, 256): "128x256"}


def conv_recurrent(rnn_size, layers, heads, grid, initializer):
    """A `Recurrent` of ConvLSTMs over feature maps.

    Args:
        rnn_size: channels of the first convolution and of every ConvLSTM.
        layers: ConvLSTMs.
        heads: {name: (channels, activation)}.
        grid: (height, width) of the feature maps.
        initializer: of the convolutions; see `label_coder.INITIALIZERS`.
    """

    def conv(filters, activation=None):
        return conv3x3(filters, initializer, activation=activation, dtype="float32")

    cells = [ConvLSTM(rnn_size, 3, bias="double", initializer="lstm", dtype="float32") for _ in range(layers)]
    return Recurrent(conv(rnn_size), cells, {name: conv(*head) for name, head in heads.items()}, rnn_size, grid)


@register("model", "hierarchical_structure")
class StructureGenerator(LatentVideoModel):
    """The structure generator of Lee et al. (ICLR 2021, arXiv 2104.06697).

    It predicts label maps for hundreds of frames. Frames have four channels (see
    `tfvp.layers.label_maps`); of observed ones it reads the classes, in predicted ones every
    class has the mean colour that it had when it was last observed.

    The loss of a clip is the negative of the variational bound that Lee et al. maximise for the structure
    generator, in nats, with the log-likelihood averaged over the pixels of a frame and the divergence summed
    over the latent map, as in the authors' code:

        loss = sum_{t=2..T} ( -log p(s_t | s_<t, z_<=t) + beta KL(q(z_t | s_<=t) || p(z_t | s_<t)) )

    The decoder gives p(s_t | .) as a categorical distribution of every pixel; q and p of the latents are diagonal
    Gaussians. Terms: nll and kl, summed over frames. Every frame is predicted from true label maps in training;
    in prediction the most likely classes are fed back, never probabilities.

    Args:
        image_shape: (height, width, 4).
        classes: K: 19 for the train ids of Cityscapes, 25 for the body parts of DensePose.
        coder: the published network for 64, 128, 256 or 128x256 pixels; auto = by the image
            size, or that for 64, which takes any size that divides by 8.
        code_size: channels of a frame's code.
        latents: channels of the latent map of a frame.
        rnn_size: channels of the ConvLSTMs.
        predictor_layers, posterior_layers, prior_layers: ConvLSTMs in each network.
        width: channels of the first block of the encoder.
        initializer: of the convolutions: normal = N(0, 0.02^2) as published, which starves networks
            much narrower than the published ones; he = by the number of inputs (He et al. 2015).
        context: frames of a training clip that count as observed; from the last of them on, the
            decoder sees that frame's feature maps.
        beta: weight of the KL divergence.
        refresh_skips: in training, take the feature maps of the previous frame instead, always.
        refresh_predicted_skips: in prediction, take the feature maps of the previous, predicted
            frame, as the published test on KITTI and dance does; that on Cityscapes freezes them.
    """

    needs = ("labels",)
    loss_names = ("loss", "nll", "kl")
    paper = "Lee et al. 2021, arXiv 2104.06697"
    small_image_shape = (16, 16, 4)
    _tiny = {"classes": 3, "code_size": 4, "latents": 3, "rnn_size": 5, "width": 4, "context": 3}
    small_variants = {
        "": _tiny,
        "frozen": {
            **_tiny,
            "coder": "64",
            "initializer": "he",
            "refresh_predicted_skips": False,
            "refresh_skips": True,
        },
    }
    error_name = "nll"

    def __init__(
        self,
        image_shape,
        classes: int = 19,
        coder: Literal["auto", "64", "128", "256", "128x256"] = "auto",
        code_size: int = 128,
        latents: int = 128,
        rnn_size: int = 256,
        predictor_layers: int = 2,
        posterior_layers: int = 1,
        prior_layers: int = 1,
        width: int = 64,
        initializer: Literal["normal", "he"] = "normal",
        context: int = 5,
        beta: float = 5e-4,
        refresh_skips: bool = False,
        refresh_predicted_skips: bool = True,
    ):
        super().__init__(image_shape)
        if self.image_shape[-1] != label_maps.CHANNELS or not 2 <= classes <= 256:
            raise UserError(
                "hierarchical_structure takes RGB frames with label maps of 2 to 256 classes (model.classes)"
            )
        height, width_, _ = self.image_shape
        kind = CODERS.get((height, width_), "64") if coder == "auto" else coder
        self.size_multiple = reduction(kind)
        self.check_image_size()
        self.classes = classes
        self.context = context
        self.beta = beta
        self.refresh_skips = refresh_skips
        self.refresh_predicted_skips = refresh_predicted_skips
        grid = (height // self.size_multiple, width_ // self.size_multiple)
        self.latent_shape = (*grid, latents)
        gaussian = {"mean": (latents, None), "logvar": (latents, None)}
        self.encoder = LabelEncoder(kind, code_size, width, initializer)
        self.decoder = LabelDecoder(kind, classes, code_size, width, initializer)
        self.predictor = conv_recurrent(rnn_size, predictor_layers, {"code": (code_size, "relu")}, grid, initializer)
        self.posterior = conv_recurrent(rnn_size, posterior_layers, gaussian, grid, initializer)
        self.prior = conv_recurrent(rnn_size, prior_layers, gaussian, grid, initializer)
        self.encoder.build((None, None, height, width_, classes))
        self.decoder.build(None)
        self.predictor.build((None, None, *grid, code_size + latents))
        for network in self.gaussians:
            network.build((None, None, *grid, code_size))

    @property
    def prediction_options(self):
        return {"refresh_predicted_skips": self.refresh_predicted_skips}

    def encode(self, frames, mode):
        return self.encoder(
            tf.one_hot(label_maps.labels_of(frames, self.classes), self.classes, dtype=self.compute_dtype)
        )

    def skip_terms(self, skips):
        return self.decoder.skip_terms(skips)

    def decode(self, codes, skip_terms, mode):
        return self.decoder(codes, skip_terms)

    def errors(self, decoded, frames):
        truth = label_maps.labels_of(frames, self.classes)
        surprise = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=truth, logits=decoded)
        return tf.reduce_mean(surprise, axis=[2, 3])

    def remember(self, context, state):
        earlier = None if state is None else state["colours"]
        return {"colours": label_maps.class_colours(context, self.classes, earlier)}

    def feedback(self, decoded, carried):
        return label_maps.colorize(tf.argmax(decoded, axis=-1, output_type=tf.int32), carried["colours"])

    def as_frames(self, decoded, video):
        colours = label_maps.class_colours(video, self.classes)
        return label_maps.colorize(tf.argmax(decoded, axis=-1, output_type=tf.int32), colours)
