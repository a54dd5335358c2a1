"""HTSR and CW-VAE: latent video prediction on a hierarchy of clocks, for hundreds of frames.

Level l of L ticks every factor**l frames. A tick's output [z; h] is the context of the ticks
below it during its time; level 0 is decoded to frames. Which published model it is depends on
the options:

    CW-VAE   posterior=plain, everything else off (Saxena, Ba and Hafner 2021, arXiv 2102.09532)
    HTSR-R   posterior=additive, context_residual, level_residual, conv_cells=legacy (as released)
    HTSR-N   as HTSR-R, but posterior=nvae and conv_cells=nvae
    HTSR-S   HTSR-N with spatial_groups=3: spatial latents in the decoder
"""

from typing import Literal

import tensorflow as tf
from tensorflow import keras

from tfvp.errors import UserError
from tfvp.layers import latent, noise
from tfvp.layers.frame_coder import ConvDecoder, ConvEncoder, LadderDecoder, LadderEncoder
from tfvp.layers.temporal_cell import TemporalCell
from tfvp.models.base import VideoModel
from tfvp.registry import register

RESIDUAL_SCALE = 0.1
SPATIAL_STREAM = 100  # number of the spatial latents' random streams, beyond those of the levels


@register("model", "htsr")
class HTSR(VideoModel):
    """The hierarchical temporal-spatial residual model, and CW-VAE as its plain case.

    Loss: negative evidence lower bound in nats per frame. "nll" is -ln N(frame; mean,
    dec_stddev^2), summed over pixels; "kl_level<l>" the divergence of level l; "kl_spatial"
    that of the spatial latents; "kl" their sum. All are sums over the clip divided by its frames.

    Args:
        levels: L, levels of the hierarchy.
        factor: ticks of a level per tick of the level above.
        stoch, deter, hidden: sizes of z, h and the cells' hidden layers.
        enc_embed: width of the hidden layers between the encoder's levels.
        width: channels of the widest convolutions at the frame's side of encoder and decoder.
        posterior: "plain", "additive" or "nvae"; see `tfvp.layers.temporal_cell`.
        context_residual: refine the context from the level above by a residual layer.
        level_residual: add a tenth of the features below to those of each level.
        conv_cells: residual cells in encoder and decoder: "none", "legacy" (0.1 x + F) or
            "nvae" (x + 0.1 F).
        spatial_groups: groups of spatial latents in the decoder, 0 to 3.
        dec_stddev: standard deviation of a pixel given its mean.
        beta: weight of the KL per level, bottom first; one number for all.
        spatial_beta: weight of the spatial KL.
        free_nats: nats per tick and level that cost nothing.
        kl_balance: share of the KL's gradient that the posterior gets; -1 for all to both.
        latent_temperature, spatial_temperature: factors of the prior's standard deviation in
            rollouts.
        output: "sigmoid", or the references' "tanh".
        mean_only: use means in the place of all samples.
        legacy_offset: the references' misplaced 0.54; see `TemporalCell`.
        legacy_kl_balance: the references' balancing, which gives the posterior no gradient.
    """

    stochastic = True
    can_recompute = True
    paper = "Wang et al. 2026, Neural Networks 199:108732; Saxena et al. 2021, arXiv 2102.09532"
    context_multiple_reason = "model.factor**(model.levels-1)"
    small_image_shape = (64, 64, 1)
    _tiny = {"levels": 2, "factor": 2, "stoch": 4, "deter": 12, "hidden": 12, "enc_embed": 16, "width": 4}
    small_variants = {
        "cwvae": _tiny,
        "R": {
            **_tiny,
            "posterior": "additive",
            "context_residual": True,
            "level_residual": True,
            "conv_cells": "legacy",
        },
        "S": {
            **_tiny,
            "posterior": "nvae",
            "context_residual": True,
            "level_residual": True,
            "conv_cells": "nvae",
            "spatial_groups": 2,
        },
    }

    def __init__(
        self,
        image_shape,
        levels: int = 3,
        factor: int = 6,
        stoch: int = 20,
        deter: int = 200,
        hidden: int = 200,
        enc_embed: int = 1000,
        width: int = 32,
        posterior: Literal["plain", "additive", "nvae"] = "plain",
        context_residual: bool = False,
        level_residual: bool = False,
        conv_cells: Literal["none", "legacy", "nvae"] = "none",
        spatial_groups: int = 0,
        dec_stddev: float = 1.0,
        beta: list[float] | float = 1.0,
        spatial_beta: float = 1.0,
        free_nats: float = 0.0,
        kl_balance: float = -1.0,
        latent_temperature: float = 1.0,
        spatial_temperature: float = 1.0,
        output: Literal["sigmoid", "tanh"] = "sigmoid",
        mean_only: bool = False,
        legacy_offset: bool = False,
        legacy_kl_balance: bool = False,
    ):
        super().__init__(image_shape)
        self.levels, self.factor, self.stoch, self.deter = levels, factor, stoch, deter
        self.context_multiple = factor ** (levels - 1)
        self.level_residual, self.dec_stddev = level_residual, dec_stddev
        self.beta = [beta] * levels if isinstance(beta, float) else list(beta)
        self.spatial_beta, self.free_nats = spatial_beta, free_nats
        self.kl_balance = None if kl_balance < 0 else kl_balance
        self.latent_temperature, self.spatial_temperature = latent_temperature, spatial_temperature
        self.mean_only, self.legacy_kl_balance = mean_only, legacy_kl_balance
        self.stochastic = not mean_only
        self.use_obs = [True] * levels
        if len(self.beta) != levels:
            raise UserError(f"model.beta has {len(self.beta)} entries; give one number, or one per level ({levels})")
        if not 0 <= spatial_groups <= 3:
            raise UserError(f"model.spatial_groups={spatial_groups} must be 0, 1, 2 or 3")
        self.spatial = spatial_groups > 0
        kls = [f"kl_level{level}" for level in range(levels)] + ["kl_spatial"] * self.spatial
        self.loss_names = ("loss", "nll", *kls, "kl")
        self.size_multiple = 16 if self.spatial else 64
        self.check_image_size()
        if self.spatial:
            self.encoder = LadderEncoder(width, conv_cells)
            self.decoder = LadderDecoder(self.image_shape, spatial_groups, width, conv_cells, output)
        else:
            self.encoder = ConvEncoder(width, conv_cells)
            self.decoder = ConvDecoder(self.image_shape[-1], width, conv_cells, output)
        self.encoder.build((None, *self.image_shape))
        self.decoder.build((None, stoch + deter))
        features = self.encoder.features
        self.level_denses = [
            keras.layers.Dense(units, activation=activation)
            for _ in range(levels - 1)
            for units, activation in ((enc_embed, "relu"), (enc_embed, "relu"), (features, None))
        ]
        for layer, size in zip(self.level_denses, [features, enc_embed, enc_embed] * (levels - 1)):
            layer.build((None, size))
        self.cells = [
            TemporalCell(stoch, deter, hidden, features, posterior, context_residual, legacy_offset, mean_only)
            for _ in range(levels)
        ]

    def check_image_size(self):
        if not self.spatial and self.image_shape[:2] != (64, 64):
            height, width = self.image_shape[:2]
            raise UserError(
                f"data.image_size: {height} x {width} pixels do not fit the convolutions of"
                f" CW-VAE and HTSR, which are for"
                " 64 x 64; use that, or model.spatial_groups=1 or more"
            )
        super().check_image_size()

    def unreached_variables(self):
        """The top level has no context, so nothing reaches the kernel that refines it."""
        top = self.cells[-1].context_dense
        return [] if top is None else [top.kernel]

    def encode(self, video):
        """Features of frames.

        Args:
            video: [B, T, H, W, C].

        Returns:
            (per-level sums over each tick's frames, a list of [B, ceil(T / factor**l), E]
            float32; the encoder's feature maps [B * T, ...] for the spatial latents, or None).
        """
        batch, frames = tf.shape(video)[0], _length(video)
        encoded = self.encoder(tf.reshape(video, [-1, *self.image_shape]))
        features, feature_maps = encoded if self.spatial else (encoded, None)
        size = self.encoder.features
        chain = below = tf.cast(features, tf.float32)
        levels = [tf.reshape(below, [batch, frames, size])]
        for level in range(1, self.levels):
            for dense in self.level_denses[3 * (level - 1) : 3 * level]:
                chain = dense(chain)
            chain = tf.cast(chain, tf.float32)
            below = chain + RESIDUAL_SCALE * below if self.level_residual else chain
            period = self.factor**level
            ticks = -(-frames // period)
            padded = tf.pad(tf.reshape(below, [batch, frames, size]), [[0, 0], [0, ticks * period - frames], [0, 0]])
            levels.append(tf.reduce_sum(tf.reshape(padded, [batch, ticks, period, size]), axis=2))
        return levels, feature_maps

    def run_levels(self, state, embeddings, frames, draws, temperature=1.0, begin=None):
        """Advances all levels by a number of frames, top level first.

        Args:
            state: {"levels": {"<l>": {"z", "h"}}, "frame": [B] int32}.
            embeddings: per-level sums as from `encode`, or None to run the prior.
            frames: how many, an integer or a scalar tensor.
            draws: (level, first tick, ticks) -> N(0, 1) draws [B, ticks, stoch], or None for
                means; the first tick is an integer, or int32 [B].
            temperature: factor of the prior's standard deviation in sampling.
            begin: the frame of `state` where that is the same for all examples and known
                beforehand: a multiple of `context_multiple`. Examples may be of different age
                otherwise.

        Returns:
            (a list of each level's outputs, as `TemporalCell` gives them; the new state). Where
            fewer ticks of a level begin in an example's frames than in another's, its last
            outputs there are padding.
        """
        begin = state["frame"] if begin is None else begin
        outputs, after = [None] * self.levels, {}
        for level in reversed(range(self.levels)):
            cell, at_start = self.cells[level], state["levels"][str(level)]
            first, ticks = self._ticks(begin, level), self._ticks(frames, level)
            if level == self.levels - 1:
                contexts = tf.zeros([tf.shape(at_start["z"])[0], ticks, self.stoch + self.deter])
            else:
                carried = state["levels"][str(level + 1)]
                contexts = self._contexts(outputs[level + 1], carried, begin, first, ticks, level)
            eps = draws(level, first, ticks)
            if embeddings is None or not self.use_obs[level]:
                outputs[level], after[str(level)] = cell.imagine(contexts, eps, at_start, temperature)
            else:
                outputs[level], after[str(level)] = cell.observe(contexts, embeddings[level], eps, at_start)
            if level and not isinstance(begin, int):  # one tick fewer may have begun than were computed
                begun = self._ticks(begin + frames, level) - first
                after[str(level)] = {
                    name: tf.gather(_joined(at_start[name], outputs[level][name]), begun, axis=1, batch_dims=1)
                    for name in at_start
                }
        return outputs, {"levels": after, "frame": state["frame"] + frames}

    def _ticks(self, frame, level):
        """Ticks of a level that begin before `frame`; also the most that begin in any `frame` frames."""
        period = self.factor**level
        return -(-frame // period)

    def _contexts(self, above, carried, begin, first, ticks, level):
        """The outputs of the level above at each of this level's ticks first ... first + ticks - 1."""
        outputs = tf.concat([_joined(carried[name], above[name]) for name in ("z", "h")], axis=-1)
        parents = _numbered(first, ticks) // self.factor - _numbered(self._ticks(begin, level + 1) - 1, 1)
        parents = tf.minimum(parents, tf.shape(outputs)[1] - 1)  # those of padding may be beyond
        return tf.gather(outputs, parents, axis=1, batch_dims=parents.shape.rank - 1)

    def decode(self, outputs, spatial_draws=None, feature_maps=None, temperature=1.0):
        """Level 0's outputs to frames.

        Args:
            outputs: {"z": [B, T, stoch], "h": [B, T, deter]}.
            spatial_draws: list of N(0, 1) draws [B * T, h, w, Z] for the spatial latents.
            feature_maps: the encoder's feature maps, to draw spatial latents from the posterior.
            temperature: factor of the spatial prior's standard deviation.

        Returns:
            (frames [B, T, H, W, C] float32, spatial KL [B, T] in nats).
        """
        states = tf.concat([outputs["z"], outputs["h"]], axis=-1)
        shape = tf.shape(states)[:2]
        flat = tf.reshape(states, [-1, self.stoch + self.deter])
        divergence = tf.zeros(shape)
        if self.spatial:
            frames, groups = self.decoder(flat, spatial_draws, features=feature_maps, temperature=temperature)
            if groups:
                divergence = tf.reshape(tf.add_n(groups), shape)
        else:
            frames = self.decoder(flat)
        return tf.reshape(frames, tf.concat([shape, self.image_shape], 0)), divergence

    def zero_state(self, seeds):
        """The state before the first frame, for sampling seeds [B, 2]."""
        batch = tf.shape(seeds)[0]
        return {
            "levels": {str(level): cell.zero_state(batch) for level, cell in enumerate(self.cells)},
            "frame": tf.zeros([batch], tf.int32),
            "seed": tf.cast(seeds, tf.int64),
        }

    def observe(self, context, state=None, seed=None):
        begin = None
        if state is None:
            seed = noise.example_seeds(tf.range(tf.shape(context)[0])) if seed is None else seed
            state, begin = self.zero_state(seed), 0
        embeddings, _ = self.encode(context)
        draws, _ = self._noise(state["seed"], state["frame"] if begin is None else begin, _length(context))
        _, after = self.run_levels(state, embeddings, _length(context), draws, begin=begin)
        return {**after, "seed": state["seed"]}

    def imagine(self, state, horizon, seed=None):
        seeds = state["seed"] if seed is None else tf.cast(seed, tf.int64)
        draws, spatial_draws = self._noise(seeds, state["frame"], horizon, self.spatial)
        outputs, after = self.run_levels(state, None, horizon, draws, self.latent_temperature)
        video, _ = self.decode(outputs[0], spatial_draws, temperature=self.spatial_temperature)
        if isinstance(horizon, int):
            video.set_shape([None, horizon, *self.image_shape])
        return video, {**after, "seed": seeds}

    def reconstruct(self, video, seed=None):
        seeds = noise.example_seeds(tf.range(tf.shape(video)[0])) if seed is None else seed
        embeddings, feature_maps = self.encode(video)
        draws, spatial_draws = self._noise(seeds, 0, _length(video), self.spatial)
        outputs, _ = self.run_levels(self.zero_state(seeds), embeddings, _length(video), draws, begin=0)
        return self.decode(outputs[0], spatial_draws, feature_maps)[0]

    def elbo(self, video, draws, spatial_draws=None):
        """The evidence lower bound and its parts, for given noise.

        With T frames x_t, T_l = ceil(T / factor**l) ticks of level l, and z from the posterior q:

            loss = 1/T ( sum_t -ln N(x_t; decoder(z^0_t, h^0_t), dec_stddev^2)
                         + sum_l beta_l sum_{tau <= T_l} KL(q(z^l_tau) || p(z^l_tau))
                         + spatial_beta sum_t sum_g KL(q(z_{t,g}) || p(z_{t,g})) )

        This is the negative of the bound that CW-VAE maximizes (Saxena et al. 2021, section 3),
        per frame; the betas are 1 there. The last sum is that of HTSR-S. With `free_nats`, a
        tick's KL counts as max(0, KL - free_nats).

        Args:
            video: [B, T, H, W, C] float32 in [0, 1].
            draws: see `run_levels`.
            spatial_draws: see `decode`.

        Returns:
            (terms [B], see the class; per-level outputs; KL per level [B, ticks]; decoded frames).
        """
        frames = video.shape[1]
        embeddings, feature_maps = self.encode(video)
        state = self.zero_state(tf.zeros([tf.shape(video)[0], 2], tf.int64))
        outputs, _ = self.run_levels(state, embeddings, frames, draws, begin=0)
        decoded, spatial = self.decode(outputs[0], spatial_draws, feature_maps)
        from tensorflow_probability import distributions as tfd  # seconds that commands of other models can do without

        likelihood = tfd.Independent(tfd.Normal(decoded, self.dec_stddev), 3)
        nll = -tf.reduce_sum(likelihood.log_prob(tf.cast(video, tf.float32)), axis=1) / frames
        divergences = [
            latent.balanced_kl(
                (o["mean"], o["stddev"]), (o["prior_mean"], o["prior_stddev"]), self.kl_balance, self.legacy_kl_balance
            )
            for o in outputs
        ]
        terms, loss = {"nll": nll}, nll
        for level, (divergence, beta) in enumerate(zip(divergences, self.beta)):
            terms[f"kl_level{level}"] = tf.reduce_sum(divergence, axis=1) / frames
            excess = tf.maximum(divergence - self.free_nats, 0.0) if self.free_nats else divergence
            loss += beta * tf.reduce_sum(excess, axis=1) / frames
        if self.spatial:
            terms["kl_spatial"] = tf.reduce_sum(spatial, axis=1) / frames
            loss += self.spatial_beta * terms["kl_spatial"]
        terms["kl"] = tf.add_n([value for name, value in terms.items() if name.startswith("kl")])
        return {"loss": loss, **terms}, outputs, divergences, decoded

    def loss_terms(self, batch, training):
        video, seeds = batch["video"], self.example_seeds(batch, training)
        return self.elbo(video, *self._noise(seeds, 0, video.shape[1], self.spatial))[0]

    def _noise(self, seeds, begin, frames, spatial=False):
        """All draws for a number of frames, in one call: a stream per level or group, an event per tick or frame.

        Args:
            seeds: [B, 2].
            begin: number of the first frame, an integer, or int32 [B].
            frames: how many, an integer or a scalar tensor.
            spatial: whether to draw for the spatial latents too.

        Returns:
            (the `draws` of `run_levels`, the `spatial_draws` of `decode`): the latter are None where there
            are no such latents, or no samples.
        """
        if self.mean_only:
            return lambda level, first, ticks: None, None
        events = []
        for level in range(self.levels):
            numbers = _numbered(self._ticks(begin, level), self._ticks(frames, level))
            events.append((level, numbers, (self.stoch,)))
        if spatial:
            shapes = enumerate(self.decoder.shapes)
            events += [(SPATIAL_STREAM + g, _numbered(begin, frames), shape) for g, shape in shapes]
        drawn = noise.normals(seeds, events)
        spatial_draws = [tf.reshape(x, [-1, *x.shape[2:]]) for x in drawn[self.levels :]]
        return lambda level, first, ticks: drawn[level], spatial_draws or None


def _numbered(first, count):
    """first, first + 1, ...: [count] from an integer, [B, count] from a tensor [B]."""
    return tf.range(count) + (first if isinstance(first, int) else first[:, None])


def _joined(before, values):
    """[B, T + 1, ...]: what was before the first of T time steps, and then `values` [B, T, ...]."""
    return tf.concat([before[:, None], values], axis=1)


def _length(video):
    """Frames of [B, T, ...]: an integer where it is known beforehand."""
    return video.shape[1] if video.shape[1] is not None else tf.shape(video)[1]
