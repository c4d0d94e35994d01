"""Degradations: what the networks are fed, made from clean pictures.

Noise in :mod:`~elir_trt.degradations.noise`, a sensor with a mosaic and the way from there to a picture in
:mod:`~elir_trt.degradations.sensor`, still and video encoders in :mod:`~elir_trt.degradations.compression`, what each
task is made of in :mod:`~elir_trt.degradations.tasks`.
"""

from __future__ import annotations

from elir_trt.degradations.compression import jpeg, video
from elir_trt.degradations.noise import gaussian_noise, sensor_noise, to_uint8
from elir_trt.degradations.sensor import CAMERA_LEVELS, CameraLevel, Sensor, camera_level, photograph
from elir_trt.degradations.tasks import TASKS, Degradation, degradation

__all__ = [
    "CAMERA_LEVELS",
    "TASKS",
    "CameraLevel",
    "Degradation",
    "Sensor",
    "camera_level",
    "degradation",
    "gaussian_noise",
    "jpeg",
    "photograph",
    "sensor_noise",
    "to_uint8",
    "video",
]
