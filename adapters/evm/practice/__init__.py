"""A chain to practise on: a real EVM on this machine, sealed by validators of this process.

For the demonstration and for tests, and for nothing else: whoever runs it holds every key. What is
real of it is the EVM, its state and its proofs (anvil); no consensus takes place.
"""
