"""A real Kafka and a real Triton on this machine, and the processes that run them."""
