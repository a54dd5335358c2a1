"""Every shipped configuration: its header, its model, its data set; a new one needs no line of test code."""

import functools
import json
import re

import pytest
import tensorflow as tf

from tests.golden import ROOT
from tfvp import config as configuration
from tfvp import registry
from tfvp.datasets.build import build_dataset
from tfvp.metrics import protocols
from tfvp.models.build import make_model
from tfvp.pipeline import overview

CONFIGS = ROOT / "configs"
NAMES = [p.relative_to(CONFIGS).as_posix() for p in sorted(CONFIGS.rglob("*.yml")) if p != CONFIGS / "base.yml"]


def header(name):
    """The comment that a file begins with, as one line."""
    lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
    end = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    return " ".join(line.lstrip("# ") for line in lines[:end])


@pytest.mark.parametrize("name", NAMES)
def test_the_header_has_commands_hardware_and_an_expected_number(name):
    text, run = header(name), configuration.load(CONFIGS / name).name
    config = re.escape(name.removesuffix(".yml"))
    assert re.search(rf"(train\.py|tfvp train) .*?--config (\./configs/)?{config}(\.yml)?\b", text), (
        "no training command"
    )
    assert re.search(rf"(eval_with_lpips\.py|tfvp evaluate) .*?--logdir \./logs/{run}\b", text), "no evaluation"
    assert re.search(r"Hardware: \S+", text)
    assert "not yet measured" in text or re.search(r"Expect .*\d", text), "no number to expect"


@pytest.mark.parametrize("name", NAMES)
def test_the_header_names_options_and_protocols_that_exist(name):
    config = configuration.load(CONFIGS / name)
    declared = {**registry.options("model", config.model.name), **registry.options("dataset", config.data.name)}
    for section, key in re.findall(r"\b(model|data|train|eval)\.(?!py\b)([a-z_0-9]+)", header(name)):
        assert key in declared or key in config[section], f"{section}.{key}"
    for protocol in re.findall(r"--protocol (\w+)", header(name)):
        assert protocols.get(protocol).dataset in ("", config.data.name)


@functools.lru_cache(maxsize=8)  # neighbours in the list are those that share
def made(model, dataset, frame_shape):
    """The model of a section `model` (JSON), shared by the files that differ in how it is trained."""
    shared = {"image_size": list(frame_shape[:2]), "channels": frame_shape[2], "name": dataset}
    with tf.Graph().as_default():  # in which variables take no memory
        return make_model(configuration.from_dict({"model": json.loads(model), "data": shared}), frame_shape)


@pytest.mark.parametrize("name", NAMES)
def test_the_model_and_the_data_set_are_made(name):
    config = configuration.load(CONFIGS / name)
    model = made(json.dumps(config.model.to_dict(), sort_keys=True), config.data.name, config.frame_shape)
    model.check_image_size()
    model.check_context(config.eval.open_loop_ctx)
    assert config.eval.open_loop_ctx < config.eval.eval_seq_len and model.fewest_context < config.train.seq_len
    dataset = build_dataset(config)
    assert dataset.frame_shape == config.frame_shape
    assert dataset.info.description in overview.describe(dataset)
