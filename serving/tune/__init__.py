"""Finds the best settings of a servable on this machine: measures, decides, tells, writes."""
