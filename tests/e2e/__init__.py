"""End to end: the demonstration and its processes, as a stranger starts them."""
