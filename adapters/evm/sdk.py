"""The client library of EVM chains, loaded so that it changes nothing else in the process.

One of its parts raises the interpreter's recursion limit to 100,000 when it is loaded: then deeply
nested input of a stranger would end the process, where it now is an error. The limit is put back.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys

_limit = sys.getrecursionlimit()

from eth_account import Account
from web3 import Web3
from web3.contract import Contract

sys.setrecursionlimit(_limit)

__all__ = ["Account", "Contract", "Web3"]
