"""Settlement in the simulation: two sides of money and a relay, under the faults of the rest."""
