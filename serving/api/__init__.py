"""MindSpore Serving's Python API: a server in a thread of the user's process, and its client.

Scripts import these as ``mindspore_serving.server`` and ``mindspore_serving.client``. Names,
arguments and the texts of errors are those of MindSpore Serving 2.0.2; every error of an argument
or of a start is a RuntimeError. Nothing is imported here: the client needs none of the server.
"""
