"""The VM lane: an always-on machine with the same model."""
