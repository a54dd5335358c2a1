"""The studio: a local page that predicts the futures of a clip, beside each other, with any trained model."""
