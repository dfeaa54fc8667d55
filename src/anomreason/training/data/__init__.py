"""Instruction data: what is learnt from."""
