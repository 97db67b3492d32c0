"""The pure core: what makes a claim of another chain believable, and nothing else."""
