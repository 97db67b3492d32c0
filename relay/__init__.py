"""Lianqiao: a relay verifies what each ledger claims and runs contracts on what it verified."""
