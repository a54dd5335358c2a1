"""Predictions of single clips, and of label maps and the videos rendered from them."""
