"""The dashboard: what its pages share, and the server that shows them."""
