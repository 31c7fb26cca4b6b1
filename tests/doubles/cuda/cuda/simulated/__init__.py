"""One make-believe GPU for ``cuda.bindings.runtime`` and ``tensorrt``: strict where real ones lie.

Told by environment variables of its own, none of which the server knows:

==========================  ===================================================================
``TRT_DOUBLE_DEVICES``      how many GPUs there are (1)
``TRT_DOUBLE_MEMORY_MB``    memory of each (8192)
``TRT_DOUBLE_READ_ONLY``    0: memory that may only be read cannot be registered (1)
``TRT_DOUBLE_SLEEP_MS``     how long every kernel takes besides its sums (0)
``TRT_DOUBLE_FAIL``         ``call:n:cudaError`` fails the n-th call of an API, ``*`` for any;
                            ``call@1:n:cudaError`` on device 1 alone; ``kernel:n:...`` a launch
``TRT_DOUBLE_FAIL_ONCE``    a path: made when a failure strikes, and where it exists none does
``TRT_DOUBLE_REPORT``       a path: what was left alive and what was done wrong, at exit (JSON)
``TRT_DOUBLE_TIMELINE``     a path: one line of JSON for each kernel's begin and end, and for each
                            violation when it happens
==========================  ===================================================================
"""
