"""Qwen2.5-VL checkpoints in this process."""
