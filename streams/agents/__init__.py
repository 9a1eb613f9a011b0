"""one file an agent: what happens to the records of a topic, and in which order."""
