"""The page of a live run: a server that any browser of the network may look at, where it has the token."""
