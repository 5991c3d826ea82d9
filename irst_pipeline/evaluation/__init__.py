"""How well the parts do, measured as the field measures it."""
