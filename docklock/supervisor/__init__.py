"""The process that owns one running container, and what front ends say to it."""
