"""MindSpore Serving's import name, for scripts and servables that were written for it.

A real MindSpore Serving that is installed comes first on ``sys.path``, and is imported instead.
"""
