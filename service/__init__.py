"""Radfuse, the service: an image and a mask in, one fused feature vector and predictions out."""

import os

# ONNX Runtime's builds send usage data to their maker unless told not to, and it decides at its import. Nothing may
# leave a machine that holds patients' data: every process of the product passes here first.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
# NumPy's linear algebra reads this at its import. The matrices here are tens of numbers wide: its threads would wait
# for each other a hundred times longer than the work takes.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
