"""Suites: cases, arms, runs."""
