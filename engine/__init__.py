"""Values in, values out: models, baselines, metrics and the gate. Knows nothing of Kafka, Triton or clocks."""
