"""The contracts that ship: `recognition` runs on a relay, `registry` on a ledger.

A contract is deterministic and pure (relay.contract): the same packets and calls in the same order
give the same writes everywhere. What both share lies beside them: `payloads` is what they say to
each other, `policy` the versioned rules, `codes` the words of a decision, `civil` the calendar.
"""
