"""CometBFT chains: the light client (pure) and the chain (RPC). README.md: what is trusted."""
