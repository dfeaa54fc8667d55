"""The bundled detector `anomreason-tiny`: its architecture, its labelled pictures, and the stages of its training."""
