"""The command line. `main` is the entry point; one module a group of commands; nobody imports it.

Start-up is part of the design: modules here import nothing but typer and plain values at the top,
and gRPC, SQL and pydantic inside the commands that need them, so that `lianqiao --help` and
`lianqiao verify` load none of these (held by tests/cli/test_startup.py).
"""

from relay.cli.root import main

__all__ = ["main"]
