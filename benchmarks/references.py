"""What runs the references' own training steps and rollouts, for `tfvp benchmark against`.

The code of the references is the user's; here is only what calls it as their scripts do, on noise of the
right shapes. This file is loaded by a Python that has PyTorch and need not have tfvp, and by tfvp for `CASES`:
what stands beside what, at which sizes. CW-VAE's code, in TensorFlow, has a file of its own, `clockwork_reference.py`.
A file of your own with `CASES` and adapters (see `side.py`) works as well.
"""

import collections.abc
import json
import os
import sys
import types

# config: of tfvp; batch: clips of a training step; horizon: frames of a rollout of one clip; samples: futures of that
# clip; calls: what is measured; file: by which the reference's folder is known; home: where it comes from.
OPENSTL = {"home": "https://github.com/chengtan9907/OpenSTL", "file": "openstl/models/simvp_model.py"}
SVG_HOME = {"home": "https://github.com/edenton/svg", "file": "models/dcgan_64.py"}
IAM4VP_HOME = {
    "home": "https://github.com/seominseok0429/Implicit-Stacked-Autoregressive-Model-for-Video-Prediction",
    "file": "exp.py",
}
STRUCTURE_HOME = {
    "home": "https://github.com/1Konny/HierarchicalVideoPrediction",
    "file": "structure_generator/solver.py",
}
NOTEBOOK_HOME = {
    "home": "https://github.com/reshalfahsi/next-frame-prediction",
    "file": "Next_Frame_Prediction_Using_Convolutional_LSTM.ipynb",
}
BOTH = ("train", "rollout")
CASES = {
    "openstl": [
        {"name": "ConvLSTM-S", "adapter": "OpenSTLConvLSTM", "config": "convlstm/mmnist_openstl", **OPENSTL}
        | {"batch": 4, "horizon": 100, "samples": 1, "calls": BOTH},
        {"name": "SimVP-gSTA", "adapter": "OpenSTLSimVP", "config": "simvp/mmnist", **OPENSTL}
        | {"batch": 4, "horizon": 10, "samples": 1, "calls": BOTH},
    ],
    "svg": [
        {"name": "SVG-LP dcgan", "adapter": "SVG", "config": "svg/smmnist", **SVG_HOME}
        | {"batch": 16, "horizon": 95, "samples": 1, "calls": BOTH},
        {"name": "SVG-LP dcgan, 100 samples", "adapter": "SVG", "config": "svg/smmnist", **SVG_HOME}
        | {"batch": 16, "horizon": 19, "samples": 100, "calls": ("rollout",)},
    ],
    "iam4vp": [
        {"name": "IAM4VP", "adapter": "IAM4VP", "config": "iam4vp/mmnist", **IAM4VP_HOME}
        | {"batch": 1, "horizon": 10, "samples": 1, "calls": BOTH},
    ],
    "structure": [
        {"name": "structure generator", "adapter": "Structure", "config": "hierarchical/kitti_structure"}
        | {"batch": 1, "horizon": 40, "samples": 1, "calls": BOTH, **STRUCTURE_HOME},
    ],
    "notebook": [  # it predicts no further than one frame
        {"name": "notebook's ConvLSTM", "adapter": "Notebook", "config": "convlstm/mmnist"}
        | {"batch": 4, "horizon": 1, "samples": 1, "calls": ("train",), **NOTEBOOK_HOME},
    ],
}


