"""Image generators: a diffusers pipeline in this process or an images endpoint, by a recipe; no store is needed."""
