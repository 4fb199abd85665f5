"""Training and fine-tuning: one engine, one recipe for all methods of a table, resumable at any moment."""
