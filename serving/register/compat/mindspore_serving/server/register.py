"""``mindspore_serving.server.register``: the objects of ``serving.register``."""

from serving.register import *  # noqa: F403
from serving.register import __all__  # noqa: F401
