"""`python -m relay.cli`, the same as `lianqiao`."""

from relay.cli import main

main()
