"""Whole networks in one process, under every fault that we can think of, from one seed.

    options      what a seed draws: the network, and each fault on or off with its strength
    fate         what becomes of one effect: a commit, a call out
    process      one node with its relayers: killed at any effect, opened again on its database
    network      the ways between processes, and the doors at which deliveries are seen
    contracts    two contracts that count how often they were run
    users        who sends, repeats what was not answered, and answers what was deferred
    stranger     an untrusted relayer: old deliveries, changed ones, and its own
    fork         a node whose keys sign two histories
    oracle       what must hold of one journal; pairs: of two
    world        all of it together: a phase of faults, then a phase in which everything drains
    planted      bugs that the simulation must find

The nodes, relayers, channels, stores and verifiers are the product's own, and nothing of them is
replaced. README.md says how to run it and what it has found.
"""
