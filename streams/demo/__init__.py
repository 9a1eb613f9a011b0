"""the demo: a real shop's stream, watched and measured."""
