"""Builds and checks the documentation: the site, its generated pages and diagrams, its code snippets."""
