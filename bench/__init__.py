"""How fast the tunnel is beside what else one could use, everything measured in one run."""
