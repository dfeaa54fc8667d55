"""Makes the documentation site of the Markdown in the repository."""
