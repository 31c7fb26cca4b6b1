"""Tensors in shared memory that clients of this machine own: named by them, never mapped here."""
