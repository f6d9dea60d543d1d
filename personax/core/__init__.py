"""Paths, pictures, files and progress; nothing here knows about models."""
