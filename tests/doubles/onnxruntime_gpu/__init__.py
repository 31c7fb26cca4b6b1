"""A double of the package ``onnxruntime-gpu``."""
