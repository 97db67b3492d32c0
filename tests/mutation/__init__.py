"""Deletes or inverts each check of the core in turn and shows which tests notice (README.md)."""
