"""Comparing generators by the anomalies found in their images."""
