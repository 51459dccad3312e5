"""A run as one page: charts drawn on the server, and untrusted text made safe to embed."""
