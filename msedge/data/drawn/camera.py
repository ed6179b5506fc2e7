"""From the scene to the file: light, lens, sensor, JPEG."""

from __future__ import annotations

import math

import numpy as np

from msedge.data.drawn.canvas import low_noise
from msedge.data.opencv import cv2


def photograph(pixels: np.ndarray, size: int, rng: np.random.Generator) -> bytes:
    """Scene uint8 RGB [side, side, 3] to a JPEG file of size x size: light, blur, noise, compression."""
    image = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    image = _light(image, rng)
    if rng.random() < 0.22:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.3) * size / 160)
    elif rng.random() < 0.08:
        image = _shaken(image, rng.uniform(2, 7) * size / 160, rng.uniform(0, math.pi))
    sigma = abs(rng.normal(0, 5.0))
    if sigma > 1:
        noise = np.float32(sigma) * rng.standard_normal(image.shape, dtype=np.float32)
        image = cv2.add(image, noise, dtype=cv2.CV_8U)
    quality = int(rng.choice([35, 50, 65, 80, 90, 95]))
    done, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def _light(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Exposure, gamma and white balance as one table, then uneven light over the picture."""
    levels = np.linspace(0, 1, 256)
    gamma, gain = math.exp(rng.normal(0, 0.16)), math.exp(rng.normal(0, 0.1))
    warm = rng.normal(0, 0.05)
    tables = [np.clip(255 * gain * g * levels**gamma, 0, 255) for g in (1 + warm, 1.0, 1 - warm)]
    image = cv2.LUT(image, np.stack(tables, -1).astype(np.uint8)[:, None])
    field = 1 + np.float32(rng.uniform(0.02, 0.18)) * low_noise(image.shape[0], 2, rng)
    return cv2.multiply(image, cv2.merge([field] * 3), dtype=cv2.CV_8U)


def _shaken(image: np.ndarray, length: float, turn: float) -> np.ndarray:
    k = 2 * max(1, round(length / 2)) + 1
    kernel = np.zeros((k, k), np.float32)
    c, d = k // 2, np.array([math.cos(turn), math.sin(turn)]) * (k // 2)
    cv2.line(kernel, tuple(int(v) for v in c - d), tuple(int(v) for v in c + d), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())
