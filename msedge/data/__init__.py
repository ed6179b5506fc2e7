"""Image folders, the drawn cats-and-dogs set, preprocessing, batches, calibration sets, audits.

Import from the modules: this package itself loads neither NumPy nor OpenCV.
"""
