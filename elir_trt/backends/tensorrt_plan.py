"""What a TensorRT-RTX engine runs, read from the engine: its kernels, the bytes they move, their types.

TensorRT-RTX writes the program of an engine into it as text: a table of tensors, and then one statement a kernel. So
launches and bytes are known where there is no GPU. Full TensorRT writes none of this. The text is no documented
format: what is here was read from version 1.7, and anything that looks different is an error, not a guess.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from elir_trt.errors import BuildError

#: Bytes of an element, by the names that plans use.
_ELEMENT_BYTES: Mapping[str, int] = {
    "bool": 1,
    "int8": 1,
    "uint8": 1,
    "fp8_e4m3": 1,
    "half": 2,
    "bf16": 2,
    "float": 4,
    "int32": 4,
    "int64": 8,
}
_EIGHT_BITS = ("int8", "fp8_e4m3")
#: Statements that run a convolution; a runtime_fusion is one together with what follows it, by its backbone.
_CONVOLUTIONS = ("corrltn", "deconvolution")

_STATEMENT = re.compile(r"\n  (?=\w+=\{ name=)")
_HEAD = re.compile(r'(\w+)=\{ name="?([^"\s]*)')
_TENSOR = re.compile(
    r'^  (?:sub_)?tensor=\{.*?\bdims=\{([^}]*)\}.*?\bname="([^"]*)".*?\btype=(\w+)', re.MULTILINE
)
_QUOTED = re.compile(r'"([^"]*)"')
_LAYER = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


@dataclass(frozen=True)
class PlanTensor:
    """A tensor of a plan.

    Attributes:
        name: within the plan; not the ONNX file's.
        shape: as the plan has it, constants padded to four dimensions.
        element: type, as plans name them: "half", "float", "int8", "fp8_e4m3", ...
    """

    name: str
    shape: tuple[int, ...]
    element: str

    @property
    def bytes(self) -> int:
        """What its elements take."""
        return math.prod(self.shape) * _ELEMENT_BYTES[self.element]


@dataclass(frozen=True)
class Kernel:
    """One launch.

    Attributes:
        kind: the plan's word for it: "function", "corrltn" (a convolution), "runtime_fusion", ...
        name: of a function its parts, such as "__myl_SiluGnor"; of a convolution its layer.
        reads, writes: its tensors, weights included, scratch space not.
        layers: names of the ONNX nodes that it computes.
        convolves: whether a convolution, transposed or not, is the kernel or its backbone.
    """

    kind: str
    name: str
    reads: tuple[PlanTensor, ...]
    writes: tuple[PlanTensor, ...]
    layers: tuple[str, ...]
    convolves: bool

    @property
    def bytes(self) -> int:
        """What it reads, each tensor once, and writes."""
        return sum(tensor.bytes for tensor in (*dict.fromkeys(self.reads), *self.writes))

    @property
    def quantized(self) -> bool:
        """Whether it is a convolution of 8-bit data."""
        return self.convolves and bool(self.reads) and self.reads[0].element in _EIGHT_BITS


@dataclass(frozen=True)
class Plan:
    """The kernels of an engine, in the order in which they run."""

    kernels: tuple[Kernel, ...]

    @property
    def launches(self) -> int:
        """How many kernels a run of the engine launches."""
        return len(self.kernels)

    @property
    def bytes(self) -> int:
        """What all kernels read and write; what stays in a GPU's cache between two of them is counted too."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def quantized_convolutions(self) -> int:
        """Convolutions that run in 8 bits."""
        return sum(kernel.quantized for kernel in self.kernels)

    def casts(self) -> tuple[Kernel, ...]:
        """Kernels that do nothing but change a type."""
        return tuple(kernel for kernel in self.kernels if kernel.name == "__myl_Cast")

    def float32_outputs(self) -> tuple[Kernel, ...]:
        """8-bit convolutions that write float32: another kernel then has to read four bytes an element."""
        return tuple(
            kernel for kernel in self.kernels if kernel.quantized and kernel.writes[0].element == "float"
        )


def read_plan(engine: bytes) -> Plan:
    """Read the kernels of a TensorRT-RTX engine.

    Raises:
        BuildError: the engine has no such text, or one that this was not written for.
    """
    begin = engine.find(b"\ndescriptors {")
    middle = engine.find(b"\nmain {", begin)
    end = engine.find(b"\n}", middle)
    if min(begin, middle, end) < 0:
        raise BuildError("the engine has no list of kernels; TensorRT-RTX 1.7 writes one")
    tensors = {
        name: PlanTensor(name, tuple(map(int, sizes.split())), element)
        for sizes, name, element in _TENSOR.findall(_text(engine[begin:middle]))
    }
    kernels = tuple(_kernels(_text(engine[middle:end]), tensors))
    if not kernels:
        raise BuildError("the engine's list of kernels is empty, or of a form that is not known")
    return Plan(kernels)


def reason_against_quantized(quantized: Plan, floating: Plan, scheme: str = "int8") -> str | None:
    """Why an engine with 8-bit convolutions is not known to be faster than the same part in floats; None: it is.

    A convolution in 8 bits takes half the arithmetic. Kernels that it needs besides, and bytes that they move, cost
    more than that, so that an engine without a time is taken only where nothing becomes worse.

    Args:
        quantized: plan of the engine with Q/DQ.
        floating: plan of the engine without.
        scheme: the precision that messages name.
    """
    count, wide = quantized.quantized_convolutions, len(quantized.float32_outputs())
    if not count:
        return f"the engine has no convolution in {scheme}"
    if not wide and quantized.launches <= floating.launches and quantized.bytes <= floating.bytes:
        return None
    cause = f"; {wide} of its {count} convolutions in 8 bits write float32" if wide else ""
    return (
        f"{scheme} needs {quantized.launches} kernels and {quantized.bytes / 1e6:,.0f} MB where the float needs "
        f"{floating.launches} and {floating.bytes / 1e6:,.0f}{cause}"
    )


def _text(data: bytes) -> str:
    return data.decode("ascii", errors="replace")


def _kernels(text: str, tensors: Mapping[str, PlanTensor]) -> Iterator[Kernel]:
    for statement in _STATEMENT.split(text)[1:]:
        head = _HEAD.match(statement)
        if head is None:
            raise BuildError(
                f"the engine's list of kernels has {statement[:60]!r}; expected KIND={{ name=..."
            )
        kind, name = head[1], head[2]
        names = ("input", "output") if kind in _CONVOLUTIONS else ("input_args", "output_args")
        reads, writes = (_arguments(statement, field, tensors) for field in names)
        yield Kernel(
            kind,
            name,
            reads,
            writes,
            tuple(_LAYER.findall(statement)),
            kind in _CONVOLUTIONS or bool(re.search(r"\bbackbone=(conv|deconv)", statement)),
        )


def _arguments(statement: str, field: str, tensors: Mapping[str, PlanTensor]) -> tuple[PlanTensor, ...]:
    found = re.search(rf"\b{field}=\{{([^}}]*)\}}", statement)
    if found is None:
        raise BuildError(f"the engine's list of kernels has {statement[:60]!r} without {field}")
    try:
        arguments = tuple(tensors[name] for name in _QUOTED.findall(found[1]))
    except KeyError as error:
        raise BuildError(
            f"the engine's list of kernels names a tensor {error} that it does not have"
        ) from None
    for tensor in arguments:
        if tensor.element not in _ELEMENT_BYTES:
            raise BuildError(
                f"the engine's tensor {tensor.name} has elements {tensor.element!r}, which are not known"
            )
    return arguments
