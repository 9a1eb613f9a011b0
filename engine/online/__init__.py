"""Learning from a stream: predict, score, learn; what is replayed, guarded against and decided."""
