"""Other servers on the same models, machine and load, in one run with this one."""
