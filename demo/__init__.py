"""A gateway and an agent as real processes on this machine, and calls through them."""
