"""Laws of a prompt, in symbols."""
