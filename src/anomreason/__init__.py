"""Find and explain semantic anomalies in images."""
