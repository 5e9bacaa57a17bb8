"""Radfuse, the service: an image and a mask in, one fused feature vector and predictions out."""

import os

# ONNX Runtime's builds send usage data to their maker unless told not to, and it decides at its import. Nothing may
# leave a machine that holds patients' data: every process of the product passes here first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
