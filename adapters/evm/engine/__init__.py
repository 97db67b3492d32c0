"""The engine `evm`: one institution's node before an EVM ledger.

The chain is the ledger: what is attested, asked and told is written by its contract `registry`, and
every node before the ledger makes the same tables of its logs. Beside them the node keeps what is
on no ledger: the originals, who read them, and the counter that hands them out by grant.

logs         what the contracts tell, in the order of the chain
mirror       tables of the contract `registry` out of these logs, by the contract itself
node         the node: asked as any other, it posts to the chain and answers when that is mined
start        makes, opens and serves it
"""
