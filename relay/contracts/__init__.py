"""The contracts that ship: `recognition`, `settlement` on relays, `registry`, `escrow` on ledgers.

A contract is deterministic and pure (relay.contract): the same packets and calls in the same order
give the same writes everywhere. What they share lies beside them: `payloads` is what they say to
each other, `policy` the versioned rules of recognition, `codes` the words of its decisions,
`accounts` and `quotes` what relays and money ledgers both hold an instruction to, `civil` the
calendar.
"""
