"""Evaluation: trained teams against scripted players and each other, with intervals."""
