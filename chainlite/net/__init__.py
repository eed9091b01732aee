"""How nodes reach each other: the transport seam, its two implementations, and anti-entropy."""
