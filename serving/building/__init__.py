"""Builders of engines: helpers that make of a model what one kind of device runs."""
