"""A local web page to look through results: sources of results, plots, and the page itself."""
