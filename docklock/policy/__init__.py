"""YAML policies -> canonical model -> seccomp programs, and the decision made again."""
