"""`serve`: detections over HTTP, with a page where one drops an image."""
