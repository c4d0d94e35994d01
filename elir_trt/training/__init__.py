"""Training of ELIR models (extra ``train``): data, degradations, losses, loops."""
