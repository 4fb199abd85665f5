"""Files: written whole or not at all, checked against schemas, and where what is in them comes from."""
