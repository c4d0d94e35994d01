"""Which engines run on this machine: made of portable bundles, compared, timed, kept. Needs no torch."""
