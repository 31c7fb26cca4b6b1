"""A model-serving daemon for MindIR and ONNX models."""

__version__ = "0.1.0"
