"""What TF Serving does with a SavedModel, as far as its documentation says: a session of the graph, fed by name.

Nothing is checked before the graph runs but names and dtypes, as in the server.
"""

import base64

import numpy as np
import tensorflow as tf


class Server:
    """A loaded SavedModel.

    Args:
        path: its folder.
    """

    def __init__(self, path):
        self.graph = tf.Graph()
        with self.graph.as_default():
            self.session = tf.compat.v1.Session(graph=self.graph)
            self.signatures = tf.compat.v1.saved_model.load(self.session, ["serve"], str(path)).signature_def
        self.session._extend_graph()

    def inputs(self, signature):
        """{input: dtype}."""
        infos = self.signatures[signature].inputs
        return {name: tf.as_dtype(info.dtype).as_numpy_dtype for name, info in infos.items()}

    def run(self, signature, **arrays):
        """{output: array}. `tf.Session.run` would compare shapes with the signature's, which a server does not."""
        definition, dtypes = self.signatures[signature], self.inputs(signature)
        assert set(arrays) == set(dtypes), f"{signature} takes {sorted(dtypes)}"
        feeds = {self._of(definition.inputs[key]): np.asarray(value, dtypes[key]) for key, value in arrays.items()}
        outputs = list(definition.outputs)
        fetches = [self._of(definition.outputs[name]) for name in outputs]
        return dict(zip(outputs, self.session._call_tf_sessionrun(None, feeds, fetches, [], None)))

    def metadata(self):
        """What REST's /metadata says of the signatures' inputs, as far as the client reads it."""
        return {
            name: {
                "inputs": {
                    key: {"tensor_shape": {"dim": [{"size": str(dim.size)} for dim in info.tensor_shape.dim]}}
                    for key, info in definition.inputs.items()
                }
            }
            for name, definition in self.signatures.items()
        }

    def columns(self, signature, inputs):
        """REST's column format: {input: nested lists} becomes {output: nested lists}."""
        return {k: to_json(v) for k, v in self.run(signature, **{k: from_json(v) for k, v in inputs.items()}).items()}

    def rows(self, signature, instances):
        """REST's row format: a list of {input: value of one example} becomes a list of {output: value of one}."""
        keys = list(instances[0])
        assert all(list(instance) == keys for instance in instances)
        answer = self.run(signature, **{key: np.stack([from_json(one[key]) for one in instances]) for key in keys})
        assert {len(value) for value in answer.values()} == {len(instances)}, "outputs must have the batch first"
        return [{key: value[n] for key, value in answer.items()} for n in range(len(instances))]

    def batched(self, signature, requests):
        """--enable_batching: the requests {input: array} are concatenated, and the answer is split."""
        sizes = [len(next(iter(request.values()))) for request in requests]
        assert all(len(value) == size for size, request in zip(sizes, requests) for value in request.values())
        joined = {key: np.concatenate([request[key] for request in requests]) for key in requests[0]}
        answer = self.run(signature, **joined)
        assert all(len(value) == sum(sizes) for value in answer.values())
        parts = {key: np.split(value, np.cumsum(sizes)[:-1]) for key, value in answer.items()}
        return [{key: values[n] for key, values in parts.items()} for n in range(len(sizes))]

    def _of(self, info):
        return self.graph.get_tensor_by_name(info.name)._as_tf_output()


def from_json(value):
    """An array of numbers, or of the bytes of {"b64": text}."""
    if isinstance(value, dict):
        return base64.b64decode(value["b64"])
    if isinstance(value, list):
        parts = [from_json(part) for part in value]
        return np.array(parts, object) if parts and isinstance(parts[0], bytes) else np.array(parts)
    return np.asarray(value)


def to_json(value):
    """An answer's array as TF Serving writes it: bytes as {"b64": text}."""
    value = value.tolist() if isinstance(value, np.ndarray) else value
    if isinstance(value, list):
        return [to_json(part) for part in value]
    return {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
