"""What MindSpore Serving's two wire formats have in common: data types, rules, texts, results.

Its clients compare codes and texts, so both are part of the format and are written here as its
release 2.0.2 sends them. Bytes and headers are left to ``rest`` and ``grpc``.
"""
