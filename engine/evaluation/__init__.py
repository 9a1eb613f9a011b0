"""Offline: published protocols, baselines and reports."""