class Reference:
    """What the adapters share: the code's folder, the device, and clips of noise.

    Args:
        folder: of the reference's code.
        sizes: {"batch", "frames", "context", "horizon", "samples", "height", "width", "channels"}.
    """

    INSIDE = ""  # where the code is below the folder

    def __init__(self, folder, sizes):
        sys.path.insert(0, os.path.join(folder, self.INSIDE))
        import torch

        torch.manual_seed(0)
        self.folder, self.torch, self.sizes = folder, torch, types.SimpleNamespace(**sizes)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        if self.device.type == "cpu":  # SVG and IAM4VP ask for a GPU in so many words
            torch.Tensor.cuda = lambda tensor, *_, **__: tensor
        self.networks = [network.to(self.device) for network in self.make()]

    def make(self):
        """The networks, a list of modules."""
        raise NotImplementedError

    def train(self):
        """A function that makes one update with a batch, and returns the loss."""
        for network in self.networks:
            network.train()
        video = self.clips(self.sizes.batch, self.sizes.frames)
        return lambda: self.step(video)

    def rollout(self):
        """A function that predicts the frames after one context, and returns the last one's mean."""
        for network in self.networks:
            network.eval()
        context = self.clips(1, self.sizes.context)

        def call():
            with self.torch.no_grad():
                return self.predict(context).mean().item()

        return call

    def clips(self, count, frames):
        """[count, frames, C, H, W] in [0, 1]."""
        sizes = self.sizes
        return self.torch.rand(count, frames, sizes.channels, sizes.height, sizes.width, device=self.device)

    def adam(self, rate):
        """One optimizer for each network, as SVG has it; others have one network."""
        return [self.torch.optim.Adam(network.parameters(), lr=rate) for network in self.networks]

    def descend(self, loss, optimizers, largest_norm=None):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        if largest_norm:
            self.torch.nn.utils.clip_grad_norm_(self.networks[0].parameters(), largest_norm)
        for optimizer in optimizers:
            optimizer.step()
        return loss.item()

    def facts(self):
        count = sum(p.numel() for network in self.networks for p in network.parameters() if p.requires_grad)
        return {"parameters": count, "library": f"PyTorch {self.torch.__version__}"}


class OpenSTLConvLSTM(Reference):
    """ConvLSTM-S, by `openstl.models.ConvLSTM_Model` with the values of configs/mmnist/ConvLSTM.py."""

    PATCH = 4

    def make(self):
        from openstl.models import ConvLSTM_Model

        sizes = self.sizes
        self.settings = types.SimpleNamespace(
            in_shape=(sizes.context, sizes.channels, sizes.height, sizes.width),
            patch_size=self.PATCH,
            filter_size=5,
            stride=1,
            layer_norm=0,
            reverse_scheduled_sampling=0,
            pre_seq_length=sizes.context,
            aft_seq_length=sizes.frames - sizes.context,
        )
        return [ConvLSTM_Model(4, [128] * 4, self.settings)]

    def train(self):
        self.optimizers = self.adam(5e-4)
        self.truth_share = 1.0
        return super().train()

    def step(self, video):
        patches, steps = self.patches(video), self.sizes.frames - self.sizes.context - 1
        fed = self.torch.rand(video.shape[0], steps, device=self.device) < self.truth_share
        self.truth_share -= 2e-5
        mask = fed[:, :, None, None, None].float().expand(-1, -1, *patches.shape[2:])
        return self.descend(self.networks[0](patches, mask)[1], self.optimizers)

    def predict(self, context):
        self.settings.aft_seq_length = horizon = self.sizes.horizon
        patches = self.patches(context)
        whole = self.torch.cat([patches, patches.new_zeros(1, horizon, *patches.shape[2:])], dim=1)
        mask = patches.new_zeros(1, horizon - 1, *patches.shape[2:])
        return self.networks[0](whole, mask, return_loss=False)[0][:, -horizon:].cpu()

    def patches(self, video):
        """[B, T, C, H, W] -> [B, T, H / 4, W / 4, 16 C]."""
        folded = self.torch.nn.functional.pixel_unshuffle(video, self.PATCH)
        return folded.permute(0, 1, 3, 4, 2).contiguous()


class OpenSTLSimVP(Reference):
    """SimVP-gSTA, by `openstl.models.SimVP_Model` with the values of configs/mmnist/simvp/SimVP_gSTA.py."""

    def make(self):
        from openstl.models import SimVP_Model

        sizes = self.sizes
        shape = (sizes.context, sizes.channels, sizes.height, sizes.width)
        return [SimVP_Model(shape, hid_S=64, hid_T=512, N_S=4, N_T=8, model_type="gSTA", drop_path=0.0)]

    def train(self):
        self.optimizers = self.adam(1e-3)
        return super().train()

    def step(self, video):
        context = self.sizes.context
        predicted = self.networks[0](video[:, :context].contiguous())
        return self.descend(
            self.torch.nn.functional.mse_loss(predicted, video[:, context : 2 * context]), self.optimizers
        )

    def predict(self, context):
        blocks = []
        while len(blocks) * self.sizes.context < self.sizes.horizon:
            context = self.networks[0](context)
            blocks.append(context)
        return self.torch.cat(blocks, dim=1)[:, : self.sizes.horizon].cpu()


