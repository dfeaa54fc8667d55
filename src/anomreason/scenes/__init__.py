"""Images whose every anomaly is known, because we planted it."""
