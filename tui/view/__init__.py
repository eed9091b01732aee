"""Pure view models: facts in, cells and words out. No Textual, no rich, no clock."""
