"""EVM consortium chains: Besu and GoQuorum (README.md)."""