class SVG(Reference):
    """SVG-LP with the DCGAN coder, by the networks of models/, trained as train_svg_lp.py does.

    Rollouts use the running statistics of batch norm: generate_svg_lp.py uses those of the batch, which PyTorch
    refuses for one clip.
    """

    def make(self):
        from models import dcgan_64, lstm

        code, latents, units, channels = 128, 10, 256, self.sizes.channels
        networks = [
            dcgan_64.encoder(code, channels),
            dcgan_64.decoder(code, channels),
            lstm.lstm(code + latents, code, units, 2, self.sizes.batch),
            lstm.gaussian_lstm(code, latents, units, 1, self.sizes.batch),
            lstm.gaussian_lstm(code, latents, units, 1, self.sizes.batch),
        ]
        self.encoder, self.decoder, self.predictor, self.posterior, self.prior = networks
        return networks

    def train(self):
        self.optimizers = self.adam(2e-3)
        return super().train()

    def start(self, batch):
        for network in (self.predictor, self.posterior, self.prior):
            network.batch_size = batch
            network.hidden = network.init_hidden()

    def step(self, video):
        torch, error, divergence, skip = self.torch, 0.0, 0.0, None
        self.start(len(video))
        for t in range(1, self.sizes.frames):
            (code, maps), (target, _) = self.encoder(video[:, t - 1]), self.encoder(video[:, t])
            skip = maps if t < self.sizes.context else skip
            latent, mean, log_variance = self.posterior(target)
            _, prior_mean, prior_log_variance = self.prior(code)
            predicted = self.decoder([self.predictor(torch.cat([code, latent], 1)), skip])
            error = error + torch.nn.functional.mse_loss(predicted, video[:, t])
            spread = log_variance.exp() + (mean - prior_mean).square()
            terms = (prior_log_variance - log_variance + spread / prior_log_variance.exp() - 1) / 2
            divergence = divergence + terms.sum() / len(video)
        return self.descend(error + 1e-4 * divergence, self.optimizers)

    def predict(self, context):
        torch, skip, frames = self.torch, None, []
        context = context.expand(self.sizes.samples, -1, -1, -1, -1)
        self.start(len(context))
        frame = context[:, 0]
        for t in range(1, self.sizes.context + self.sizes.horizon):
            code, maps = self.encoder(frame)
            if t < self.sizes.context:
                skip, frame = maps, context[:, t]
                latent, _, _ = self.posterior(self.encoder(frame)[0])
                self.prior(code)
                self.predictor(torch.cat([code, latent], 1))
            else:
                latent, _, _ = self.prior(code)
                frame = self.decoder([self.predictor(torch.cat([code, latent], 1)), skip])
                frames.append(frame.cpu())
        return torch.stack(frames, dim=1)


class IAM4VP(Reference):
    """IAM4VP by its model.py, trained as exp.py does: an update for each of ten frames."""

    FRAMES = 10

    def make(self):
        from model import IAM4VP as Network

        sizes = self.sizes
        return [Network((sizes.context, sizes.channels, sizes.height, sizes.width), 64, 512, 4, 8)]

    def train(self):
        self.optimizers = self.adam(1e-3)
        return super().train()

    def step(self, video):
        past, future = (part.contiguous() for part in video.split(self.sizes.context, dim=1))
        queue, losses = [], []
        for number in range(self.FRAMES):
            predicted = self.frame(past, queue, number)
            loss = self.torch.nn.functional.mse_loss(predicted, future[:, number])
            losses.append(self.descend(loss, self.optimizers))
            queue.append(predicted.detach())
        return sum(losses) / self.FRAMES

    def predict(self, context):
        queue = []
        for number in range(min(self.FRAMES, self.sizes.horizon)):
            queue.append(self.frame(context, queue, number))
        return self.torch.stack(queue, dim=1).cpu()

    def frame(self, context, queue, number):
        time = self.torch.full((len(context),), 100 * number, device=self.device)
        return self.networks[0](context, queue, time)


