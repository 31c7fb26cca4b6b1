"""What both wires of TensorFlow Serving's clients have in common; nothing here knows a wire."""
