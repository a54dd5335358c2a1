"""Where the references keep the weights of models that have no importer, and in which layout."""

import numpy as np

from tfvp.layers import vid2vid


def to_tf(kernel):
    """PyTorch's (out, in, h, w) -> (h, w, in, out)."""
    return np.transpose(kernel, (2, 3, 1, 0))


def simvp_variables(model):
    """{name in the reference: our variable}."""
    ours = {}

    def affine(name, layer):
        kernel = layer.depthwise_kernel if hasattr(layer, "depthwise_kernel") else layer.kernel
        ours[f"{name}.weight"], ours[f"{name}.bias"] = kernel, layer.bias

    def norm(name, layer):
        ours[f"{name}.weight"], ours[f"{name}.bias"] = layer.gamma, layer.beta

    for side, units in (("enc", model.encoder), ("dec", model.decoder)):
        for i, unit in enumerate(units):
            affine(f"{side}.{side}.{i}.conv.conv{'.0' if unit.upsample else ''}", unit.conv)
            norm(f"{side}.{side}.{i}.conv.norm", unit.norm)
    affine("dec.readout", model.readout)
    for i, block in enumerate(model.translator):
        scope = f"hid.enc.{i}.block"
        ours[f"{scope}.layer_scale_1"], ours[f"{scope}.layer_scale_2"] = block.scales
        norm(f"{scope}.norm1", block.norms[0])
        norm(f"{scope}.norm2", block.norms[1])
        for name, layer in {
            "attn.proj_1": block.into,
            "attn.spatial_gating_unit.conv0": block.local,
            "attn.spatial_gating_unit.conv_spatial": block.wide,
            "attn.spatial_gating_unit.conv1": block.gate,
            "attn.proj_2": block.out,
            "mlp.fc1": block.expand,
            "mlp.dwconv.dwconv": block.mix,
            "mlp.fc2": block.project,
        }.items():
            affine(f"{scope}.{name}", layer)
        if block.resize is not None:
            affine(f"hid.enc.{i}.reduction", block.resize)
    return ours


def from_pytorch(name, value):
    """A parameter of SimVP in our layout."""
    if value.ndim != 4:
        value = value if ".conv.0." not in name else value.reshape(-1, 4).T.reshape(-1)  # pixel shuffle
        return value
    if value.shape[1] == 1 and "hid" in name:  # depthwise
        return np.transpose(value, (2, 3, 0, 1))
    kernel = to_tf(value)
    if ".conv.0." in name:
        kernel = kernel.reshape(*kernel.shape[:3], -1, 4).swapaxes(3, 4).reshape(kernel.shape)
    return kernel


def assign(variables, arrays):
    """Gives Keras variables the arrays of a PyTorch module {name: array}, both in order."""
    for variable, array in zip(variables, arrays.values(), strict=True):
        array = np.transpose(array, (2, 3, 1, 0)) if array.ndim == 4 else array
        assert tuple(variable.shape) == array.shape
        variable.assign(array)


def conv(layer):
    """The variables of a convolution."""
    return [layer.kernel, layer.bias]


def coder_variables(coder):
    """The variables of a label encoder or decoder, in the reference's order."""
    return [v for layer in [*coder.convs, coder.last] for v in conv(layer)]


def recurrent_variables(network):
    """The variables of a structure generator's recurrent network, in the reference's order."""
    variables = conv(network.embed)
    for cell in network.cells:
        variables += [cell.kernel, cell.recurrent_kernel, cell.input_bias, cell.state_bias]
    return [*variables, *(v for head in network.heads for v in conv(head))]


def generator_variables(layer):
    """The variables of a generator's or discriminator's parts, in the reference's order."""
    if isinstance(layer, vid2vid.Stack):
        return [v for part in layer.parts for v in generator_variables(part)]
    if isinstance(layer, vid2vid.ResBlock):
        return [*generator_variables(layer.first), *generator_variables(layer.second)]
    return conv(layer) + ([layer.gamma, layer.beta] if layer.norm else [])
