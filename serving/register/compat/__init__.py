"""The folder that a ``.pth`` file appends to ``sys.path``: only other import names lie in it."""
