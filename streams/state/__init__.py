"""interactions -> user states: the transport, the fold, the table and the order of their effects."""
