"""Which versions of several models work together, and files that pin them."""
