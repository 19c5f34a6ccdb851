"""Evaluation: metrics, suites and reports."""
