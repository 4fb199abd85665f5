"""The command line: one module for each family of commands, with its parser and what it runs."""
