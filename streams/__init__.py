"""The stream side: Kafka topics in, state, scoring and Kafka topics out; the roles and their command line."""
