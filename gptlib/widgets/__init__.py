"""Widgets that work in a notebook and, without a kernel, in the built page: a .py and a .js each."""
