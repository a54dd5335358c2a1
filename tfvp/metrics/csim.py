"""CSIM: the cosine similarity of deep features, frame by frame (Lee et al. 2021, arXiv 2104.06697)."""

import tensorflow as tf

from tfvp.layers import vgg
from tfvp.metrics.base import VideoMetric
from tfvp.registry import register

MEAN, STDDEV = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@register("metric", "csim")
class CosineSimilarity(VideoMetric):
    """Cosine similarity of VGG16's features of truth and prediction.

    The paper says VGG features and no more; here they are the last convolution's (relu5_3), of
    ImageNet-normalised frames of native size, flattened. Published values are therefore not
    comparable to the last digit.
    """

    higher_is_better = True
    convention = "cosine of VGG16 relu5_3 (torchvision's weights), flattened; frames clipped, ImageNet-normalised"
    needs_weights = (vgg.WEIGHTS,)
    smallest_side = 16
    channels = (1, 3)

    def per_frame(self, true, pred):
        shape = tf.shape(true)
        features = [self._features(tf.reshape(x, [-1, *x.shape[2:]])) for x in (true, tf.clip_by_value(pred, 0.0, 1.0))]
        features = [x / (tf.norm(x, axis=-1, keepdims=True) + 1e-10) for x in features]
        return tf.reshape(tf.reduce_sum(features[0] * features[1], axis=-1), shape[:2])

    def _features(self, images):
        images = tf.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images[..., :3]
        last = vgg.features((images - MEAN) / STDDEV, vgg.layers())[-1]
        return tf.reshape(last, [tf.shape(last)[0], -1])
