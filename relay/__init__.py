"""Lianqiao: a relay that verifies what each ledger claims and runs contracts on what it verified."""
