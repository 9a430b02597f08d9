"""An app of the tutorial project with two tasks."""
