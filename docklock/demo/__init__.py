"""Everything of docklock at once on one machine, to try, to show and to measure."""
