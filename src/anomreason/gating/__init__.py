"""Images let through or rejected by their anomalies; the most plausible of several; rewards for training.

import anomreason
anomreason.gate("made.png", model="tiny", max_cap=1.5, min_severity=20).passed
"""
