"""Quantisation that keeps its accuracy: calibration, plans, quantisation-aware training, exact int8 `.ms` files."""
