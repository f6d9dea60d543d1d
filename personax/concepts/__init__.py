"""Trained concepts: save, load, bind, merge, compress and export."""
