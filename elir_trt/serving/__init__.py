"""Bundles behind engines that others run: a model repository for Triton."""
