"""Running a graph of steps: the nipype plugin, the machine's limits, the process environment."""
