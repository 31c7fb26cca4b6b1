"""The backends on real devices; skipped, with the reason, where there are none."""