class Structure(Reference):
    """The structure generator by its networks, trained and rolled out as solver.py does, on label maps as KITTI's."""

    INSIDE = "structure_generator"
    CLASSES = 19

    def make(self):
        collections.Iterable = collections.abc.Iterable  # as it was called up to Python 3.9
        import models

        code, latents, units = 128, 128, 256
        options = types.SimpleNamespace(
            dataset="KITTI_64", channels=self.CLASSES, ae_size=64, g_dim=code, K=1, use_bn=False
        )
        self.divergence = models.kl_criterion
        self.encoder, self.decoder = models.get_autoencoder(options)
        self.predictor = models.DeterministicConvLSTM(code + latents, code, units, 2)
        self.posterior, self.prior = (models.GaussianConvLSTM(code, latents, units, 1) for _ in range(2))
        networks = [self.encoder, self.decoder, self.predictor, self.posterior, self.prior]
        return [network.apply(models.init_weights) for network in networks]

    def clips(self, count, frames):
        """[count, frames, 1, H, W], numbers of classes as floats."""
        shape = (count, frames, 1, self.sizes.height, self.sizes.width)
        return self.torch.randint(self.CLASSES, shape, device=self.device).float()

    def train(self):
        self.optimizers = self.adam(1e-4)
        return super().train()

    def step(self, labels):
        error, divergence, skip, hidden = 0.0, 0.0, None, [None] * 3
        for t in range(1, self.sizes.frames):
            (code, maps), (target, _) = self.encoder(labels[:, t - 1]), self.encoder(labels[:, t])
            skip = maps if t <= self.sizes.context else skip
            latent, mean, log_variance, hidden[0] = self.posterior(target, hidden[0])
            _, prior_mean, prior_log_variance, hidden[1] = self.prior(code, hidden[1])
            predicted, hidden[2] = self.predictor(self.torch.cat([code, latent], 1), hidden[2])
            logits = self.decoder([predicted, skip])
            error = error + self.torch.nn.functional.nll_loss(logits, labels[:, t, 0].long())
            divergence = divergence + self.divergence(mean, log_variance, prior_mean, prior_log_variance)
        return self.descend(error + 5e-4 * divergence, self.optimizers)

    def predict(self, context):
        skip, hidden, frames, labels = None, [None] * 3, [], context[:, 0]
        for t in range(1, self.sizes.context + self.sizes.horizon):
            code, maps = self.encoder(labels)
            skip = maps if t <= self.sizes.context else skip
            observed = t < self.sizes.context
            if observed:
                latent, _, _, hidden[0] = self.posterior(self.encoder(context[:, t])[0], hidden[0])
            drawn, _, _, hidden[1] = self.prior(code, hidden[1])
            latent = latent if observed else drawn
            predicted, hidden[2] = self.predictor(self.torch.cat([code, latent], 1), hidden[2])
            if observed:
                labels = context[:, t]
            else:
                labels = self.decoder([predicted, skip]).argmax(dim=1, keepdim=True)
                frames.append(labels.cpu())
        return self.torch.stack(frames, dim=1).float()


class Notebook(Reference):
    """The notebook's ConvLSTM by the cells that define its modules, trained as there but without the metrics."""

    def make(self):
        with open(os.path.join(self.folder, NOTEBOOK_HOME["file"]), encoding="utf-8") as file:
            cells = json.load(file)["cells"]
        names = {"torch": self.torch, "nn": self.torch.nn, "F": self.torch.nn.functional}
        for cell in cells:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code" and "(nn.Module)" in source:
                exec(source, names)
        return [names["NextFramePredictionModel"]()]

    def train(self):
        self.optimizers = self.adam(1 / 512)
        return super().train()

    def step(self, video):
        frames = video.transpose(1, 2)
        predicted = self.networks[0](frames[:, :, :-1])
        loss = self.torch.nn.functional.mse_loss(predicted, frames[:, :, 1:])
        return self.descend(loss, self.optimizers, largest_norm=2)
