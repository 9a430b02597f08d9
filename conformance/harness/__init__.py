"""The machinery of the conformance runner; run.py is its only front."""
