"""everything that touches Triton: its client, its credentials, its model repository."""
