"""What engines are made of: the parts of a model, exported when a backend asks for them."""

from __future__ import annotations

from collections.abc import Mapping

from elir_trt.backends.base import Array
from elir_trt.building.export import export_part, with_batch
from elir_trt.model.elir import Elir
from elir_trt.recipe import Precision


class ModelPart:
    """A part of a model: see :class:`elir_trt.backends.base.PartSource`.

    Attributes:
        part: its name.
        relative_error: of the last exported file against the float32 part; 0 before, and for a chosen file.
    """

    def __init__(
        self, part: str, model: Elir, size: tuple[int, int], batch: int, chosen: bytes | None = None
    ) -> None:
        """``chosen``: the ONNX file, of one image, that is used whatever precision is asked for."""
        self.part = part
        self.relative_error = 0.0
        self._model, self._size, self._batch, self._chosen = model, size, batch, chosen
        self._exported: dict[Precision, bytes] = {}

    def onnx(self, precision: Precision) -> bytes:
        """The part as ONNX for the bundle's batch, checked against torch.

        Raises:
            ExportError: the export failed, or the file computes something else.
        """
        if self._chosen is not None:
            return with_batch(self._chosen, self._batch)
        if precision not in self._exported:
            exported = export_part(self._model, self.part, size=self._size, precision=precision)
            self._exported[precision] = with_batch(exported.data, self._batch)
            self.relative_error = exported.relative_error
        return self._exported[precision]

    def weights(self) -> Mapping[str, Array]:
        """The part's weights in float32."""
        return {key: value.numpy() for key, value in self._model.parts()[self.part].state_dict().items()}
