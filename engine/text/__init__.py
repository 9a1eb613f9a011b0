"""Item texts as vectors: what lets an item be recommended before its first click."""
