"""Whole pictures from interlaced ones, by FFmpeg's bwdif."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from elir_trt.extras import needs

with needs("av", extra="video", what="reading videos"):
    import av
    from av.filter import Graph

# FFmpeg's numbers of AVFieldOrder whose bottom field is displayed first.
_BOTTOM_FIRST = (3, 4)


class Deinterlacer:
    """Makes one whole picture of each interlaced one; progressive ones pass as they are.

    The filter looks at the pictures before and after, so one picture is held back.
    """

    def __init__(self, first: av.VideoFrame, time_base: Fraction) -> None:
        """Args: first: the first picture to be pushed; time_base: of the pictures' times."""
        self._time_base = time_base
        self._graph = Graph()
        source = self._graph.add_buffer(
            width=first.width, height=first.height, format=first.format, time_base=time_base
        )
        # One picture for each picture, not for each field; those that are flagged interlaced only.
        bwdif = self._graph.add("bwdif", mode="send_frame", parity="auto", deint="interlaced")
        self._graph.link_nodes(source, bwdif, self._graph.add("buffersink")).configure()
        self._size = (first.width, first.height)

    def fits(self, frame: av.VideoFrame) -> bool:
        """Whether a picture has the size of the first."""
        return (frame.width, frame.height) == self._size

    def push(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Add a picture; gives those that are finished by that."""
        self._graph.vpush(frame)
        yield from self._pull()

    def drain(self) -> Iterator[av.VideoFrame]:
        """Give the picture that is still held back; the last call."""
        self._graph.vpush(None)
        yield from self._pull()

    def _pull(self) -> Iterator[av.VideoFrame]:
        while True:
            try:
                frame = self._graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            # The filter counts in half ticks.
            ticks = (frame.time_base or self._time_base) / self._time_base
            if frame.pts is not None:
                frame.pts = round(frame.pts * ticks)
            frame.duration = round((frame.duration or 0) * ticks)
            frame.time_base = self._time_base
            yield frame


def field_order(context: object) -> str:
    """ "tff" or "bff": which field of interlaced pictures comes first, as the stream says; tff where it does not."""
    return "bff" if getattr(context, "field_order", 0) in _BOTTOM_FIRST else "tff"
