"""Build assignments from masters, and grade a folder of submissions."""
