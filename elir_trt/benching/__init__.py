"""Measuring a bundle beside its peers, and counting what a frame costs at least."""
