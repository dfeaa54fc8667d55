"""The public fake model, in process and over HTTP."""
