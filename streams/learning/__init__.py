"""examples -> weights: what the learner reads, keeps and publishes, and who follows it."""
