"""What builds and checks the documentation: the site, its generated pages and diagrams, its snippets."""
