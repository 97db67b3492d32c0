"""The books of an escrow on an EVM ledger: out of what was done to it, by the contract in Python.

The contract on the chain keeps balances, and one word in which all that was done to it is hashed in
order. Whoever has these steps does them again on `relay.contracts.escrow`, whose records (lines,
locks, ends) are then as on every other ledger; the word, proven under a sealed header, shows that
none was left out, and proven balances that both programs come to the same.

steps        one step: a call, or a packet with its answer; the word after it; which words to prove
fold         a step done again; all of them, in memory
proven       steps and words against a verified header: entry point `lianqiao.books: evm`
"""
