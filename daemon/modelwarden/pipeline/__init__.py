"""A batch's way: staged, published, indexed, recorded."""
