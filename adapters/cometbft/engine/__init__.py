"""The engine `cometbft`: a node's journal replicated by several institutions' validators.

asked        an action, signed by an operator: a transaction of the chain
genesis      the first state, as everyone compares it
execution    one block on the journal, deterministic
application  the state machine: executed in memory, committed in one transaction
snapshots    where a late replica begins
service      ABCI over gRPC
headers      the chain's headers and proofs, as its light client takes them
node         the replica as a node: asks its chain, answers from its database
local_rpc    the CometBFT process beside it
home         the files of that process
"""
