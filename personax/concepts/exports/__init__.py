"""The formats that concepts are exported to, one file each; see `concepts.export`."""
