"""``python -m serving.worker``: started by the master only."""

from serving.worker.main import main

main()
