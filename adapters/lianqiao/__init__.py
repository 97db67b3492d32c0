"""Another lianqiao node as a chain: its journal's checkpoints are its headers."""
