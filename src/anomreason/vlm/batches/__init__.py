"""Requests put into files for a provider's batch, and the answers read from the files that come back."""
