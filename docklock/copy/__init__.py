"""Files into and out of containers, whatever the container does meanwhile."""
