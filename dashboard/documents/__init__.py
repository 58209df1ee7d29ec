"""What the pages fetch: JSON documents over the served source, private to them."""
