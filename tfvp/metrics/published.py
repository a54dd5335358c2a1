"""The protocols of publications and of their code, by name, and the conventions that each reports."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Protocol:
    """How predictions are made and scored.

    Attributes:
        name: what --protocol calls it.
        description: one sentence.
        source: the publication or code that it follows.
        dataset: the data set that it is defined on, or "" for any.
        split: "validation" or "test".
        context: observed frames.
        seq_len: observed and predicted frames together.
        num_examples: windows, or clips where one window is taken of each; 0 = the whole split.
        samples: futures per clip, for stochastic models.
        metrics: names of registered metrics.
        mode: "open_loop", or "teacher_forced": each frame is predicted from the true ones
            before it.
        caveats: what is ambiguous about it or differs here.
        windows: name of the rule by which the test windows are chosen (see
            `VideoDataset.evaluation_windows`); "sample" = spread over all clips and their whole lengths (see
            `tfvp.pipeline.windows.sample`); "" = the first frames of every clip.
        frame_stride: frames of a clip from one frame of a window to the next; 0 = the run's `data.frame_stride`.
    """

    name: str
    description: str
    source: str
    dataset: str
    split: str
    context: int
    seq_len: int
    num_examples: int
    samples: int
    metrics: tuple[str, ...]
    mode: str = "open_loop"
    caveats: str = ""
    windows: str = ""
    frame_stride: int = 0

    def to_dict(self):
        """Plain JSON types."""
        return {**dataclasses.asdict(self), "metrics": list(self.metrics)}

    def describe(self):
        """One line for the terminal."""
        predicted = self.seq_len - self.context
        how = f"{self.context} frames observed, {predicted} predicted"
        if self.mode == "teacher_forced":
            how = f"each of {self.seq_len} frames predicted from the true ones before it"
        clips = f"{self.num_examples} clips" if self.num_examples else "all clips"
        how += f", {self.frame_stride} apart in the clip" if self.frame_stride > 1 else ""
        samples = f", best, mean and worst of {self.samples}" if self.samples > 1 else ""
        return f"protocol {self.name}: {how}, {clips} of the {self.split} split{samples}"


OPENSTL_METRICS = ("mse_sum", "mae_sum", "psnr", "ssim", "ssim_skimage7_L2", "lpips")
SVG_METRICS = ("ssim_skimage7_L2_unclipped", "psnr_channels", "ssim_finn", "psnr_unclipped", "ssim", "psnr")
SRVP_METRICS = ("psnr_channels", "ssim_finn", "lpips", "fvd_with_context", "ssim", "psnr")
HTSR_METRICS = ("ssim_skimage7_L2_unclipped", "psnr_unclipped", "lpips_unclipped", "fvd", "ssim", "psnr", "lpips")
HIERARCHICAL_METRICS = ("miou", "miou_frame", "csim", "fvd", "psnr", "ssim", "lpips")

_SVG = "Denton and Fergus 2018, arXiv 1802.07687, and its test script; best of N by each metric's own mean over time"
_SRVP = "Franceschi et al. 2020, arXiv 2002.09219, test script; best of N by each metric's own mean over time"
_HTSR_FVD = "Which frames its FVD was computed on is not published; here they are the predicted ones."
_HTSR = "Wang et al. 2026, Neural Networks 199:108732, evaluation script"
_LEE = "Lee et al. 2021, arXiv 2104.06697, and its data loaders"
_LEE_CAVEATS = "The paper's definitions of CSIM, mIoU and FVD, and how it pools samples, could not be had."

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "next_frame_tf",
            "One-step predictions from true frames.",
            "PyTorch-Lightning next-frame notebook",
            "",
            "test",
            1,
            20,
            0,
            1,
            ("mse", "mae", "psnr_pooled", "psnr", "ssim_torchmetrics", "ssim"),
            "teacher_forced",
            "The notebook scores 2,000 clips of the official test file, whose other clips it trains on. It is of"
            " January 2024, when torchmetrics (1.3) left the borders out: its SSIM compares with `ssim`.",
        ),
        Protocol(
            "mmnist_10to10",
            "Ten frames from ten, all test clips.",
            "Tan et al. 2023, OpenSTL, arXiv 2306.11249",
            "moving_mnist",
            "test",
            10,
            20,
            0,
            1,
            OPENSTL_METRICS,
            caveats=(
                "Published numbers are on the official mnist_test_seq.npy; without it the test clips are generated."
            ),
        ),
        Protocol(
            "openstl_kitti_caltech",
            "Caltech Pedestrian after training on KITTI, 10 observed, 1 predicted, windows back to back.",
            "Tan et al. 2023, OpenSTL, arXiv 2306.11249, and its data loader",
            "kitti_caltech",
            "test",
            10,
            11,
            0,
            1,
            OPENSTL_METRICS,
            caveats=(
                "OpenSTL counts 1,983 windows; which recordings they are cut from is not stated. Frames are resized by"
                " another library."
            ),
            windows="back_to_back",
            frame_stride=1,
        ),
        Protocol(
            "iam4vp_readme",
            "Ten frames from ten, the first 1,008 test clips.",
            "IAM4VP's released validation loop",
            "moving_mnist",
            "test",
            10,
            20,
            1008,
            1,
            (*OPENSTL_METRICS, "psnr_uint8_wrap"),
            caveats="That the README's numbers come from this loop is an inference; its PSNR is broken.",
        ),
        Protocol(
            "svg_smmnist",
            "Stochastic Moving MNIST, 5 observed, 25 predicted.",
            _SVG,
            "stochastic_mnist",
            "test",
            5,
            30,
            256,
            100,
            SVG_METRICS,
            caveats="The paper draws its test clips at random; ours are fixed.",
        ),
        Protocol(
            "svg_kth",
            "KTH, 10 observed, 20 predicted.",
            _SVG,
            "kth",
            "test",
            10,
            30,
            256,
            100,
            SVG_METRICS,
            caveats="The paper's figure goes beyond 20 predicted frames; its test clips are drawn at random.",
        ),
        Protocol(
            "svg_bair",
            "BAIR robot pushing, 2 observed, 28 predicted.",
            _SVG,
            "bair",
            "test",
            2,
            30,
            256,
            100,
            SVG_METRICS,
        ),
        Protocol(
            "srvp_smmnist",
            "Stochastic Moving MNIST, 5 observed, 20 predicted.",
            _SRVP,
            "stochastic_mnist",
            "test",
            5,
            25,
            5000,
            100,
            SRVP_METRICS,
            caveats="SRVP's own test file is not read; ours is fixed as well.",
        ),
        Protocol(
            "srvp_kth",
            "KTH, 10 observed, 30 predicted.",
            _SRVP,
            "kth",
            "test",
            10,
            40,
            1000,
            100,
            SRVP_METRICS,
            caveats="Its 1,000 windows, drawn as SRVP draws them; a file may decode to one frame more or less.",
            windows="srvp",
        ),
        Protocol(
            "srvp_bair",
            "BAIR robot pushing, 2 observed, 28 predicted.",
            _SRVP,
            "bair",
            "test",
            2,
            30,
            256,
            100,
            SRVP_METRICS,
        ),
        Protocol(
            "bair_16",
            "BAIR robot pushing, 1 observed, 15 predicted: FVD of 16 frames, the observed one included.",
            "Unterthiner et al. 2018, arXiv 1812.01717, and Weissenborn et al. 2020, arXiv 1906.02634",
            "bair",
            "test",
            1,
            16,
            256,
            1,
            ("fvd_with_context", "kvd_with_context", "psnr", "ssim", "lpips"),
            caveats=(
                "FVD of 256 clips is biased upwards, so it compares with FVD of 256 clips alone; some papers observe 2"
                " frames, or pool 100 predictions of every clip."
            ),
        ),
        Protocol(
            "htsr_264",
            "36 frames observed, 264 predicted.",
            _HTSR,
            "",
            "test",
            36,
            300,
            250,
            1,
            HTSR_METRICS,
            caveats=f"What --eval-seq-len 300 means in HTSR's README. {_HTSR_FVD}",
        ),
        Protocol(
            "htsr_300",
            "36 frames observed, 300 predicted.",
            _HTSR,
            "",
            "test",
            36,
            336,
            250,
            1,
            HTSR_METRICS,
            caveats=(
                f"What HTSR's Moving MNIST loader can only have meant; mazes have no clips of 336 frames. {_HTSR_FVD}"
            ),
        ),
        Protocol(
            "cwvae_1000",
            "36 frames observed, 964 predicted.",
            "Saxena et al. 2021, arXiv 2102.09532",
            "mmnist_long",
            "test",
            36,
            1000,
            100,
            1,
            HTSR_METRICS,
        ),
        Protocol(
            "hierarchical_kitti",
            "KITTI, 5 observed, 50 predicted: 104 windows that start every 5 frames of the test recordings.",
            _LEE,
            "kitti",
            "test",
            5,
            55,
            0,
            10,
            HIERARCHICAL_METRICS,
            caveats=_LEE_CAVEATS,
            windows="every_fifth",
            frame_stride=2,
        ),
        Protocol(
            "hierarchical_kitti_40",
            "KITTI, 5 observed, 35 predicted: the 121 windows of 40 frames that the released code tests on.",
            _LEE,
            "kitti",
            "test",
            5,
            40,
            0,
            10,
            HIERARCHICAL_METRICS,
            caveats=_LEE_CAVEATS,
            windows="every_fifth",
            frame_stride=2,
        ),
        Protocol(
            "hierarchical_pose",
            "Dance videos, 5 observed, 50 predicted, in windows that start every 5 frames.",
            _LEE,
            "pose",
            "test",
            5,
            55,
            0,
            10,
            HIERARCHICAL_METRICS,
            caveats="The videos were not published. " + _LEE_CAVEATS,
            windows="every_fifth",
            frame_stride=2,
        ),
        Protocol(
            "hierarchical_cityscapes",
            "Cityscapes, frames 1, 4, 7 and 10 of a snippet observed, 13, ..., 28 predicted; 19 is the annotated one.",
            _LEE,
            "cityscapes",
            "test",
            4,
            10,
            0,
            10,
            tuple(name for name in HIERARCHICAL_METRICS if name != "fvd"),
            caveats=(
                "The paper reports the IoU of moving classes (11 to 18) at the annotated frame: entry 2 of the curves"
                " in miou's `classes`. Its truth is the annotation; here it is the label map beside the image."
            ),
            windows="annotated",
            frame_stride=3,
        ),
    )
}
