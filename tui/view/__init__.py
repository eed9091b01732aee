"""View models: what facts become before anything is drawn. Pure, and without a terminal."""
