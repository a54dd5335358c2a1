"""Every convention of PSNR, SSIM, MSE, MAE and LPIPS against recorded values."""

import numpy as np
import pytest
import tensorflow as tf

from tests import golden
from tfvp import registry, weights
from tfvp.metrics import lpips

PER_FRAME = {
    "psnr": "psnr_per_frame_clipped",
    "psnr_unclipped": "psnr_per_frame_unclipped",
    "psnr_uint8_wrap": "psnr_uint8_wrap_per_frame",
    "ssim": "ssim_gauss11_L1_valid/clipped",
    "ssim_finn": "ssim_finn/unclipped",
    "ssim_skimage7_L2": "ssim_skimage7_L2/clipped",
    "ssim_skimage7_L2_unclipped": "ssim_skimage7_L2/unclipped",
    "ssim_skimage7_L1": "ssim_skimage7_L1/clipped",
    "ssim_torchmetrics": "ssim_torchmetrics/clipped",
    "ssim_openstl_cv2_255": "ssim_openstl_cv2_255/clipped",
}
SETS = {"mse_sum": "mse_sum", "mae_sum": "mae_sum", "psnr_pooled": "psnr_pooled_clipped", "psnr": "psnr_openstl_mean"}


def pair(channels):
    case = golden.case("metrics", f"video_pairs_c{channels}")
    true = case.inputs["true"]
    return case, true, (true + np.float32(0.1) * case.inputs["noise"]).astype(np.float32)


def metric_for(name, video):
    return registry.lookup("metric", name)(horizon=video.shape[1])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("metric", PER_FRAME)
def test_frames(metric, channels):
    case, true, pred = pair(channels)
    values = metric_for(metric, true).per_frame(tf.constant(true), tf.constant(pred))
    case.check(PER_FRAME[metric], values, rtol=1e-7, atol=1e-4 if metric.startswith("psnr") else 1e-5)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("metric", SETS)
def test_sets(metric, channels):
    case, true, pred = pair(channels)
    whole_set = metric_for(metric, true)
    for i in range(len(true)):  # one clip at a time: the number is the set's all the same
        whole_set.update_state(true[i : i + 1], pred[i : i + 1])
    case.check_scalar(SETS[metric], whole_set.summary()["mean"], rtol=1e-5)


AS_RELEASED = {
    "mse_sum": "mse_sum",
    "mae_sum": "mae_sum",
    "ssim_skimage7_L2": "ssim",
    "psnr_uint8_wrap": "psnr_uint8_wrap",
}


def test_iam4vp_as_released():
    case = golden.case("iam4vp", "metrics_as_released")
    for channels in (1, 3):
        prefix = f"c{channels}/"
        true = case.inputs[f"true_c{channels}"]
        predictions = {"": true + np.float32(0.1) * case.inputs[f"noise_c{channels}"], "black_prediction_": 0 * true}
        for kind, pred in predictions.items():
            for name, key in AS_RELEASED.items():
                if prefix + kind + key in case.scalars:
                    metric = metric_for(name, true)
                    metric.update_state(true, pred)
                    case.check_scalar(prefix + kind + key, metric.summary()["mean"])
        for name, key in (("ssim_skimage7_L2", "ssim_per_frame"), ("psnr_uint8_wrap", "psnr_uint8_wrap_per_frame")):
            case.check(prefix + key, metric_for(name, true).per_frame(tf.constant(true), tf.constant(predictions[""])))


@pytest.mark.parametrize("network", ["alex", "vgg", "squeeze"])
def test_lpips(network, monkeypatch):
    case = golden.case("metrics", "lpips")
    name = f"lpips_{network}"
    if network == "squeeze":
        path = golden.data_folder() / "lpips" / "squeezenet1_1_lpips_v0.1.npz"
        monkeypatch.setenv(weights.variable(name), str(path))
    if not weights.available(name):
        pytest.skip(f"weights {name} are not installed")
    image, noise, other = (case.inputs[k] for k in ("image0", "noise", "image2"))
    gray, rect = case.inputs["gray"], case.inputs["rect"]
    noisy = np.clip(image + np.float32(0.1) * noise, 0, 1)
    pairs = {
        "noisy": (image, noisy),
        "other": (image, other),
        "shift": (image, np.roll(image, (2, 3), (1, 2))),
        "gray_shift": (gray, np.roll(gray, (1, 1), (1, 2))),
        "rect_shift": (rect, np.roll(rect, (2, 2), (1, 2))),
        "identical": (image, image),
        "unclipped": (image, image + np.float32(0.3) * noise),
    }
    for label, (first, second) in pairs.items():
        key = f"{network}/{label}"
        if key in case.outputs:
            values = lpips.distance(name, tf.constant(first), tf.constant(second))
            case.check(key, values, rtol=1e-4, atol=1e-6)
    case.check(
        f"{network}/noisy_per_layer", lpips.distance(name, tf.constant(image), tf.constant(noisy), per_layer=True)
    )


@pytest.mark.parametrize(("network", "expected"), [("alex", (0.722, 0.138)), ("vgg", (0.569, 0.422))])
def test_the_reference_pair_of_the_lpips_distribution(network, expected):
    import imageio.v3 as iio

    folder = golden.data_folder() / "lpips"
    if not weights.available(f"lpips_{network}"):
        pytest.skip(f"weights lpips_{network} are not installed")
    reference, *others = (
        iio.imread(folder / f"ex_{n}.png")[None].astype(np.float32) / 255 for n in ("ref", "p0", "p1")
    )
    for other, value in zip(others, expected):
        assert float(
            lpips.distance(f"lpips_{network}", tf.constant(reference), tf.constant(other))[0]
        ) == pytest.approx(value, abs=5e-4)
