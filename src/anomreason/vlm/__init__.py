"""Vision-language models: the protocol, calling them, and what they cost."""
