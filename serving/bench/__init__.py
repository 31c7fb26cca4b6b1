"""Measures a running server: sends load, checks answers, and tells what came of it."""
