"""Everything that talks to a vision-language model."""
