"""user states -> lists: the rungs, the scorer on Triton, and who asks."""
