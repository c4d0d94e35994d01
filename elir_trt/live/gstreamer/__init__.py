"""``elirrestore``: a GStreamer element that restores video, and its installation. See docs/live.md."""
