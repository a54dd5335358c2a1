"""The networks of SVG that remember: an embedding, a stack of recurrent layers, and heads."""

from tensorflow import keras

from tfvp.layers.per_frame import per_frame


class Recurrent(keras.layers.Layer):
    """Embedding, recurrent layers and heads over [B, T, ...], in float32.

    Args:
        embed: a layer of vectors or feature maps.
        cells: recurrent layers with `zero_state(batch, *grid)`, called with (inputs, state).
        heads: {name: a layer of what the last of `cells` gives}.
        size: features of the embedding and of every cell.
        grid: (height, width) of the feature maps; () for vectors.
    """

    def __init__(self, embed, cells, heads, size, grid=(), **kwargs):
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.embed, self.cells = embed, list(cells)
        self.head_names, self.heads = list(heads), list(heads.values())
        self.size, self.grid = size, tuple(grid)

    def build(self, input_shape):
        self.embed.build((None, *self.grid, input_shape[-1]))
        for cell in self.cells:
            cell.build((None, None, *self.grid, self.size))
        for head in self.heads:
            head.build((None, *self.grid, self.size))
        self.built = True

    def zero_state(self, batch):
        """{"layer<n>": {"h", "c"}}."""
        return {f"layer{n}": cell.zero_state(batch, *self.grid) for n, cell in enumerate(self.cells)}

    def call(self, inputs, state):
        """({head: [B, T, ...]}, the state after the last step)."""
        x, after = per_frame(self.embed, inputs), {}
        for n, cell in enumerate(self.cells):
            x, after[f"layer{n}"] = cell(x, state[f"layer{n}"])
        return {name: per_frame(head, x) for name, head in zip(self.head_names, self.heads)}, after
