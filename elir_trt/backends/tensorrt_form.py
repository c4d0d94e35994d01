"""How a file says that it is in the form that every supported TensorRT takes; known without the package onnx."""

#: Stands in the metadata of a file that :func:`elir_trt.backends.tensorrt_rewrite.for_tensorrt` has written.
FORM = "elir_trt.form_for_every_tensorrt"


def has_form(data: bytes) -> bool:
    """Whether a serialized ONNX model is in the form that every supported TensorRT takes."""
    return FORM.encode() in data
