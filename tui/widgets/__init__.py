"""One widget a file. Attributes down, messages up; a widget never calls a source."""
