"""every client of Kafka: settings, transport, outputs, readers, membership."""
