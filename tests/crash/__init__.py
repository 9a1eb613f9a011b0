"""The crash suite: roles as processes on a real Kafka are killed at random moments, then every event is counted."""
