"""The one place that imports OpenCV: set before the import what OpenCV reads only once, then hand out `cv2`."""

from __future__ import annotations

import os

MAX_PIXELS = 100_000_000  # per image; 300 MB once decoded

os.environ.setdefault("OPENCV_IO_MAX_IMAGE_PIXELS", str(MAX_PIXELS))

import cv2  # noqa: E402

cv2.setNumThreads(0)  # images are small and msedge's own threads already share the cores
cv2.setLogLevel(0)  # silent

__all__ = ["MAX_PIXELS", "cv2"]
