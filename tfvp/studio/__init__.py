"""The studio: a local page that predicts the futures of a clip, beside each other, with any trained model."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")  # names of this machine, for itself
