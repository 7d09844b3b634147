"""Forward passes, in symbols."""
