"""Ledger families. Each has `light` (pure: what to verify) and `chain` (I/O: where to fetch it)."""
