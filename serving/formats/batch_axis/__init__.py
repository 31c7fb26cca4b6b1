"""The proof that requests may share a batch; see ``walk``."""

from serving.formats.batch_axis.walk import prove

__all__ = ["prove"]
