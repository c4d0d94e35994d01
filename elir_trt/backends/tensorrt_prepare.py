"""The ONNX file of a part on its way to TensorRT: rewritten for the version that is here, or refused with the reason.

What rewrites needs the package onnx. A machine that only builds engines again may lack it: a file that already is in
the form that every version takes goes to TensorRT as it is.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from elir_trt.backends.tensorrt_api import Flavour
from elir_trt.backends.tensorrt_form import has_form
from elir_trt.errors import BuildError

#: Reasons that a refusal names; a wrong file has one at every node.
_MOST_REASONS = 3


@dataclass(frozen=True)
class PreparedPart:
    """A part for TensorRT.

    Attributes:
        data: the ONNX file that is parsed.
        portable: the ONNX file that any version can be given again, without the package onnx.
    """

    data: bytes
    portable: bytes


def prepare_part(data: bytes, part: str, flavour: Flavour, version: str) -> PreparedPart:
    """Rewrite a part for a version, and look whether that takes it.

    Args:
        data: serialized ONNX model, typed, with static shapes.
        part: what messages call it.
        flavour, version: of TensorRT, such as "tensorrt" and "10.3.0".

    Raises:
        BuildError: the version would refuse the file or compute something else, naming the nodes; or the file has to
            be rewritten and onnx is not installed.
    """
    if importlib.util.find_spec("onnx") is None:
        if has_form(data):
            return PreparedPart(data, data)
        raise BuildError(
            f"{part}: the ONNX file is not in the form that every TensorRT takes, and onnx, which rewrites it, is "
            "not installed: pip install onnx"
        )
    from elir_trt.backends.tensorrt_rewrite import for_tensorrt, for_tensorrt_rtx
    from elir_trt.backends.tensorrt_rules import refusals, rules_for
    from elir_trt.backends.widen import widen_transposed

    portable = ready = for_tensorrt(data)
    if flavour == "tensorrt-rtx":
        ready = for_tensorrt_rtx(portable)
        widened = widen_transposed(ready)
        ready = ready if widened is None else widened[0]
    found = refusals(ready, rules_for(flavour, version))
    if found:
        more = f"; and {len(found) - _MOST_REASONS} more" if len(found) > _MOST_REASONS else ""
        raise BuildError(
            f"{part}: {flavour} {version} would refuse the ONNX file or compute something else: "
            f"{'; '.join(found[:_MOST_REASONS])}{more}; build the bundle again with this version of the package, or "
            "with another --backend"
        )
    return PreparedPart(ready, portable)
